"""Maps SQL columns to kinds of values and back in standard SQL. The databases' folders have what differs."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from sqlalchemy import types as sql
from sqlalchemy.dialects import mysql

from prefect_batch.blocks.kinds.kind import kind_of

# Of decimals that values alone tell of: as many places as any later one may have.
ANY_DECIMAL = pa.decimal256(76, 38)
_MOST_DIGITS = 65

_ARROW: tuple[tuple[type, pa.DataType], ...] = (
    (sql.Boolean, pa.bool_()),
    (sql.Integer, pa.int64()),
    (sql.Float, pa.float64()),
    (sql.Date, pa.date32()),
    (sql.Time, pa.time64("us")),
    (sql.Interval, pa.duration("us")),
    (sql.Uuid, pa.uuid()),
    (sql._Binary, pa.binary()),  # noqa: SLF001 - the only common base of BLOB, BYTEA and VARBINARY
)


def arrow_type(column: sql.TypeEngine[Any]) -> pa.DataType:
    """Return the Arrow type of a column's values, or string if no Arrow type holds them exactly."""
    if isinstance(column, (sql.DateTime, sql.TIMESTAMP)):
        return pa.timestamp("us", tz="UTC" if getattr(column, "timezone", False) else None)
    if isinstance(column, sql.Numeric) and not isinstance(column, sql.Float):
        return _decimal(column)
    if isinstance(column, mysql.BIGINT) and column.unsigned:
        return pa.uint64()
    if isinstance(column, mysql.TIME):
        return pa.duration("us")  # Its values may be negative, or longer than a day: the driver gives timedeltas.
    for kind, arrow in _ARROW:
        if isinstance(column, kind):
            return arrow
    return pa.string()


def _decimal(column: sql.Numeric[Any]) -> pa.DataType:
    precision, scale = column.precision, column.scale or 0
    if precision is None or precision > 76 or not 0 <= scale <= precision:
        return pa.string()  # No fixed Arrow type holds every value of unbounded precision.
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _numeric(arrow: pa.DataType) -> sql.TypeEngine[Any]:
    if arrow.precision > _MOST_DIGITS:
        return sql.Numeric()
    return sql.Numeric(arrow.precision - min(0, arrow.scale), max(0, arrow.scale))


# For each kind the column that takes each of its values.
_COLUMNS: dict[str, Callable[[pa.DataType], sql.TypeEngine[Any]]] = {
    "null": lambda _: sql.Text(),
    "bool": lambda _: sql.Boolean(),
    **dict.fromkeys(("int8", "int16", "uint8"), lambda _: sql.SmallInteger()),
    **dict.fromkeys(("int32", "uint16"), lambda _: sql.Integer()),
    **dict.fromkeys(("int64", "uint32"), lambda _: sql.BigInteger()),
    "uint64": lambda _: sql.Numeric(20, 0),
    **dict.fromkeys(("float16", "float32", "float64"), lambda _: sql.Double()),
    "decimal": _numeric,
    "text": lambda _: sql.Text(),
    "bytes": lambda _: sql.LargeBinary(),
    "moment": lambda _: sql.DateTime(),
    "moment with zone": lambda _: sql.DateTime(timezone=True),
    "date": lambda _: sql.Date(),
    "time": lambda _: sql.Time(),
    "duration": lambda _: sql.Interval(),
    "UUID": lambda _: sql.Uuid(),
    **dict.fromkeys(("list", "struct", "map"), lambda _: sql.JSON()),
}


def sql_type(arrow: pa.DataType) -> sql.TypeEngine[Any]:
    """Return the SQL type of a column that takes values of this Arrow type.

    Raises:
        KeyError: there is none, as for intervals of months.
    """
    return _COLUMNS[kind_of(arrow).name](arrow)
