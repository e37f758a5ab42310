"""What a column of each kind takes: values of its own types, and others only where nothing of them is changed."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

import numpy as np

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.nanoseconds import TextMoment
from prefect_batch.blocks.kinds.plain import PLAIN, is_json, misfit

ERRORS = (ValueError, TypeError, ArithmeticError, struct.error)
# A number of more digits than any column has.
_MOST_DIGITS = 1_000


@dataclass(frozen=True)
class Fit:
    """What a column takes.

    Attributes:
        name: What messages call the column's type.
        kind: The kind of the column's values, where a database must know it.
        own: The types of the values that are passed on as they are.
        takes: For other types, what returns a value as the column has it. It raises one of `ERRORS` if the column would
            have another value.
        other: The same for values of all types that are not named.
        all_fit: Returns whether all of these values, which are of the types `own`, fit. If not, each of them is looked
            at by `takes`. None if they always fit.
    """

    name: str
    own: frozenset[type]
    takes: Mapping[type, Callable[[Any], Any]] = field(default_factory=dict)
    other: Callable[[Any], Any] | None = None
    all_fit: Callable[[Sequence[Any]], bool] | None = None
    kind: str = ""

    def named(self, name: str) -> "Fit":
        """Return the same under another name."""
        return replace(self, name=name)

    def taking(self, takes: Mapping[type, Callable[[Any], Any]]) -> "Fit":
        """Return the same with other values that it takes."""
        return replace(self, takes={**self.takes, **takes}, own=self.own - set(takes))

    def looking(self, of: type, all_fit: Callable[[Sequence[Any]], bool], one: Callable[[Any], Any]) -> "Fit":
        """Return the same, where values of this type are looked at: all of them by `all_fit`, or each by `one`."""
        return replace(self, takes={**self.takes, of: one}, all_fit=all_fit)

    def one(self, value: Any) -> Any:
        """Return the value as the column has it.

        Raises:
            ERRORS: the column cannot have it.
        """
        if value is None:
            return None
        if convert := self.takes.get(type(value)):
            return convert(value)
        if type(value) in self.own:
            return value
        if self.other is None:
            raise ValueError
        return self.other(value)


def fitted(values: Sequence[Any], types: set[type], fit: Fit, column: str) -> Sequence[Any]:
    """Return the values as the column takes them.

    Raises:
        DoesNotFit: the column cannot have a value. Its `refused_row` is the place of the value.
    """
    if types <= fit.own and (fit.all_fit is None or fit.all_fit(values)):
        return values
    found: list[Any] = []
    try:
        for value in values:
            found.append(value if value is None else fit.one(value))  # noqa: PERF401 - its length is the place
    except ERRORS as error:
        raise _refusal(column, fit, values[len(found)], len(found)) from error
    return found


def misfits(values: Sequence[Any], types: set[type], fit: Fit, column: str) -> dict[int, DoesNotFit]:
    """Return the errors of the values that the column cannot have, by their places."""
    if types <= fit.own and (fit.all_fit is None or fit.all_fit(values)):
        return {}
    found: dict[int, DoesNotFit] = {}
    for place, value in enumerate(values):
        try:
            fit.one(value)
        except ERRORS:
            found[place] = _refusal(column, fit, value, place)
    return found


def longest(texts: Sequence[Any]) -> int:
    """Return the length of the longest of these texts, of which some may be NULL."""
    try:
        return max(map(len, texts), default=0)
    except TypeError:
        return max((len(text) for text in texts if text is not None), default=0)


def _refusal(column: str, fit: Fit, value: Any, place: int) -> DoesNotFit:
    found = misfit(column, fit.name, value)
    found.refused_row = place
    return found


def refuse(_value: Any) -> Any:
    """Refuse the value.

    Raises:
        ValueError: always.
    """
    raise ValueError


def _whole(value: float | Decimal) -> int:
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() > _MOST_DIGITS:
        raise ValueError
    number = int(value)
    return number if number == value else refuse(value)


def _binary(value: int) -> float:
    number = float(value)
    return number if number == value else refuse(value)


def _nearest(value: Decimal) -> float:
    """Return the float whose shortest text is this decimal."""
    number = float(value)
    return number if value.is_nan() or Decimal(repr(number)) == value else refuse(value)


def _single(value: Any) -> float:
    """Return the value if it is that of a float of 4 bytes, or the number of its shortest text."""
    number = value if isinstance(value, float) else _nearest(value) if isinstance(value, Decimal) else _binary(value)
    (narrow,) = struct.unpack("f", struct.pack("f", number))
    return number if narrow == number or number != number or float(str(np.float32(narrow))) == number else refuse(value)  # noqa: PLR0124 - NaN


def _all_single(values: Sequence[Any]) -> bool:
    numbers = np.array(values, np.float64)  # NULL becomes NaN.
    with np.errstate(over="ignore"):
        return bool(((numbers.astype(np.float32) == numbers) | np.isnan(numbers)).all())


def _bool(value: int) -> bool:
    return bool(value) if value in (0, 1) else refuse(value)


def _zones(values: Sequence[Any]) -> set[Any]:
    return {value.tzinfo for value in values if value is not None}


def _wall(value: datetime) -> datetime:
    """Return the moment's wall time in UTC."""
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _aware(value: Any) -> Any:
    return value if value.tzinfo is not None else refuse(value)


