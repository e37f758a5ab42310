"""Converts columns to JSON and back, so that what is written is read unchanged."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from datetime import datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.cast import CONVERSION_ERRORS
from prefect_batch.blocks.kinds.convert import to_arrow, values_of
from prefect_batch.blocks.kinds.kind import JSON, kind_of, written_moment
from prefect_batch.blocks.kinds.nanoseconds import moment_text, nanoseconds_of, parse_time, time_text, whole_duration
from prefect_batch.blocks.kinds.plain import is_json, misfit


def _interval(text: str) -> Any:
    parse = kind_of(pa.month_day_nano_interval()).parse
    assert parse is not None
    return parse(text)


# The parsers of texts in JSON that pyarrow cannot cast to values.
_PARSERS: dict[str, Callable[[str], Any]] = {
    "time": parse_time,
    "bytes": lambda text: b64decode(text, validate=True),
    "UUID": UUID,
    "interval": _interval,
}
_TEXTS = {*_PARSERS, "date", "moment", "moment with zone"}


def json_type(arrow: pa.DataType) -> pa.DataType:
    """Return the type that pyarrow reads from JSON before `from_json` converts the column to this type.

    Raises:
        KeyError: pyarrow reads documents of one form only.
    """
    if arrow == JSON:
        raise KeyError(str(arrow))
    if is_.is_struct(arrow):
        return pa.struct([(arrow.field(n).name, json_type(arrow.field(n).type)) for n in range(arrow.num_fields)])
    if is_.is_map(arrow):
        return pa.list_(pa.struct([("key", json_type(arrow.key_type)), ("value", json_type(arrow.item_type))]))
    if is_.is_nested(arrow) and hasattr(arrow, "value_type"):
        return pa.list_(json_type(arrow.value_type))
    if is_.is_float16(arrow):
        return pa.float32()
    if is_.is_duration(arrow):
        return pa.int64()
    return pa.string() if kind_of(arrow).name in _TEXTS else arrow


def from_json(column: pa.ChunkedArray, arrow: pa.DataType, name: str) -> pa.ChunkedArray:
    """Convert a column of type `json_type` to this type.

    Raises:
        ArrowInvalid: a value is not one of this type, and would have to be altered.
    """
    if column.type == arrow:
        return column
    try:
        return pa.chunked_array([_read(chunk, arrow) for chunk in column.chunks], arrow)
    except (*CONVERSION_ERRORS, DoesNotFit) as error:
        raise pa.ArrowInvalid(f"column {name}: {error}") from error


def _read(array: pa.Array, arrow: pa.DataType) -> pa.Array:
    if array.type == arrow:
        return array
    if is_.is_struct(arrow):
        fields = [arrow.field(n) for n in range(arrow.num_fields)]
        parts = [_read(part, field.type) for part, field in zip(array.flatten(), fields, strict=True)]
        return pa.StructArray.from_arrays(parts, fields=fields, mask=array.is_null())
    if is_.is_map(arrow):
        keys, items = (_read(part, of) for part, of in zip(array.flatten().flatten(), _pair(arrow), strict=True))
        return pa.MapArray.from_arrays(_offsets(array), keys, items, type=arrow)
    if is_.is_nested(arrow):
        plain = pa.ListArray.from_arrays(_offsets(array), _read(array.flatten(), arrow.value_type))
        return plain.cast(arrow)
    if is_.is_duration(arrow):
        return array.cast(pa.duration("us")).cast(arrow)
    if parse := _PARSERS.get(kind_of(arrow).name):
        return to_arrow([text if text is None else parse(text) for text in array.to_pylist()], "it", arrow)
    if is_.is_timestamp(arrow) and arrow.unit != "ns":
        return array.cast(pa.timestamp("us", arrow.tz)).cast(arrow)
    return array.cast(arrow)


def _pair(arrow: pa.DataType) -> tuple[pa.DataType, pa.DataType]:
    return arrow.key_type, arrow.item_type


def _offsets(lists: pa.Array) -> pa.Array:
    """Return where each list of the flattened column begins, and where the last one ends, with NULL for a NULL list."""
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(lists), 0))
    starts = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
    return pc.if_else(pa.concat_arrays([lists.is_null(), pa.array([False])]), None, starts)


def check_json(column: pa.ChunkedArray, name: str) -> None:
    """Raise DoesNotFit unless JSON can hold every value."""
    for array in (part for chunk in column.chunks for part in leaves(chunk)):
        if is_.is_floating(array.type):
            if not pc.all(pc.is_finite(array.cast(pa.float64())), min_count=0).as_py():
                raise DoesNotFit(f"column {name} has a number that JSON cannot hold: NaN or infinite")
        elif array.type in (pa.duration("ns"), pa.time64("ns")):
            nanoseconds = array.cast(pa.int64())
            whole = pc.multiply(pc.divide(nanoseconds, 1000), 1000)
            in_column = array.type == pa.time64("ns") and array.type == column.type
            if not in_column and pc.any(pc.not_equal(whole, nanoseconds)).as_py():
                raise DoesNotFit(f"column {name} has nanoseconds, and JSON has its values in microseconds")


def leaves(array: pa.Array) -> Iterator[pa.Array]:
    """Yield the values of a column as columns without parts, one for each part of its type."""
    if not is_.is_nested(array.type):
        yield array
    elif is_.is_struct(array.type):
        for part in array.flatten():
            yield from leaves(part)
    elif is_.is_map(array.type):
        yield from leaves(array.keys)
        yield from leaves(array.items)
    else:
        yield from leaves(array.flatten())


def json_values(column: pa.ChunkedArray) -> list[Any]:
    """Return the column's values as orjson writes them with `json_default`, once `check_json` has passed them."""
    arrow = column.type
    if is_.is_time(arrow):
        return list(column.cast(pa.string()).to_pylist())  # orjson would write 10 ms as .10000 seconds.
    if is_.is_timestamp(arrow):
        column = column.cast(written_moment(arrow))
        if arrow.unit == "ns":
            return list(pc.replace_substring(column.cast(pa.string()), " ", "T", max_replacements=1).to_pylist())
    if is_.is_duration(arrow):
        return list(column.cast(pa.duration("us")).cast(pa.int64()).to_pylist())
    if arrow == JSON:
        import orjson

        return [text if text is None else orjson.Fragment(text) for text in column.cast(pa.string()).to_pylist()]
    if is_.is_map(arrow):
        return [each and [{"key": key, "value": value} for key, value in each] for each in column.to_pylist()]
    return values_of(column)


def json_default(value: Any) -> Any:
    """Return the JSON form of a value that JSON does not have.

    Raises:
        TypeError: there is no such form.
    """
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, pa.MonthDayNano):
        return " ".join(map(str, value))
    if nanoseconds_of(value) and isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, time):
        return time_text(value)
    return whole_duration(value)


def json_text(value: Any, column: str) -> str:
    """Return the nested value as JSON text for a column of a database. A tuple becomes an array, as a list does.

    Raises:
        DoesNotFit: a part is not JSON, such as a date or a key that is not text.
    """
    if not is_json(value, (list, tuple)):
        raise misfit(column, "JSON", value)
    return json.dumps(value)
