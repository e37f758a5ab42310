"""COPY to PostgreSQL with psycopg 3: from rows, or from an Arrow table as CSV."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter
from types import NoneType
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from sqlalchemy import Connection
from sqlalchemy import types as sql

from prefect_batch.blocks.databases.postgresql.values import column_kind, text_limit
from prefect_batch.blocks.databases.rows import Same
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.kinds.csv_form import as_csv
from prefect_batch.blocks.kinds.fit import FITS
from prefect_batch.blocks.kinds.kind import kind_of

# For each kind of an Arrow column, the kinds of columns that take each of its values as pyarrow writes it.
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_TAKEN: dict[str, tuple[str, ...]] = {
    "null": tuple(FITS),
    **dict.fromkeys(_INTEGERS, (*_INTEGERS, "decimal", "float64")),
    "float64": ("float64", "decimal"),
    "decimal": ("decimal",),
    **{kind: (kind,) for kind in ("bool", "text", "date", "UUID", "JSON", "moment", "moment with zone")},
}
# Beyond it some whole numbers are no floats.
_WHOLE_FLOATS = 2**53
# How fitted values are sent as a column of CSV.
_ARROW: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    date: pa.date32(),
}
# Written as text, which is what the database receives anyway.
_TEXTS: dict[type, Callable[[Any], str]] = {Decimal: str, datetime: str, UUID: attrgetter("hex")}


class Copied(NamedTuple):
    """How many rows a COPY sent, and how many of them the server has taken."""

    sent: int
    done: int


def copy_rows(connection: Connection, rows: list[tuple[Any, ...]], into: str) -> Copied:
    """COPY the rows into this table, which is given as SQL (``table (columns)``)."""
    with cursor_of(connection) as cursor:
        with cursor.copy(f"COPY {into} FROM STDIN") as copy:
            write = copy.write_row
            for row in rows:
                write(row)
        return Copied(len(rows), _done(cursor))


def copy_table(connection: Connection, table: pa.Table, into: str) -> Copied:
    """COPY the table's rows into this table, which is given as SQL."""
    text = pa.BufferOutputStream()
    csv.write_csv(as_csv(table), text, csv.WriteOptions(include_header=False))
    with cursor_of(connection) as cursor:
        with cursor.copy(f"COPY {into} FROM STDIN (FORMAT csv)") as copy:
            copy.write(memoryview(text.getvalue()))
        return Copied(table.num_rows, _done(cursor))


def _done(cursor: Any) -> int:
    return int(cursor._results[0].command_tuples)  # noqa: SLF001 - its rowcount is that of queries only


def goes_as_csv(table: pa.Table, target: Target) -> bool:
    """Return whether every column takes the values of the table's as they are, and `copy_table` writes them so."""
    return all(_as_csv(table.column(place), target.types[field.name]) for place, field in enumerate(table.schema))


def _as_csv(values: pa.ChunkedArray, column: sql.TypeEngine[Any]) -> bool:
    try:
        kind, into = kind_of(values.type).name, column_kind(column)
    except KeyError:
        return False
    if into not in _TAKEN.get(kind, ()) or (kind.startswith("moment") and values.type.unit == "ns"):
        return False
    if into == "float64" and pa.types.is_integer(values.type):
        bounds = pc.min_max(values).as_py()
        return bounds["min"] is None or max(bounds["max"], -bounds["min"]) <= _WHOLE_FLOATS
    if kind == "text":
        longest = pc.max(pc.utf8_length(values.cast(pa.large_string()))).as_py() or 0
        limit = text_limit(column)
        return limit is None or longest <= limit
    return True


def cursor_of(connection: Connection) -> Any:
    """Return a cursor of the driver, within the connection's transaction."""
    connection.begin() if not connection.in_transaction() else None
    return connection.connection.driver_connection.cursor()  # type: ignore[union-attr]


def quote(name: str) -> str:
    """Return the name as a quoted identifier."""
    # % would begin a parameter, but psycopg looks for parameters only if it is passed some.
    return '"' + name.replace('"', '""') + '"'


def plain_table(same: Same) -> pa.Table | None:
    """Return the fitted rows as an Arrow table whose columns each hold values of one simple type.

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
