"""The columns of a table or a query: their names, their types, and which of them may be NULL."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy import types as sql
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.exc import NoSuchTableError

from prefect_batch.blocks.suggestions import near


@dataclass(frozen=True)
class SourceColumn:
    """A column: its name, its SQL type (NullType if unknown), and whether it may be NULL."""

    name: str
    type: sql.TypeEngine[Any]
    nullable: bool = True


def escape_colons(statement: str) -> str:
    """Return the statement for `sqlalchemy.text`, which would otherwise take ``:name`` in it for a parameter."""
    return statement.replace(":", "\\:")


def table_columns(engine: Engine, name: str, schema: str | None) -> list[SourceColumn] | None:
    """Return the columns of a table or view in order, or None if it does not exist."""
    try:
        reflected = inspect(engine).get_columns(name, schema)
    except NoSuchTableError:
        return None
    return [_column(column) for column in reflected]


def _column(column: ReflectedColumn) -> SourceColumn:
    return SourceColumn(column["name"], column["type"], column.get("nullable", True))


def missing_table(engine: Engine, name: str, schema: str | None) -> str:
    """Return the sentence about a table that does not exist, which suggests names that may have been meant."""
    inspector = inspect(engine)
    names = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
    where = f"schema {schema}" if schema else f"the {engine.dialect.name} database"
    of_schema, dot, rest = name.partition(".")
    if dot and not schema and inspector.has_table(rest, of_schema):
        return f"there is no table {name} in {where}: did you mean Table(…, {rest!r}, schema={of_schema!r})?"
    return f"there is no table {name} in {where}: {near(name, names)}"


def describe(connection: Connection, statement: str) -> list[Any]:
    """Return the driver's description of each column of a SELECT, in order, without reading a row.

    Each description is a tuple that begins with the column's name.
    """
    return list(described(connection, statement).description or ())


def described(connection: Connection, statement: str) -> Any:
    """Return the driver's cursor of a SELECT that reads no row."""
    limited = text(f"SELECT * FROM (\n{escape_colons(statement)}\n) batch_query WHERE 1 = 0")
    return connection.execute(limited).cursor
