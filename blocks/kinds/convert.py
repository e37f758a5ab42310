"""Converts Python values to Arrow columns and back, and columns to other types, without loss or with an error."""

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.cast import CONVERSION_ERRORS, narrow
from prefect_batch.blocks.kinds.kind import JSON, python_types
from prefect_batch.blocks.kinds.nanoseconds import NanoTime, nanoseconds_of
from prefect_batch.blocks.kinds.plain import is_json, misfit, plain_value
from prefect_batch.blocks.kinds.record import Record

_FIRST_DAY, _LAST_DAY = ((day - date(1970, 1, 1)).days for day in (date.min, date.max))


def to_arrow(values: Sequence[Any], column: str, arrow: pa.DataType) -> pa.Array:
    """Return the values as a column of this type. Messages call it `column`.

    Raises:
        DoesNotFit: a value is not exactly of this type.
    """
    types, found = python_types(arrow), set(map(type, values))
    if not found <= types:
        values = [value if type(value) in types else _taken(value, column, arrow) for value in values]
        found = set(map(type, values))
    if fits := _what_fits(arrow):
        for value in values:
            if value is not None and not fits(value):
                raise misfit(column, arrow, value)
    try:
        return _array(values, arrow, found)
    except CONVERSION_ERRORS as error:
        raise misfit(column, arrow, _culprit(values, arrow)) from error


def _taken(value: Any, column: str, arrow: pa.DataType) -> Any:
    """Return a value of another type as one of this column's.

    Raises:
        DoesNotFit: the column cannot hold it exactly.
    """
    plain = plain_value(value)
    if type(plain) in python_types(arrow):
        return plain
    if isinstance(plain, UUID) and str in python_types(arrow):
        return str(plain)
    of_pandas = datetime if is_.is_timestamp(arrow) else timedelta if is_.is_duration(arrow) else ()
    if nanoseconds_of(plain) and isinstance(plain, of_pandas):
        return plain
    raise misfit(column, arrow, value)


def to_arrow_or_null(values: Sequence[Any], arrow: pa.DataType) -> tuple[pa.Array, dict[int, Exception]]:
    """Return the values as a column of this type, with NULL for those that do not fit, and their errors by place."""
    try:
        return to_arrow(values, "it", arrow), {}
    except DoesNotFit:
        pass
    fitting: list[pa.Array] = []
    misfits: dict[int, Exception] = {}
    for place, value in enumerate(values):
        try:
            fitting.append(to_arrow([value], "it", arrow))
        except DoesNotFit as error:
            misfits[place] = error
            fitting.append(pa.nulls(1, arrow))
    return pa.concat_arrays(fitting), misfits


def _culprit(values: Sequence[Any], arrow: pa.DataType) -> Any:
    for value in values:
        try:
            _array([value], arrow, {type(value)})
        except CONVERSION_ERRORS:
            return value
    return values[0]


def _array(values: Sequence[Any], arrow: pa.DataType, found: set[type]) -> pa.Array:
    """Return the values as a column of the finest unit, cast to this type, because that cast never rounds silently.

    Raises:
        ArrowException: a value would be cut. The other errors of pyarrow are possible, too.
    """
    if arrow == JSON:
        return pa.array([value if value is None else json.dumps(value) for value in values], pa.string()).cast(arrow)
    if is_.is_dictionary(arrow):
        return _array(values, arrow.value_type, found).cast(arrow)
    if is_.is_time(arrow):
        if NanoTime not in found:
            return pa.array(values, pa.time64("us")).cast(arrow)
        return pa.array(map(_of_day, values), pa.int64()).cast(pa.time64("ns")).cast(arrow)
    if is_.is_timestamp(arrow) or is_.is_duration(arrow):
        unit = "ns" if any(kind.__module__.startswith("pandas") for kind in found) else "us"
        finest = pa.duration(unit) if is_.is_duration(arrow) else pa.timestamp(unit, arrow.tz)
        return pa.array(values, finest).cast(arrow)
    if arrow in (pa.float16(), pa.float32()):
        return narrow(pa.array(values, pa.float64()), arrow)
    return pa.array(values, arrow)


