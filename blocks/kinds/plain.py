"""Values of other libraries, and of subclasses, as values of Python's own types: where that changes nothing."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

import pyarrow as pa

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.nanoseconds import NanoTime, nanoseconds_of

__all__ = ["PLAIN", "misfit", "plain_value", "storable_values"]

# Values of these types are themselves.
PLAIN = frozenset(
    (NoneType, bool, int, float, str, bytes, Decimal, datetime, date, time, timedelta, UUID, dict, list)
)  # fmt: skip
_OWN = PLAIN | {NanoTime, pa.MonthDayNano, bytearray, memoryview, tuple}
# A subclass holds just what its base does: the member of an enumeration of texts, a dict that counts. Not by calling
# str(): what that shows is up to the subclass.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda value: bytes(memoryview(value))),
    (dict, dict),
    (list, list),
)


def plain_value(value: Any) -> Any:
    """The value as Python's own types have it; unchanged where none of them has it exactly."""
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
        # Beyond microseconds numpy has only a number; beyond the years of Python, too.
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
    """The plain value as databases have it, whose moments and durations end with microseconds.

    Raises:
        DoesNotFit: it has nanoseconds, or is the member of an enumeration that is of no other type.
    """
    value = plain_value(value)
    if nanoseconds_of(value):
        raise misfit(column, "exact to the microsecond", value)
    if isinstance(value, Enum):
        raise misfit(column, "no enumeration; return the member's value or name", value)
    return value


def storable_values(values: Sequence[Any], column: str) -> Sequence[Any]:
    """The values of a column, each as databases have it."""
    if set(map(type, values)) <= PLAIN:
        return values
    return [_storable(value, column) for value in values]


def misfit(column: str, kind: Any, value: Any) -> DoesNotFit:
    """The error of a value that its column cannot hold exactly: `column` and `kind` as messages call them."""
    text = repr(value)
    shown = text if len(text) <= 80 else text[:77] + "…"
    return DoesNotFit(
        f"{column} is {kind}, and cannot hold {shown} ({type(value).__name__}) exactly: change the value, or give the "
        "column another type"
    )
