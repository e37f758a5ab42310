"""Reads rows of SQLite as Arrow tables if every value fits its column.

Values are converted by columns, which is faster than one by one.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Engine, Select

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.databases.fetch import fetch_batches, row_bytes
from prefect_batch.blocks.databases.sqlite.stream import Stream
from prefect_batch.blocks.databases.sqlite.values import exactly
from prefect_batch.blocks.kinds.kind import kind_of

# With more digits, two decimals may be the same float.
_FLOAT_DIGITS = 15


def stream(connection: Connection) -> Any:
    """Return the driver's own cursor, in a transaction."""
    connection.begin()
    return Stream(connection.connection.driver_connection)


def fetch_tables(engine: Engine, statement: Select[Any], batch_rows: int, schema: pa.Schema) -> Iterator[Batch]:
    """Yield the statement's rows in batches, as a table if every value fits, otherwise as they are stored."""
    for rows in fetch_batches(engine, statement, batch_rows, stream):
        table = sqlite_table(rows, schema)
        yield Batch(tuple(schema.names), rows if table is None else None, row_bytes(rows), table=table)


def sqlite_table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table | None:
    """Return the stored rows as a table of this schema, or None if a value does not fit."""
    try:
        columns = [_column(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    return pa.table(columns, schema=schema)


def _column(values: Sequence[Any], arrow: pa.DataType) -> pa.Array:
    read = _READERS.get(kind_of(arrow).name)
    return pa.array(values, arrow) if read is None else read(values, arrow)


def _from_text(values: Sequence[Any], arrow: pa.DataType) -> pa.Array:
    return pa.array(values, pa.string()).cast(arrow)


def _times(values: Sequence[Any], arrow: pa.DataType) -> pa.Array:
    return pa.array([value if value is None else exactly(time.fromisoformat, value) for value in values], arrow)


def _booleans(values: Sequence[Any], arrow: pa.DataType) -> pa.Array:
    numbers = pa.array(values, pa.int64())
    if not set(pc.unique(numbers).to_pylist()) <= {0, 1, None}:
        raise ValueError("a boolean is neither 0 nor 1")
    return numbers.cast(arrow)


def _decimals(values: Sequence[Any], arrow: pa.DataType) -> pa.Array:
    """Return the decimals of the floats' shortest text.

    Raises:
        ValueError: a number has more digits than its column.
    """
    floats = pa.array(values, pa.float64())
    whole = pc.round(pc.multiply(floats, float(10**arrow.scale)))
    if (
        arrow.precision > _FLOAT_DIGITS
        or pc.any(pc.not_equal(pc.divide(whole, float(10**arrow.scale)), floats)).as_py()
    ):
        raise ValueError("a number has more digits than its column")
    # The same digits with the decimal point moved.
    digits = whole.cast(pa.int64()).cast(pa.decimal128(19, 0)).cast(pa.decimal128(38, 0))
    return pa.Array.from_buffers(pa.decimal128(38, arrow.scale), len(digits), digits.buffers()).cast(arrow)


# How stored values are read, by the kind of their column. The values of other kinds are stored as they are.
_READERS: dict[str, Callable[[Sequence[Any], pa.DataType], pa.Array]] = {
    **dict.fromkeys(("date", "moment", "moment with zone"), _from_text),
    "time": _times,
    "bool": _booleans,
    "decimal": _decimals,
}