def _of_day(value: Any) -> int | None:
    if value is None:
        return None
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return int((seconds * 10**6 + value.microsecond) * 1000 + nanoseconds_of(value))


def _what_fits(arrow: pa.DataType) -> Callable[[Any], bool] | None:
    """Return the check for values that pyarrow would silently alter, or None if there are none.

    It adds or drops zones, and drops keys that a struct does not have.
    """
    if arrow == JSON:
        return lambda value: is_json(value, (list, tuple))
    if is_.is_timestamp(arrow):
        return attrgetter("tzinfo") if arrow.tz is not None else lambda value: value.tzinfo is None
    if is_.is_time(arrow):
        return lambda value: value.tzinfo is None
    return (lambda value: _parts_fit(value, arrow)) if is_.is_nested(arrow) else None


def _parts_fit(value: Any, arrow: pa.DataType) -> bool:
    if value is None:
        return True
    if not is_.is_nested(arrow):
        return _part_fits(value, arrow)
    if is_.is_struct(arrow):
        parts = {arrow.field(place).name: arrow.field(place).type for place in range(arrow.num_fields)}
        return isinstance(value, dict) and all(k in parts and _parts_fit(v, parts[k]) for k, v in value.items())
    if is_.is_map(arrow):
        pairs = value.items() if isinstance(value, dict) else value
        return isinstance(value, (dict, list)) and all(_is_pair(pair, arrow) for pair in pairs)
    if not isinstance(value, list) or not hasattr(arrow, "value_type"):
        return False
    return all(_parts_fit(each, arrow.value_type) for each in value)


def _is_pair(pair: Any, arrow: pa.DataType) -> bool:
    if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] is None:
        return False
    return _parts_fit(pair[0], arrow.key_type) and _parts_fit(pair[1], arrow.item_type)


def _part_fits(value: Any, arrow: pa.DataType) -> bool:
    if type(value) not in python_types(arrow):
        return False
    try:
        _array([value], arrow, {type(value)})
    except CONVERSION_ERRORS:
        return False
    fits = _what_fits(arrow)
    return fits is None or bool(fits(value))


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """Return the column as Python values.

    Timestamps and durations with nanoseconds become those of pandas, and times become `NanoTime`.

    Raises:
        DoesNotFit: a part of a nested value has nanoseconds.
    """
    arrow = column.type
    if is_.is_decimal(arrow) or (is_.is_date32(arrow) and _of_python(column)):
        # The values are the same either way. For these types, numpy is 2 to 15 times as fast.
        values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
        return values
    if arrow == pa.time64("ns"):
        return [each if each is None else NanoTime.of_day(each) for each in column.cast(pa.int64()).to_pylist()]
    if arrow == JSON:
        return [text if text is None else json.loads(text) for text in column.cast(pa.string()).to_pylist()]
    if is_.is_nested(arrow) and "time64[ns]" in str(arrow):
        column = _whole_microseconds(column)
    return list(column.to_pylist())


def _of_python(days: pa.ChunkedArray) -> bool:
    """Return whether Python has all the years, because numpy would return numbers for the others."""
    bounds = pc.min_max(days.cast(pa.int32())).as_py()
    return bounds["min"] is None or (bounds["min"] >= _FIRST_DAY and bounds["max"] <= _LAST_DAY)


def _whole_microseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(_with_microseconds(column.type))
    except CONVERSION_ERRORS as error:
        raise misfit("a nested column", "exact to the microsecond in Python", str(error)) from error


def _with_microseconds(arrow: pa.DataType) -> pa.DataType:
    if arrow == pa.time64("ns"):
        return pa.time64("us")
    if is_.is_struct(arrow):
        return pa.struct([(arrow.field(n).name, _with_microseconds(arrow.field(n).type)) for n in range(len(arrow))])
    return pa.list_(_with_microseconds(arrow.value_type)) if is_.is_list(arrow) else arrow


def records_of(table: pa.Table) -> list[Record]:
    """Return the table's rows as records."""
    names = table.column_names
    columns = [values_of(column) for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
