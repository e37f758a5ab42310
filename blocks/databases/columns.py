"""What a table's or a query's columns are: names, types, and which of them may be NULL."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, inspect, text
from sqlalchemy import types as sql
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.exc import NoSuchTableError

from prefect_batch.blocks.suggestions import near

__all__ = ["SourceColumn", "escape_colons", "missing_table", "query_columns", "table_columns"]


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


def query_columns(engine: Engine, statement: str) -> list[SourceColumn]:
    """The columns of a SELECT, in order, with their types where the database tells them."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            return _sqlite_columns(connection, statement)
        limited = text(f"SELECT * FROM (\n{escape_colons(statement)}\n) batch_query WHERE 1 = 0")
        cursor = connection.execute(limited).cursor
        description = list(cursor.description or ()) if cursor is not None else []
        return [SourceColumn(str(field[0]), _described_type(engine, field)) for field in description]


def _sqlite_columns(connection: Any, statement: str) -> list[SourceColumn]:
    """A temporary view knows the declared types of the columns that a SELECT passes through."""
    driver = connection.exec_driver_sql
    driver(f"CREATE TEMP VIEW prefect_batch_query AS\n{statement}\n")
    try:
        rows = driver("PRAGMA temp.table_info(prefect_batch_query)").fetchall()
    finally:
        driver("DROP VIEW temp.prefect_batch_query")
    resolve = connection.dialect._resolve_type_affinity  # noqa: SLF001 - as its own reflection does
    return [SourceColumn(row[1], resolve(row[2]) if row[2] else sql.NullType()) for row in rows]


def _described_type(engine: Engine, field: Any) -> sql.TypeEngine[Any]:
    if engine.dialect.driver == "psycopg":
        return _postgresql_type(engine, field)
    if engine.dialect.driver == "pymysql":
        return _mysql_type(field)
    return sql.NullType()


def _postgresql_type(engine: Engine, field: Any) -> sql.TypeEngine[Any]:
    import psycopg

    info = psycopg.adapters.types.get(field[1])
    kind = engine.dialect.ischema_names.get(info.regtype if info else "", sql.NullType)  # type: ignore[attr-defined]
    if kind is sql.NUMERIC:
        return sql.Numeric(field[4], field[5])
    if issubclass(kind, (sql.DateTime, sql.TIMESTAMP)):
        return sql.DateTime(timezone="with time zone" in info.regtype)
    found: sql.TypeEngine[Any] = kind()
    return found


def _mysql_type(field: Any) -> sql.TypeEngine[Any]:
    from pymysql.constants import FIELD_TYPE as KIND

    kinds: dict[int, type[sql.TypeEngine[Any]]] = {
        **dict.fromkeys((KIND.TINY, KIND.SHORT, KIND.LONG, KIND.LONGLONG, KIND.INT24, KIND.YEAR), sql.BigInteger),
        **dict.fromkeys((KIND.FLOAT, KIND.DOUBLE), sql.Double),
        **dict.fromkeys((KIND.TIMESTAMP, KIND.DATETIME), sql.DateTime),
        KIND.DATE: sql.Date,
    }
    # A decimal's precision and scale are not told exactly, nor whether a BLOB is text: such columns stay text.
    return kinds.get(field[1], sql.NullType)()
