"""The schema of a sink's files, told from the first records."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from prefect_batch.blocks.batches import Record
from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.files.writing.fit_schema import FIT_ERRORS, fit_column, plain_value

__all__ = ["infer_schema", "plain_schema"]


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with types that every format has, where the same values can be of several."""
    return pa.schema([(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    return pa.string() if pa.types.is_null(kind) or pa.types.is_string_view(kind) else kind


def infer_schema(records: Sequence[Record], source: pa.Schema) -> pa.Schema:
    """The schema for records like these: a column that the source has too, and whose values fit, keeps its type."""
    names = list(dict.fromkeys(column for record in records for column in record))
    fields = []
    for name in names:
        values = [record[name] for record in records if record.get(name) is not None]
        fields.append(pa.field(name, _infer(name, values, source)))
    return pa.schema(fields)


def _infer(name: str, values: list[Any], source: pa.Schema) -> pa.DataType:
    if name in source.names:
        field = pa.field(name, source.field(name).type)
        try:
            fit_column(values, field)
        except DoesNotFit:
            pass
        else:
            return field.type
    return _by_values([plain_value(value, pa.string()) for value in values])


def _by_values(values: list[Any]) -> pa.DataType:
    kinds = {type(value) for value in values}
    if not kinds:
        return pa.string()
    if kinds <= {int, float}:
        return pa.float64() if float in kinds else pa.int64()
    if kinds <= {int, Decimal}:
        exponents = [value.as_tuple().exponent for value in values if isinstance(value, Decimal)]
        return pa.decimal128(38, min(38, max([0, *(-e for e in exponents if isinstance(e, int))])))
    # Of several kinds the first one is the column's; records of the others do not fit.
    first = values[0]
    if isinstance(first, (dict, list)):
        return _nested([value for value in values if type(value) is type(first)])
    simple: tuple[tuple[type | tuple[type, ...], pa.DataType], ...] = (
        (bool, pa.bool_()),
        (int, pa.int64()),
        (float, pa.float64()),
        ((bytes, bytearray, memoryview), pa.binary()),
        (datetime, pa.timestamp("us", tz="UTC" if getattr(first, "tzinfo", None) else None)),
        (date, pa.date32()),
        (time, pa.time64("us")),
        (timedelta, pa.duration("us")),
    )
    return next((kind for python, kind in simple if isinstance(first, python)), pa.string())


def _nested(values: list[Any]) -> pa.DataType:
    try:
        kind = pa.array(values).type
    except FIT_ERRORS:
        kind = pa.array(values[:1]).type
    return _without_null(kind)


def _without_null(kind: pa.DataType) -> pa.DataType:
    """The type with text where no value told one."""
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(n).name, _without_null(kind.field(n).type)) for n in range(kind.num_fields)])
    if pa.types.is_list(kind):
        return pa.list_(_without_null(kind.value_type))
    return pa.string() if pa.types.is_null(kind) else kind
