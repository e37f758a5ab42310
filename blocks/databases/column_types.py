"""SQL types as Arrow types, for dead letters, and back, for sinks that make their table."""

from typing import Any

import pyarrow as pa
from sqlalchemy import types as sql
from sqlalchemy.dialects import mysql

__all__ = ["arrow_type", "sql_type"]

_SIMPLE: tuple[tuple[type, pa.DataType], ...] = (
    (sql.Boolean, pa.bool_()),
    (sql.Integer, pa.int64()),
    (sql.Float, pa.float64()),
    (sql.Date, pa.date32()),
    (sql.Time, pa.time64("us")),
    (sql.Interval, pa.duration("us")),
    (sql._Binary, pa.binary()),  # noqa: SLF001 - the only common base of BLOB, BYTEA and VARBINARY
)


def arrow_type(column: sql.TypeEngine[Any]) -> pa.DataType:
    """The Arrow type of a column's values; string for types that Arrow has no exact form of."""
    if isinstance(column, (sql.DateTime, sql.TIMESTAMP)):
        return pa.timestamp("us", tz="UTC" if getattr(column, "timezone", False) else None)
    if isinstance(column, sql.Numeric) and not isinstance(column, sql.Float):
        return _decimal(column)
    if isinstance(column, mysql.BIGINT) and column.unsigned:
        return pa.uint64()
    if isinstance(column, mysql.TIME):
        return pa.duration("us")  # Its values may be negative, or longer than a day: the driver gives timedeltas.
    for kind, arrow in _SIMPLE:
        if isinstance(column, kind):
            return arrow
    return pa.string()


def _decimal(column: sql.Numeric[Any]) -> pa.DataType:
    precision, scale = column.precision, column.scale or 0
    if precision is None or precision > 76 or not 0 <= scale <= precision:
        return pa.string()  # Of unbounded precision: no fixed Arrow type holds every value.
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def sql_type(arrow: pa.DataType) -> sql.TypeEngine[Any]:
    """The SQL type of a column that takes values of this Arrow type."""
    if pa.types.is_timestamp(arrow):
        return sql.DateTime(timezone=arrow.tz is not None)
    if pa.types.is_decimal(arrow):
        return sql.Numeric(arrow.precision, arrow.scale)
    simple: tuple[tuple[pa.DataType, sql.TypeEngine[Any]], ...] = (
        (pa.bool_(), sql.Boolean()),
        (pa.int64(), sql.BigInteger()),
        (pa.uint64(), sql.Numeric(20, 0)),
        (pa.float64(), sql.Double()),
        (pa.date32(), sql.Date()),
        (pa.time64("us"), sql.Time()),
        (pa.duration("us"), sql.Interval()),
        (pa.binary(), sql.LargeBinary()),
    )
    return next((kind for known, kind in simple if known == arrow), sql.Text())
