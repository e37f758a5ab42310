"""Finds the values of Arrow columns that are damaged, or that Python has no value for."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.cast import CONVERSION_ERRORS
from prefect_batch.blocks.kinds.convert import values_of
from prefect_batch.blocks.kinds.json_form import leaves

_DAY_SECONDS = 86_400
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# The days of Python's years, counted from 1970. The first and the last are left out where a zone may move a timestamp.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_MOST_DAYS = 999_999_999


def unreadable_values(column: pa.ChunkedArray) -> dict[int, str]:
    """Return why some values of the column cannot be read, by their index.

    These are text that is not UTF-8, and dates, times and durations beyond those of Python.
    """
    found: dict[int, str] = {}
    first = 0
    for chunk in column.chunks:
        if not _is_readable(chunk):
            found.update((first + index, reason) for index, reason in _search(chunk, 0, len(chunk)))
        first += len(chunk)
    return found


def _search(array: pa.Array, first: int, stop: int) -> Iterator[tuple[int, str]]:
    """Yield the indexes of such values in ``[first, stop)``, by halving, with the reasons."""
    part = array.slice(first, stop - first)
    if _is_readable(part):
        return
    if stop - first == 1:
        yield first, _reason(part)
        return
    middle = (first + stop) // 2
    yield from _search(array, first, middle)
    yield from _search(array, middle, stop)


def _reason(one: pa.Array) -> str:
    try:
        one.validate(full=True)
        values_of(pa.chunked_array([one]))
    except (*CONVERSION_ERRORS, DoesNotFit) as error:
        return str(error)
    return "it is beyond the years of Python"


def _is_readable(array: pa.Array) -> bool:
    parts = list(leaves(array))
    try:
        for part in parts:
            if _is_text(part.type) or is_.is_time(part.type):
                part.validate(full=True)
    except pa.ArrowInvalid:
        return False
    if is_.is_nested(array.type) and not all(_whole_microseconds(part) for part in parts):
        return False
    return all(_in_range(part) for part in parts)


def _whole_microseconds(array: pa.Array) -> bool:
    """Return whether nothing is lost where a nested time has microseconds in Python."""
    if array.type != pa.time64("ns"):
        return True
    numbers = array.cast(pa.int64())
    return bool(pc.all(pc.equal(pc.multiply(pc.divide(numbers, 1_000), 1_000), numbers), min_count=0).as_py())


def _is_text(arrow: pa.DataType) -> bool:
    return bool(is_.is_string(arrow) or is_.is_large_string(arrow) or is_.is_string_view(arrow))


def _in_range(array: pa.Array) -> bool:
    bounds = _bounds(array.type)
    if bounds is None:
        return True
    numbers = array.cast(pa.int32() if is_.is_date32(array.type) or is_.is_time32(array.type) else pa.int64())
    found = pc.min_max(numbers).as_py()
    return found["min"] is None or (bounds[0] <= found["min"] and found["max"] <= bounds[1])


def _bounds(arrow: pa.DataType) -> tuple[int, int] | None:
    """Return the least and the greatest number that stands for a value of Python, or None if each does."""
    if is_.is_date32(arrow):
        return _FIRST_DAY, _LAST_DAY
    if is_.is_date64(arrow):
        return _FIRST_DAY * _DAY_SECONDS * 1_000, ((_LAST_DAY + 1) * _DAY_SECONDS) * 1_000 - 1
    if is_.is_timestamp(arrow) and arrow.unit != "ns":
        margin = int(arrow.tz is not None)
        per_day = _DAY_SECONDS * _PER_SECOND[arrow.unit]
        return (_FIRST_DAY + margin) * per_day, (_LAST_DAY + 1 - margin) * per_day - 1
    if is_.is_time(arrow):
        return 0, _DAY_SECONDS * _PER_SECOND[arrow.unit] - 1
    if is_.is_duration(arrow) and arrow.unit in ("s", "ms"):
        return -_MOST_DAYS * _DAY_SECONDS * _PER_SECOND[arrow.unit], _MOST_DAYS * _DAY_SECONDS * _PER_SECOND[arrow.unit]
    return None


def value_text(column: pa.ChunkedArray, index: int) -> str:
    """Return the value as a text for people, whatever it is."""
    one = column.slice(index, 1).combine_chunks()
    if _is_text(one.type):
        return repr(one.cast(pa.large_binary())[0].as_py())
    shown = " ".join(str(one).split())[1:-1].strip()
    if is_.is_nested(one.type) or "out of range" in shown:  # Of such years, a cast to text makes others.
        return shown
    return str(one.cast(pa.string())[0].as_py())
