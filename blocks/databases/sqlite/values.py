"""Values of SQLite, which knows numbers, text and bytes only: as Python values, and as what it can store."""

import json
import math
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import types as sql

from prefect_batch.blocks.errors import BadOutput

__all__ = ["reader", "storable"]


def _tolerant(convert: Callable[[Any], Any], *kinds: type) -> Callable[[Any], Any]:
    """`convert` for values of these types; anything else, or what cannot be converted, stays as it is stored."""

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
    """What turns this column's stored values into Python values; None when they are that already."""
    if isinstance(column, sql.Numeric) and not isinstance(column, sql.Float):
        # By its shortest text a float comes back as the decimal that was stored.
        return _tolerant(lambda value: Decimal(str(value)), int, float, str)
    return next((read for kind, read in _READERS if isinstance(column, kind)), None)


def storable(value: Any, name: str, column: sql.TypeEngine[Any]) -> Any:
    """The value as SQLite can store it in this column, without losing anything.

    Raises:
        BadOutput: it cannot.
    """
    kind = type(value)
    if value is None or kind in (int, float, str, bytes, bool):
        return value
    if isinstance(value, datetime):
        # pandas.NaT is a datetime, too, and the only one that differs from itself.
        return value.isoformat(" ", "microseconds") if value == value else None  # noqa: PLR0124
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _decimal(value, name, column)
    if isinstance(value, UUID):
        return value.hex if getattr(column, "length", None) == 32 else str(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (dict, list)) and isinstance(column, sql.JSON):
        return json.dumps(value)
    if hasattr(value, "item") and kind.__module__ == "numpy":
        return value.item()  # SQLite would take its bytes for a BLOB.
    if isinstance(value, (int, float, str, bytes)):
        return value
    raise BadOutput(f"column {name}: SQLite cannot store a {kind.__module__}.{kind.__qualname__}")


def _decimal(value: Decimal, name: str, column: sql.TypeEngine[Any]) -> Any:
    if isinstance(column, sql.String):
        return str(value)
    number = float(value)
    if math.isfinite(number) and Decimal(repr(number)) == value:
        return number
    raise BadOutput(f"column {name}: SQLite would round the decimal {value}; declare the column as TEXT")
