"""Values of MariaDB and MySQL: the kinds of their columns, the columns to create, and what the driver accepts."""

from collections.abc import Callable, Sequence
from datetime import time, timedelta
from decimal import Decimal
from math import copysign, isfinite
from typing import Any, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
from sqlalchemy import ColumnClause, ColumnElement, literal_column
from sqlalchemy import types as sql
from sqlalchemy.dialects import mysql

from prefect_batch.blocks.databases import column_types
from prefect_batch.blocks.databases.column_types import sql_type, type_text
from prefect_batch.blocks.kinds.fit import FITS, Fit, document_text, longest, refuse
from prefect_batch.blocks.kinds.kind import kind_of

# The most that DECIMAL has: digits, and those behind the point.
_DIGITS, _PLACES = 65, 30
_COLUMNS: dict[str, sql.TypeEngine[Any]] = {
    "uint64": mysql.BIGINT(unsigned=True),
    "text": mysql.LONGTEXT(),
    "null": mysql.LONGTEXT(),
    "bytes": mysql.LONGBLOB(),
    "moment": mysql.DATETIME(fsp=6),
    "moment with zone": mysql.DATETIME(fsp=6),
    "time": mysql.TIME(fsp=6),
    "duration": mysql.TIME(fsp=6),
    "UUID": mysql.CHAR(36, collation="utf8mb4_bin"),
}
# The default collation takes 'a' and 'A' for the same key.
_KEYS: dict[str, sql.TypeEngine[Any]] = {
    "text": mysql.VARCHAR(255, collation="utf8mb4_bin"),
    "null": mysql.VARCHAR(255, collation="utf8mb4_bin"),
    "bytes": mysql.VARBINARY(255),
}


def made_type(arrow: pa.DataType, in_key: bool) -> sql.TypeEngine[Any]:
    """Implement `Dialect.made_type`."""
    name = kind_of(arrow).name
    if name == "decimal" and (arrow.precision > _DIGITS or arrow.scale > _PLACES):
        return mysql.DECIMAL(_DIGITS, _PLACES)
    return (_KEYS.get(name) if in_key else None) or _COLUMNS.get(name) or sql_type(arrow)


def _column_kind(column: sql.TypeEngine[Any]) -> str:
    if isinstance(column, mysql.BIGINT) and column.unsigned:
        return "uint64"
    if isinstance(column, mysql.TIME):
        return "duration"  # Its values may be negative, or longer than a day: the driver gives timedeltas.
    if isinstance(column, mysql.YEAR):
        return "int64"
    if isinstance(column, mysql.FLOAT):
        return "float32"
    if isinstance(column, mysql.BIT):
        return "bytes"
    if isinstance(column, (sql.Uuid, sql.JSON)):
        return "text"  # As the driver gives them.
    return column_types.column_kind(column)


def arrow_type(column: sql.TypeEngine[Any]) -> pa.DataType:
    """Implement `Dialect.arrow_type`."""
    return column_types.arrow_type(column, _column_kind(column))


def read_column(expression: ColumnElement[Any], column: sql.TypeEngine[Any]) -> ColumnElement[Any]:
    """Implement `Dialect.read_column`. As text a FLOAT has six digits only."""
    if not isinstance(column, mysql.FLOAT):
        return expression
    return (expression + literal_column("0e0")).label(cast("ColumnClause[Any]", expression).name)


def reader(column: sql.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Implement `Dialect.read_value`: the number of a FLOAT is that of its shortest text."""
    if not isinstance(column, mysql.FLOAT):
        return None
    return lambda value: value if value is None else float(str(np.float32(value)))


def column_fit(column: sql.TypeEngine[Any]) -> Fit:
    """Implement `Dialect.column_fit`."""
    kind = _column_kind(column)
    fit = _FITS.get(kind) or FITS[kind]
    if kind == "text":
        fit = _text_fit(column, fit)
    elif isinstance(column, mysql.YEAR):
        fit = fit.taking(dict.fromkeys((bool, int, float, Decimal), lambda value: _year(_INTEGER.one(value))))
    elif isinstance(column, (sql.BINARY, mysql.BIT)):
        length = (column.length or 1) if isinstance(column, sql.BINARY) else ((column.length or 1) + 7) // 8
        fit = fit.taking({bytes: lambda value: value if len(value) >= length else refuse(value)})  # It pads others.
    return fit.named(type_text(column) or fit.name)


def _year(value: int) -> int:
    return value if value == 0 or value >= 100 else refuse(value)


def _text_fit(column: Any, fit: Fit) -> Fit:
    """Return what a column of text takes, which may have a form, or a length beyond which it cuts blanks."""
    plain = FITS["text"]
    if isinstance(column, sql.Uuid):
        return plain.taking({str: lambda value: str(UUID(value)) if str(UUID(value)) == value else refuse(value)})
    if isinstance(column, mysql.SET):
        return plain.taking({str: lambda value: value if value == _set_text(value, column.values) else refuse(value)})
    if isinstance(column, sql.Enum):
        return plain.taking({str: lambda value: value if value in column.enums else refuse(value)})
    if isinstance(column, sql.CHAR) and column.length == 32:
        return fit.taking({UUID: lambda value: value.hex})
    length = getattr(column, "length", None)
    if isinstance(column, sql.CHAR) or not length:
        return fit
    return fit.looking(str, lambda values: longest(values) <= length, _not_cut(length))


def _set_text(value: str, members: Sequence[str]) -> str:
    given = value.split(",")
    return ",".join(member for member in members if member in given)


def _not_cut(length: int) -> Callable[[str], str]:
    return lambda value: refuse(value) if len(value) > length and value.endswith(" ") else value


def _number(value: float) -> float:
    """Refuse what its numbers do not have: NaN, infinite ones, and the sign of zero."""
    return value if isfinite(value) and (value or copysign(1, value) > 0) else refuse(value)


def _all_numbers(values: Sequence[Any]) -> bool:
    return all(value is None or (isfinite(value) and (value or copysign(1, value) > 0)) for value in values)


def _decimal(value: Decimal) -> Decimal:
    return value if value.is_finite() else refuse(value)


def _duration_text(value: timedelta) -> str:
    """Return the text of a TIME. The driver's is wrong for negative ones with microseconds."""
    size = abs(value)
    minutes, seconds = divmod(size // timedelta(seconds=1), 60)
    return f"{'-' if value < size else ''}{minutes // 60}:{minutes % 60:02}:{seconds:02}.{size.microseconds:06}"


def _time(value: time) -> time:
    return value if value.tzinfo is None else refuse(value)


_INTEGER = FITS["int64"].taking({bool: int})
_SINGLE, _DOUBLE = FITS["float32"], FITS["float64"]
_FITS: dict[str, Fit] = {
    "bool": _INTEGER,
    "int64": _INTEGER,
    "uint64": _INTEGER,
    "float32": _SINGLE.taking({float: lambda value: _SINGLE.one(_number(value)), bool: float}),
    "float64": _DOUBLE.taking({bool: float}).looking(float, _all_numbers, _number),
    "decimal": FITS["decimal"].taking(
        {Decimal: _decimal, bool: int, float: lambda value: _decimal(Decimal(repr(value)))}
    ),
    "text": FITS["text"].taking(dict.fromkeys((dict, list), document_text)),
    "duration": FITS["duration"].taking({time: _time, timedelta: _duration_text}),
}
