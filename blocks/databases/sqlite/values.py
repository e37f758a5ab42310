"""Converts stored values of SQLite, which has only numbers, text and bytes, to Python values and back."""

import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
from sqlalchemy import types as sql

from prefect_batch.blocks.databases.column_types import sql_type
from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.json_form import json_text
from prefect_batch.blocks.kinds.kind import kind_of
from prefect_batch.blocks.kinds.plain import misfit


def _tolerant(convert: Callable[[Any], Any], *kinds: type) -> Callable[[Any], Any]:
    """Return a function that converts values of these types if it can, and leaves all others as they are stored."""

    def read(value: Any) -> Any:
        if not isinstance(value, kinds):
            return value
        try:
            return convert(value)
        except (ValueError, ArithmeticError):
            return value

    return read


def _boolean(value: int) -> Any:
    return bool(value) if value in (0, 1) else value


_READERS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (sql.Boolean, _tolerant(_boolean, int)),
    (sql.DateTime, _tolerant(datetime.fromisoformat, str)),
    (sql.TIMESTAMP, _tolerant(datetime.fromisoformat, str)),
    (sql.Date, _tolerant(date.fromisoformat, str)),
    (sql.Time, _tolerant(time.fromisoformat, str)),
)


def reader(column: sql.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return the function that turns this column's stored values into Python values, or None if they already are."""
    if isinstance(column, sql.Numeric) and not isinstance(column, sql.Float):
        # By its shortest text a float comes back as the decimal that was stored.
        return _tolerant(lambda value: Decimal(str(value)), int, float, str)
    return next((read for kind, read in _READERS if isinstance(column, kind)), None)


def made_type(arrow: pa.DataType, _in_key: bool) -> sql.TypeEngine[Any]:
    """Implement `Dialect.made_type`."""
    kind = kind_of(arrow).name
    if kind.startswith(("int", "uint")) and kind != "interval":
        return sql.Integer()  # INTEGER, and not BIGINT, is SQLite's own row number.
    # NUMERIC would round decimals.
    return sql.Text() if kind in ("decimal", "UUID", "duration") else sql_type(arrow)


def storable(value: Any, name: str, column: sql.TypeEngine[Any]) -> Any:
    """Return the value as SQLite can store it in this column, without loss.

    Raises:
        DoesNotFit: SQLite cannot store it.
    """
    if value is None or type(value) in (int, float, str, bytes, bool):
        return value
    if isinstance(value, datetime):
        return value.isoformat(" ", "microseconds")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _decimal(value, name, column)
    if isinstance(value, UUID):
        return value.hex if getattr(column, "length", None) == 32 else str(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (dict, list)) and isinstance(column, sql.JSON):
        return json_text(value, f"column {name}")
    if isinstance(value, timedelta) and isinstance(column, sql.String):
        size = abs(value)
        return f"{'-' if value < size else ''}PT{size // timedelta(seconds=1)}.{size.microseconds:06}S"
    raise misfit(f"column {name}", f"{column!r} of SQLite", value)


def _decimal(value: Decimal, name: str, column: sql.TypeEngine[Any]) -> Any:
    if isinstance(column, sql.String):
        return str(value)
    number = float(value)
    if math.isfinite(number) and Decimal(repr(number)) == value:
        return number
    raise DoesNotFit(f"column {name}: SQLite would round the decimal {value}; declare the column as TEXT")


def check_whole(values: Sequence[Any], types: set[type], name: str, column: sql.TypeEngine[Any]) -> None:
    """Raise DoesNotFit unless a column of floats takes each integer exactly."""
    if int in types and isinstance(column, sql.Float):
        largest = max((value for value in values if type(value) is int), key=abs)
        if float(largest) != largest:
            raise misfit(f"column {name}", "a number with 53 bits", largest)
