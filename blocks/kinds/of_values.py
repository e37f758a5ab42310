"""Infers the Arrow type of a column that is created for given values."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

import pyarrow as pa

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.cast import CONVERSION_ERRORS
from prefect_batch.blocks.kinds.convert import to_arrow
from prefect_batch.blocks.kinds.kind import JSON, python_types
from prefect_batch.blocks.kinds.nanoseconds import TextMoment, nanoseconds_of
from prefect_batch.blocks.kinds.plain import is_json, plain_value
from prefect_batch.blocks.kinds.record import Record

# Marks a column of a source that not every record has.
SPARSE = {b"prefect_batch": b"sparse"}
_MOST_INT64, _MOST_UINT64 = 2**63 - 1, 2**64 - 1


# In the metadata of a field: the function gave the column this type, and not the source.
OF_FUNCTION = b"prefect_batch_of_function"
# The kind of a source's column for which Arrow has no one type.
KIND = b"prefect_batch_kind"


def schema_with(table: pa.Schema, source: pa.Schema) -> pa.Schema:
    """Return the source's schema, with those columns of a table that the source lacks, or has of another kind."""
    fields = {field.name: field for field in source}
    for field in table:
        if pa.types.is_null(field.type) or (field.name in fields and _alike(field.type, fields[field.name])):
            continue
        fields[field.name] = field.with_metadata({OF_FUNCTION: b""})
    return pa.schema(list(fields.values()))


def _alike(arrow: pa.DataType, own: pa.Field) -> bool:
    """Return whether values of this type are of the kind of the source's column, which may have no Arrow type."""
    return KIND in (own.metadata or {}) or bool((python_types(arrow) & python_types(own.type)) - {NoneType})


def schema_of_records(records: Sequence[Record], source: pa.Schema) -> pa.Schema:
    """Return the schema for records like these.

    A column that the source also has keeps its type there, unless no value is of that kind. If the records have all
    columns that every record of the source has, its other columns are in the schema, too: later records may have them.
    """
    names = list(dict.fromkeys(column for record in records for column in record))
    if not {field.name for field in source if field.metadata != SPARSE}.difference(names):
        names += [field.name for field in source if field.name not in names and set(source.names) & set(names)]
    columns = ((name, [record[name] for record in records if record.get(name) is not None]) for name in names)
    return pa.schema([(name, _type_of(values, name, source)) for name, values in columns])


def _type_of(values: list[Any], name: str, source: pa.Schema) -> pa.DataType:
    if name not in source.names:
        return type_of_values(values)
    arrow = source.field(name).type
    own = python_types(arrow) - {NoneType}
    # Values that are odd or too large do not change the kind of the column: their records are refused.
    alike = (value for value in map(plain_value, values) if type(value) in own)
    return arrow if not values or any(_fits(value, arrow) for value in alike) else type_of_values(values)


def _fits(value: Any, arrow: pa.DataType) -> bool:
    try:
        to_arrow([value], "it", arrow)
    except DoesNotFit:
        return False
    return True


def type_of_values(values: Sequence[Any]) -> pa.DataType:
    """Return the Arrow type for these values, or text if they are None or of no known kind.

    The first of several kinds decides. Integers among floats count as floats.
    """
    plain = [each for each in map(plain_value, values) if each is not None]
    types = [_python_type(each) for each in plain]
    if not types:
        return pa.string()
    if float in types and set(types) == {int, float}:
        return pa.float64()
    first = Decimal if set(types) == {int, Decimal} else types[0]
    told = _TYPES.get(first)
    return told([each for each, of in zip(plain, types, strict=True) if of is first]) if told else pa.string()


def _python_type(value: Any) -> type:
    """Return the value's type, or Python's own type for one with nanoseconds, or with a text."""
    if isinstance(value, TextMoment):
        return datetime
    if not nanoseconds_of(value):
        return type(value)
    return next(of for of in (datetime, time, timedelta) if isinstance(value, of))


def _whole(values: list[int]) -> pa.DataType:
    return pa.uint64() if _MOST_INT64 < max(values) <= _MOST_UINT64 and min(values) >= 0 else pa.int64()


def _decimal(values: list[Decimal]) -> pa.DataType:
    """Return a decimal type with as many places as the values have, and room before the point."""
    digits = [(len(digits), exponent) for _, digits, exponent in map(Decimal.as_tuple, values)]
    sizes = [(count, exponent) for count, exponent in digits if isinstance(exponent, int)]
    scale = max([0, *(-exponent for _, exponent in sizes)])
    whole = max([0, *(count + exponent for count, exponent in sizes)])
    return pa.decimal128(38, scale) if whole + scale <= 38 and scale < 38 else pa.decimal256(76, min(76, scale))


def _moment(values: list[datetime]) -> pa.DataType:
    return pa.timestamp(_unit(values), tz=None if values[0].tzinfo is None else "UTC")


def _unit(values: Sequence[Any]) -> str:
    return "ns" if any(map(nanoseconds_of, values)) else "us"


def _nested(values: list[Any]) -> pa.DataType:
    try:
        found = pa.infer_type(values)
    except CONVERSION_ERRORS:
        if all(map(is_json, values)):
            return JSON
        if len(values) > 1:
            return _nested(values[:1])
        # Of parts for which Arrow has no one type: it is at least known to be no text.
        return pa.map_(pa.string(), pa.string()) if isinstance(values[0], dict) else pa.list_(pa.string())
    return _roomy(found)


def _roomy(arrow: pa.DataType) -> pa.DataType:
    """Return the type with text where no value showed a type, and with room for other decimals."""
    if pa.types.is_struct(arrow):
        return pa.struct([(arrow.field(n).name, _roomy(arrow.field(n).type)) for n in range(arrow.num_fields)])
    if pa.types.is_list(arrow):
        return pa.list_(_roomy(arrow.value_type))
    if pa.types.is_decimal(arrow) and arrow.precision <= 38:
        return pa.decimal128(38, arrow.scale)
    return pa.string() if pa.types.is_null(arrow) else arrow


def _always(arrow: pa.DataType) -> Callable[[Any], pa.DataType]:
    return lambda _values: arrow


_TYPES: dict[type, Callable[[Any], pa.DataType]] = {
    bool: _always(pa.bool_()),
    int: _whole,
    float: _always(pa.float64()),
    Decimal: _decimal,
    str: _always(pa.string()),
    **dict.fromkeys((bytes, bytearray, memoryview), _always(pa.binary())),
    date: _always(pa.date32()),
    datetime: _moment,
    time: lambda values: pa.time64(_unit(values)),
    timedelta: lambda values: pa.duration(_unit(values)),
    UUID: _always(pa.uuid()),
    pa.MonthDayNano: _always(pa.month_day_nano_interval()),
    dict: _nested,
    list: _nested,
}
