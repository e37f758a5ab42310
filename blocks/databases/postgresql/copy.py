"""COPY to PostgreSQL with psycopg 3: from rows, or from an Arrow table as CSV."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from operator import attrgetter
from types import NoneType
from typing import Any
from uuid import UUID

import pyarrow as pa
from pyarrow import csv
from sqlalchemy import Connection
from sqlalchemy import types as sql

from prefect_batch.blocks.databases.rows import Same
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.kinds.csv_form import as_csv
from prefect_batch.blocks.kinds.json_form import json_text

_ARROW: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    date: pa.date32(),
}
# Written as text, which is what the database receives anyway.
_TEXTS: dict[type, Callable[[Any], str]] = {Decimal: str, datetime: str, UUID: attrgetter("hex")}


def copy_rows(connection: Connection, rows: list[tuple[Any, ...]], into: str) -> None:
    """COPY the rows into this table, which is given as SQL (``table (columns)``)."""
    with cursor_of(connection) as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
        write = copy.write_row
        for row in rows:
            write(row)


def copy_table(connection: Connection, table: pa.Table, into: str) -> None:
    """COPY the table's rows into this table, which is given as SQL."""
    text = pa.BufferOutputStream()
    csv.write_csv(as_csv(table), text, csv.WriteOptions(include_header=False))
    with cursor_of(connection) as cursor, cursor.copy(f"COPY {into} FROM STDIN (FORMAT csv)") as copy:
        copy.write(memoryview(text.getvalue()))


def goes_as_csv(table: pa.Table, target: Target) -> bool:
    """Return whether `copy_table` writes the same as `copy_rows` would."""
    return all(_as_csv(field.type, target.types[field.name]) for field in table.schema)


def _as_csv(arrow: pa.DataType, column: sql.TypeEngine[Any]) -> bool:
    """Return whether pyarrow writes values of this type as psycopg would, for such a column."""
    number = isinstance(column, (sql.Numeric, sql.Integer))
    if pa.types.is_timestamp(arrow):
        zoned = bool(getattr(column, "timezone", False))
        return isinstance(column, sql.DateTime) and zoned == (arrow.tz is not None) and arrow.unit != "ns"
    return (
        pa.types.is_string(arrow)
        or pa.types.is_large_string(arrow)
        or pa.types.is_null(arrow)
        or (number and pa.types.is_integer(arrow))
        or (isinstance(column, sql.Numeric) and (arrow == pa.float64() or pa.types.is_decimal(arrow)))
        or (isinstance(column, sql.Boolean) and pa.types.is_boolean(arrow))
        or (isinstance(column, sql.Date) and pa.types.is_date32(arrow))
        or (isinstance(column, sql.Uuid) and arrow == pa.uuid())
    )


def wrapped(names: tuple[str, ...], rows: list[tuple[Any, ...]], target: Target) -> list[tuple[Any, ...]]:
    """Return the rows with the values of JSON columns marked as JSON.

    psycopg does not convert a dict or a list to JSON by itself.
    """
    from psycopg.types.json import Json

    dumps = {
        place: partial(json_text, column=f"column {name}")
        for place, name in enumerate(names)
        if isinstance(target.types[name], sql.JSON)
    }
    if not dumps:
        return rows
    return [
        tuple(Json(v, dumps[i]) if i in dumps and isinstance(v, (dict, list)) else v for i, v in enumerate(row))
        for row in rows
    ]


def cursor_of(connection: Connection) -> Any:
    """Return a cursor of the driver, within the connection's transaction."""
    connection.begin() if not connection.in_transaction() else None
    return connection.connection.driver_connection.cursor()  # type: ignore[union-attr]


def quote(name: str) -> str:
    """Return the name as a quoted identifier."""
    # % would begin a parameter, but psycopg looks for parameters only if it is passed some.
    return '"' + name.replace('"', '""') + '"'


def plain_table(same: Same) -> pa.Table | None:
    """Return the rows as an Arrow table whose columns each hold values of one simple type.

    Decimals, datetimes and UUIDs become text.

    Returns:
        The table, or None if a column mixes types or a value would be changed.
    """
    try:
        columns = [_plain_column(column, types) for column, types in zip(same.columns, same.types, strict=True)]
    except (pa.ArrowException, ValueError, OverflowError):
        return None
    return None if any(column is None for column in columns) else pa.table(columns, names=list(same.names))


def _plain_column(values: Sequence[Any], types: set[type]) -> pa.Array | None:
    kinds = types - {NoneType}
    if len(kinds) != 1:
        return None if kinds else pa.nulls(len(values))
    kind = kinds.pop()
    if text := _TEXTS.get(kind):
        return pa.array([value if value is None else text(value) for value in values], pa.string())
    return pa.array(values, _ARROW[kind]) if kind in _ARROW else None
