"""Values of SQLite, which has only numbers, text and bytes: what its columns take, and what is read from them.

A column of numbers makes a number of each text that looks like one, and a column of text makes text of each number.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from math import copysign
from typing import Any
from uuid import UUID

import pyarrow as pa
from sqlalchemy import types as sql

from prefect_batch.blocks.databases import column_types
from prefect_batch.blocks.databases.column_types import column_kind, sql_type, type_text
from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.fit import FITS, Fit, document_text, refuse
from prefect_batch.blocks.kinds.kind import kind_of
from prefect_batch.blocks.kinds.nanoseconds import TextMoment
from prefect_batch.blocks.kinds.plain import misfit

# The lengths of the texts of timestamps.
_SECONDS, _MICROSECONDS = len("2024-01-01 00:00:00"), len("2024-01-01 00:00:00.000001")
_NUMBER = re.compile(r"[ \t\n\v\f\r]*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?[ \t\n\v\f\r]*", re.ASCII | re.IGNORECASE)


def arrow_type(column: sql.TypeEngine[Any]) -> pa.DataType:
    """Implement `Dialect.arrow_type`: documents are the text that is stored."""
    return pa.string() if isinstance(column, sql.JSON) else column_types.arrow_type(column)


def made_type(arrow: pa.DataType, _in_key: bool) -> sql.TypeEngine[Any]:
    """Implement `Dialect.made_type`."""
    kind = kind_of(arrow).name
    if kind.startswith(("int", "uint")) and kind != "interval":
        return sql.Integer()  # INTEGER, and not BIGINT, is SQLite's own row number.
    # NUMERIC would round decimals.
    return sql.Text() if kind in ("decimal", "UUID", "duration") else sql_type(arrow)


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


def exactly(parse: Callable[[str], Any], text: str) -> Any:
    """Return the value of a text.

    Raises:
        ValueError: the value would be written with another text.
    """
    value = parse(text)
    return value if value.isoformat() == text else refuse(value)


def _moment(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    separators, size = text[4:20:3], len(text)
    # As `moment_text` writes it.
    if separators == "-- ::" and size == _SECONDS:
        return value
    if separators == "-- ::." and size == _MICROSECONDS and value.microsecond and value.tzinfo is None:
        return value
    return TextMoment.of(text)


# How stored values are read, by the kind of their column.
_READERS: dict[str, Callable[[Any], Any]] = {
    "bool": _tolerant(lambda value: bool(value) if value in (0, 1) else value, int),
    "moment": _tolerant(_moment, str),
    "date": _tolerant(partial(exactly, date.fromisoformat), str),
    "time": _tolerant(partial(exactly, time.fromisoformat), str),
    # By its shortest text a float comes back as the decimal that was stored.
    "decimal": _tolerant(lambda value: Decimal(str(value)), int, float, str),
}


def reader(column: sql.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return the function that turns this column's stored values into Python values, or None if they already are."""
    return _READERS.get(column_kind(column))


def moment_text(value: datetime) -> str:
    """Return the text that is stored for a timestamp: that of SQLite's own functions, with microseconds if it has some.

    One that was read from another text is stored as that text.
    """
    return (isinstance(value, TextMoment) and value.text) or value.isoformat(" ")


def _no_number(value: str) -> str:
    return refuse(value) if _NUMBER.fullmatch(value) else value


def _no_minus_zero(values: Sequence[Any]) -> bool:
    return 0.0 not in values or not any(copysign(1, value) < 0 for value in values if value == 0)


def _signed(value: float) -> float:
    return value if value or copysign(1, value) > 0 else refuse(value)


def _number(value: Decimal) -> int | float:
    """Return the decimal as a number of SQLite."""
    whole = value.is_finite() and value.adjusted() < 19 and value == int(value)
    return int(value) if whole and -(2**63) <= value < 2**63 else FITS["float64"].one(value)


def _duration_text(value: timedelta) -> str:
    size = abs(value)
    return f"{'-' if value < size else ''}PT{size // timedelta(seconds=1)}.{size.microseconds:06}S"


# Values that SQLite does not have are stored as text. None of these texts looks like a number.
_TEXTS: dict[type, Callable[[Any], Any]] = {
    datetime: moment_text,
    TextMoment: moment_text,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
    bytearray: bytes,
    memoryview: bytes,
}
_STORED = frozenset({type(None), int, bool, float, str, bytes})
_ANY = Fit("of any type", _STORED, {**_TEXTS, Decimal: _number})
_NUMBERS = _ANY.taking({str: _no_number}).looking(float, _no_minus_zero, _signed)
_FRACTIONS = _NUMBERS.taking({int: FITS["float64"].one, Decimal: FITS["float64"].one})
_TEXT = Fit("text", frozenset({type(None), str, bytes}), {**_TEXTS, Decimal: str, timedelta: _duration_text})


def too_large(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> DoesNotFit | None:
    """Return the error for the first integer of more than 64 bits, or None if there is none."""
    for name, values in zip(names, columns, strict=True):
        for place, value in enumerate(values):
            if type(value) is int and not -(2**63) <= value < 2**63:
                error = misfit(f"column {name}", "an integer of 64 bits", value)
                error.refused_row = place
                return error
    return None


def column_fit(column: sql.TypeEngine[Any]) -> Fit:
    """Implement `Dialect.column_fit`."""
    if isinstance(column, sql.String):
        fit = _TEXT.taking({UUID: lambda value: value.hex}) if column.length == 32 else _TEXT
    elif isinstance(column, (sql.NullType, sql._Binary)):  # noqa: SLF001 - as in `column_kind`
        fit = _ANY
    else:
        fit = _FRACTIONS if isinstance(column, sql.Float) else _NUMBERS
    if isinstance(column, sql.JSON):
        fit = fit.taking(dict.fromkeys((dict, list), document_text))
    return fit.named(type_text(column) or fit.name)