def _naive(value: Any) -> Any:
    return value if value.tzinfo is None else refuse(value)


def _uuid(value: str) -> UUID:
    found = UUID(value)
    return found if str(found) == value else refuse(value)


def _json(value: Any) -> Any:
    return value if is_json(value, (list, tuple)) else refuse(value)


def document_text(value: Any) -> str:
    """Return the JSON text of the value.

    Raises:
        ValueError: JSON has no such value.
    """
    return json.dumps(_json(value))


def _unknown(value: Any) -> Any:
    """Return a value of a type that only the driver knows, such as an address or a range."""
    return refuse(value) if type(value) in PLAIN else value


def _fit(name: str, *own: type, **options: Any) -> Fit:
    return Fit(name, frozenset({NoneType, *own}), **options)


# Types that only the database knows.
OTHER = "other"
_INTEGER = _fit("integer", int, takes={float: _whole, Decimal: _whole})
# What a column takes by its kind. A row for each kind that a database may have a column for.
FITS: dict[str, Fit] = {
    "bool": _fit("boolean", bool, takes={int: _bool}),
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"), _INTEGER),
    "float32": _fit(
        "float of 4 bytes", float,
        takes=dict.fromkeys((float, int, Decimal), _single), all_fit=_all_single,
    ),
    "float64": _fit("float", float, takes={int: _binary, Decimal: _nearest}),
    "decimal": _fit("decimal", Decimal, int, takes={float: lambda value: Decimal(repr(value))}),
    "text": _fit("text", str, takes={UUID: str}),
    "bytes": _fit("bytes", bytes, takes={bytearray: bytes, memoryview: bytes}),
    "moment": _fit(
        "timestamp without time zone", datetime,
        takes={datetime: _wall, TextMoment: lambda value: _wall(value.plain)},
        all_fit=lambda values: _zones(values) <= {None},
    ),
    "moment with zone": _fit(
        "timestamp with time zone", datetime,
        takes={datetime: _aware, TextMoment: lambda value: _aware(value.plain)},
        all_fit=lambda values: None not in _zones(values),
    ),
    "date": _fit("date", date),
    "time": _fit("time", time, takes={time: _naive}, all_fit=lambda values: _zones(values) <= {None}),
    "duration": _fit("interval", timedelta),
    "UUID": _fit("UUID", UUID, takes={str: _uuid}),
    "JSON": Fit("JSON", frozenset({NoneType}), other=_json),
    OTHER: Fit("of a type of the database's own", frozenset({NoneType, str}), other=_unknown, kind=OTHER),
}  # fmt: skip
TIME_WITH_ZONE = _fit("time with time zone", time, takes={time: _aware}, all_fit=lambda v: None not in _zones(v))


def list_fit(item: Fit) -> Fit:
    """Return what a column of lists takes, whose parts are lists or values for `item`."""

    def parts(value: list[Any]) -> list[Any]:
        return [parts(each) if isinstance(each, list) else item.one(each) for each in value]

    return Fit(f"an array of {item.name}", frozenset({NoneType}), {list: parts})
