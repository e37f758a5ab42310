"""The table of kinds of values: one row each, with its forms in Arrow, in Python, as text and in JSON.

To add a kind, add a row here. Whatever else must know it then raises an error: `of_values` (which values are of the
kind), `json_form` (how its columns are read and written in JSON), `databases/column_types` (its columns).
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.types as is_

from prefect_batch.blocks.kinds.nanoseconds import (
    NanoTime,
    TextMoment,
    duration_text,
    moment_text,
    parse_duration,
    parse_moment,
    parse_time,
    time_text,
)


@dataclass(frozen=True)
class Kind:
    """A kind of values.

    Attributes:
        arrow: Its types in Arrow. Only some of them, if such a type has a precision, a zone or parts.
        is_arrow: Whether an Arrow type is of this kind.
        python: The types that its values have in Python.
        takes: Types of other values that it accepts if they are equal to one of its own.
        text: Returns a value's text, which keys, letters and files contain. None for values that have parts.
        parse: Returns the value of such a text.
        tag: The name of the kind beside such a text in JSON, if JSON has no form for it.
        json: What JSON files hold.
        csv: What CSV files hold.
        refused: The formats that cannot hold the kind.
    """

    name: str
    arrow: tuple[pa.DataType, ...]
    is_arrow: Callable[[pa.DataType], bool]
    python: tuple[type, ...]
    takes: tuple[type, ...] = ()
    text: Callable[[Any], str] | None = None
    parse: Callable[[str], Any] | None = None
    tag: str | None = None
    json: str = ""
    csv: str = ""
    refused: tuple[str, ...] = ()


def _only(*types: pa.DataType) -> Callable[[pa.DataType], bool]:
    return lambda arrow: arrow in types


def _zoned(arrow: pa.DataType) -> bool:
    return bool(is_.is_timestamp(arrow) and arrow.tz is not None)


def _naive(arrow: pa.DataType) -> bool:
    return bool(is_.is_timestamp(arrow) and arrow.tz is None)


def _is_text(arrow: pa.DataType) -> bool:
    return bool(is_.is_string(arrow) or is_.is_large_string(arrow) or is_.is_string_view(arrow))


def _is_bytes(arrow: pa.DataType) -> bool:
    return bool(
        is_.is_binary(arrow)
        or is_.is_large_binary(arrow)
        or is_.is_fixed_size_binary(arrow)
        or is_.is_binary_view(arrow)
    )


def _is_list(arrow: pa.DataType) -> bool:
    return bool(is_.is_list(arrow) or is_.is_large_list(arrow) or is_.is_fixed_size_list(arrow))


def _bytes_text(value: Any) -> str:
    return bytes(value).hex()


def _interval_text(value: pa.MonthDayNano) -> str:
    return " ".join(map(str, value))


def _parse_interval(text: str) -> pa.MonthDayNano:
    return pa.MonthDayNano([int(part) for part in text.split()])


def _json_text(value: Any) -> str:
    return json.dumps(value)


def _whole(arrow: pa.DataType) -> Kind:
    return Kind(str(arrow), (arrow,), _only(arrow), (int,), (), str, int, "int", "a number", "digits")


def _binary(name: str, arrow: pa.DataType) -> Kind:
    return Kind(
        name, (arrow,), _only(arrow), (float,), (int,), float.__repr__, float, "float",
        "a number; NaN and infinite ones are refused", "its shortest digits",
    )  # fmt: skip


JSON = pa.json_(pa.string())
_UNITS = ("s", "ms", "us", "ns")
_STAMPS = tuple(pa.timestamp(unit) for unit in _UNITS)
_ZONED = (*(pa.timestamp(unit, "UTC") for unit in _UNITS), pa.timestamp("us", "Europe/Berlin"))
_TIMES = (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))

# A kind whose Python type is a subclass of another's comes before it: a datetime is a date, too, and True a number.
KINDS: tuple[Kind, ...] = (
    Kind("null", (pa.null(),), is_.is_null, (), json="null", csv="nothing"),
    Kind("bool", (pa.bool_(),), is_.is_boolean, (bool,), json="true or false", csv="true or false"),
    *map(_whole, (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *map(_whole, (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    _binary("float16", pa.float16()),
    _binary("float32", pa.float32()),
    _binary("float64", pa.float64()),
    Kind(
        "decimal", (pa.decimal128(12, 2), pa.decimal128(38, 10), pa.decimal256(76, 20)), is_.is_decimal,
        (Decimal,), (int,), str, Decimal, "decimal", "text", "digits",
    ),
    Kind("text", (pa.string(), pa.large_string(), pa.string_view()), _is_text, (str,), (), str, str,
         json="text", csv="quoted text"),
    Kind(
        "bytes", (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(4)), _is_bytes,
        (bytes,), (bytearray, memoryview), _bytes_text, bytes.fromhex, "bytes", "text in base64", refused=("csv",),
    ),
    Kind("moment", _STAMPS, _naive, (datetime, TextMoment), (), moment_text, parse_moment, "datetime",
         "text in ISO 8601", "text in ISO 8601"),
    Kind("moment with zone", _ZONED, _zoned, (datetime, TextMoment), (), moment_text, parse_moment, "datetime",
         "text in ISO 8601, in UTC", "text in ISO 8601, in UTC"),
    Kind("date", (pa.date32(), pa.date64()), is_.is_date, (date,), (), date.isoformat, date.fromisoformat, "date",
         "text in ISO 8601", "text in ISO 8601"),
    Kind("time", _TIMES, is_.is_time, (time, NanoTime), (), time_text, parse_time, "time",
         "text in ISO 8601", "text in ISO 8601"),
    Kind("duration", tuple(map(pa.duration, _UNITS)), is_.is_duration, (timedelta,), (), duration_text, parse_duration,
         "microseconds", "a number of microseconds", "a number in the unit of its type"),
    Kind("interval", (pa.month_day_nano_interval(),), is_.is_interval, (pa.MonthDayNano,), (),
         _interval_text, _parse_interval, "interval", "text: months, days and nanoseconds", refused=("csv", "parquet")),
    Kind("UUID", (pa.uuid(),), _only(pa.uuid()), (UUID,), (), str, UUID, "uuid", "text", "text"),
    # A document, or a part of one: any value that JSON has. Its text is a column's storage in Arrow.
    Kind("JSON", (JSON,), _only(JSON), (dict, list, str, int, float, bool), (tuple,), _json_text, json.loads,
         json="the document itself", csv="its text"),
    Kind("list", (pa.list_(pa.int64()), pa.large_list(pa.string()), pa.list_(pa.float64(), 2)), _is_list, (list,),
         json="an array", refused=("csv",)),
    Kind("struct", (pa.struct([("a", pa.int64()), ("b", pa.string())]),), is_.is_struct, (dict,),
         json="an object", refused=("csv",)),
    Kind("map", (pa.map_(pa.string(), pa.int64()),), is_.is_map, (list,), (dict,),
         json="an array of objects with key and value", refused=("csv",)),
)  # fmt: skip


def plain_type(arrow: pa.DataType) -> pa.DataType:
    """Return the type without how its values are stored: for a dictionary, the type of its values."""
    return plain_type(arrow.value_type) if is_.is_dictionary(arrow) else arrow


def written_moment(arrow: pa.DataType) -> pa.DataType:
    """Return the type that timestamps have in text, which is UTC.

    Offsets of old times have seconds, which text cannot hold.
    """
    return arrow if arrow.tz is None else pa.timestamp(arrow.unit, "UTC")


@functools.lru_cache(256)
def kind_of(arrow: pa.DataType) -> Kind:
    """Return the kind of an Arrow type's values.

    Raises:
        KeyError: the table has no row for it, as for unions.
    """
    arrow = plain_type(arrow)
    if isinstance(arrow, pa.BaseExtensionType) and arrow not in (pa.uuid(), JSON):
        arrow = arrow.storage_type
    for kind in KINDS:
        if kind.is_arrow(arrow):
            return kind
    raise KeyError(str(arrow))


@functools.lru_cache(256)
def python_types(arrow: pa.DataType) -> frozenset[type]:
    """Return the Python types whose values a column of this Arrow type takes unchanged, or none for unknown types."""
    try:
        kind = kind_of(arrow)
    except KeyError:
        return frozenset()
    return frozenset({*kind.python, *kind.takes, NoneType})
