"""Converts values of other libraries and of subclasses to Python's own types, if that changes nothing."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

import pyarrow as pa

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.nanoseconds import NanoTime, TextMoment, nanoseconds_of

# Values of these types stay as they are.
PLAIN = frozenset(
    (NoneType, bool, int, float, str, bytes, Decimal, datetime, TextMoment, date, time, timedelta, UUID, dict, list)
)  # fmt: skip
_OWN = PLAIN | {NanoTime, pa.MonthDayNano, bytearray, memoryview, tuple}
# A subclass holds the same value as its base, such as the member of an enumeration of texts, or a Counter. It is not
# converted by str(), because a subclass may show something else.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda value: bytes(memoryview(value))),
    (dict, dict),
    (list, list),
)


def plain_value(value: Any) -> Any:
    """Return the value as one of Python's own types, or unchanged if none of them holds it exactly."""
    if type(value) in _OWN:
        return value
    module = type(value).__module__.partition(".")[0]
    if module == "numpy":
        return _plain_numpy(value)
    if module == "pandas":
        return _plain_pandas(value)
    if isinstance(value, datetime):
        parts = value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond
        return datetime(*parts, tzinfo=value.tzinfo, fold=value.fold)
    return next((plain(value) for base, plain in _BASES if isinstance(value, base)), value)


def _plain_numpy(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "biufSU" else [plain_value(each) for each in value]
    if isinstance(value, (np.datetime64, np.timedelta64)):
        found = value.item()
        if not isinstance(found, int):
            return found
        # Beyond microseconds, and beyond the years of Python, numpy has only a number.
        import pandas as pd

        if np.datetime_data(value)[0] != "ns":
            return value
        made: Any = pd.Timestamp if isinstance(value, np.datetime64) else pd.Timedelta
        return _plain_pandas(made(value))
    return value.item() if isinstance(value, np.generic) else value


def _plain_pandas(value: Any) -> Any:
    import pandas as pd

    if value is pd.NA or value is pd.NaT:
        return None
    if nanoseconds_of(value):
        return value
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.to_pytimedelta() if isinstance(value, pd.Timedelta) else value


def _storable(value: Any, column: str) -> Any:
    """Return the plain value as databases have it: timestamps and durations end with microseconds.

    Raises:
        DoesNotFit: it has nanoseconds, or is an enumeration member that is of no other type.
    """
    value = plain_value(value)
    if nanoseconds_of(value):
        raise misfit(column, "exact to the microsecond", value)
    if isinstance(value, Enum):
        raise misfit(column, "no enumeration; return the member's value or name", value)
    return value


def storable_values(values: Sequence[Any], column: str) -> Sequence[Any]:
    """Return the values of a column, each as databases have it."""
    if set(map(type, values)) <= PLAIN:
        return values
    return [_storable(value, column) for value in values]


def misfit(column: str, kind: Any, value: Any) -> DoesNotFit:
    """Return the error for a value that its column cannot hold exactly. Messages call them `column` and `kind`."""
    text = repr(value)
    shown = text if len(text) <= 80 else text[:77] + "…"
    return DoesNotFit(
        f"{column} is {kind}, and cannot hold {shown} ({type(value).__name__}) exactly: change the value, or give the "
        "column another type"
    )


def is_json(value: Any, arrays: tuple[type[Sequence[Any]], ...] = (list,)) -> bool:
    """Return whether JSON can hold the value with all its parts, with `arrays` as the types of arrays."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(each, arrays) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return isinstance(value, arrays) and all(is_json(each, arrays) for each in value)
    return value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and value - value == 0)
