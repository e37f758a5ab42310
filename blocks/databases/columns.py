"""What a table's or a query's columns are: names, types, and which of them may be NULL."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy import types as sql
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.exc import NoSuchTableError

from prefect_batch.blocks.suggestions import near

__all__ = ["SourceColumn", "describe", "escape_colons", "missing_table", "table_columns"]


@dataclass(frozen=True)
class SourceColumn:
    """A column: its name, its SQL type (NullType when unknown), and whether it may be NULL."""

    name: str
    type: sql.TypeEngine[Any]
    nullable: bool = True


def escape_colons(statement: str) -> str:
    """The statement for `sqlalchemy.text`, which would take ``:name`` in it for a parameter."""
    return statement.replace(":", "\\:")


def table_columns(engine: Engine, name: str, schema: str | None) -> list[SourceColumn] | None:
    """The columns of a table or view, in order; None if there is no such table."""
    try:
        reflected = inspect(engine).get_columns(name, schema)
    except NoSuchTableError:
        return None
    return [_column(column) for column in reflected]


def _column(column: ReflectedColumn) -> SourceColumn:
    return SourceColumn(column["name"], column["type"], column.get("nullable", True))


def missing_table(engine: Engine, name: str, schema: str | None) -> str:
    """The sentence on a table that does not exist, with the names that may have been meant."""
    inspector = inspect(engine)
    names = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
    where = f"schema {schema}" if schema else f"the {engine.dialect.name} database"
    return f"there is no table {name} in {where}: {near(name, names)}"


def describe(connection: Connection, statement: str) -> list[Any]:
    """What the driver says of each column of a SELECT, in order: a tuple that begins with its name. No row is read."""
    limited = text(f"SELECT * FROM (\n{escape_colons(statement)}\n) batch_query WHERE 1 = 0")
    cursor = connection.execute(limited).cursor
    return list(cursor.description or ()) if cursor is not None else []
