"""Records as a table of a fixed schema: exactly, or not at all."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from prefect_batch.blocks.batches import Record
from prefect_batch.blocks.errors import DoesNotFit, UnknownColumn
from prefect_batch.blocks.suggestions import near

__all__ = ["FIT_ERRORS", "fit_column", "fit_records", "fit_table", "plain_value"]

_NONE = type(None)
FIT_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)
# What Python values an Arrow type takes as they are; pyarrow itself would cut a datetime to its date, or take 1 for a
# moment in 1970. In the order in which a column's type is told from its values.
_EXACT: tuple[tuple[Callable[[pa.DataType], bool], tuple[Any, ...]], ...] = (
    (pa.types.is_boolean, (bool,)),
    (pa.types.is_integer, (int,)),
    (pa.types.is_floating, (float, int)),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), (str,)),
    (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind), (bytes, bytearray, memoryview)),
    (pa.types.is_decimal, (Decimal, int)),
    (pa.types.is_timestamp, (datetime,)),
    (pa.types.is_date, (date,)),
    (pa.types.is_time, (time,)),
    (pa.types.is_duration, (timedelta,)),
    (pa.types.is_nested, (dict, list)),
)


def fit_records(records: Sequence[Record], schema: pa.Schema) -> pa.Table:
    """The records as a table of this schema; a column that a record lacks is NULL in it.

    Raises:
        UnknownColumn: a record has a column that the schema has not.
        DoesNotFit: a value is not exactly one of its column's type.
    """
    names = schema.names
    if not all(record.keys() == records[0].keys() for record in records) or records[0].keys() - names:
        _check_names(records, names)
    return pa.table([fit_column([record.get(f.name) for record in records], f) for f in schema], schema=schema)


def _check_names(records: Sequence[Record], names: list[str]) -> None:
    known = set(names)
    for record in records:
        if unknown := record.keys() - known:
            name = str(min(unknown, key=str))
            raise UnknownColumn(f"the files have no column {name}: {near(name, names)}")


def fit_column(values: list[Any], field: pa.Field) -> pa.Array:
    """The values as a column of this field.

    Raises:
        DoesNotFit: one is not exactly of its type.
    """
    kinds = _exact(field.type)
    if not {type(value) for value in values} <= {*kinds, _NONE}:
        values = [plain_value(value, field.type) for value in values]
        for value in values:
            if type(value) not in (*kinds, _NONE):
                raise _misfit(value, field)
    try:
        array = pa.array(values, type=field.type)
    except FIT_ERRORS as error:
        raise _misfit_among(values, field) from error
    _check_exact(values, field)
    if array.null_count and not field.nullable:
        raise DoesNotFit(f"column {field.name} of the files takes no NULL")
    return array


def _exact(kind: pa.DataType) -> tuple[Any, ...]:
    return next((kinds for is_kind, kinds in _EXACT if is_kind(kind)), ())


def _check_exact(values: list[Any], field: pa.Field) -> None:
    """What pyarrow would alter without a word: zones that it adds or drops, and keys that a struct has not."""
    if pa.types.is_timestamp(field.type):
        zoned = field.type.tz is not None
        for value in values:
            if value is not None and (value.tzinfo is not None) != zoned:
                raise _misfit(value, field)
    elif pa.types.is_time(field.type):
        for value in values:
            if value is not None and value.tzinfo is not None:
                raise _misfit(value, field)
    elif pa.types.is_nested(field.type):
        for value in values:
            if value is not None and not _nested_fits(value, field.type):
                raise _misfit(value, field)


def _nested_fits(value: Any, kind: pa.DataType) -> bool:
    if value is None or not pa.types.is_nested(kind):
        return value is None or type(value) in _exact(kind)
    if pa.types.is_struct(kind):
        known = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
        return isinstance(value, dict) and all(k in known and _nested_fits(v, known[k]) for k, v in value.items())
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and isinstance(value, list) and all(_nested_fits(each, kind.value_type) for each in value)


def plain_value(value: Any, kind: pa.DataType) -> Any:
    """The value as Python's own types have it, where that changes nothing."""
    module = type(value).__module__.partition(".")[0]
    if module == "numpy" and hasattr(value, "item"):
        return value.item()
    if module == "pandas":
        return _plain_pandas(value)
    if isinstance(value, UUID) and pa.types.is_string(kind):
        return str(value)
    for base in _exact(kind):
        # A subclass: an enumeration's member, a text of some library. A datetime is no date, and True no number.
        if isinstance(value, base) and not isinstance(value, (bool, datetime)):
            return base(value) if base in (int, float, str) else value
    return value


def _plain_pandas(value: Any) -> Any:
    import pandas as pd

    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, pd.Timestamp) and value.nanosecond == 0:
        return value.to_pydatetime()
    if isinstance(value, pd.Timedelta) and value.nanoseconds == 0:
        return value.to_pytimedelta()
    return value


def _misfit_among(values: list[Any], field: pa.Field) -> DoesNotFit:
    for value in values:
        try:
            pa.scalar(value, type=field.type)
        except FIT_ERRORS:
            return _misfit(value, field)
    return _misfit(values[0], field)


def _misfit(value: Any, field: pa.Field) -> DoesNotFit:
    text = repr(value)
    shown = text if len(text) <= 80 else text[:77] + "…"
    return DoesNotFit(
        f"column {field.name} of the files is {field.type}, and cannot hold {shown} ({type(value).__name__}) exactly; "
        "schema= of the sink can name another type"
    )


def fit_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns and types of this schema; columns that it lacks are NULL.

    Raises:
        UnknownColumn: it has a column that the schema has not.
        DoesNotFit: a column's values cannot be cast without loss.
    """
    if table.schema.equals(schema):
        return table
    if unknown := [name for name in table.column_names if name not in schema.names]:
        raise UnknownColumn(f"the files have no column {unknown[0]}: {near(unknown[0], schema.names)}")
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        try:
            columns.append(column if column.type == field.type else _cast(column, field))
        except FIT_ERRORS as error:
            raise DoesNotFit(
                f"column {field.name} of the files is {field.type}, and cannot hold these values exactly: {error}"
            ) from error
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """A safe cast between types of one kind; between kinds, such as text and numbers, nothing is cast."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_null(column.type):
        before, after = _exact(column.type), _exact(field.type)
        zones = [getattr(kind, "tz", None) is None for kind in (column.type, field.type)]
        if not (set(before) <= set(after) and zones[0] == zones[1]):
            raise TypeError(f"they are {column.type}")
    if pa.types.is_integer(column.type) and pa.types.is_decimal(field.type):
        column = column.cast(pa.decimal128(20, 0))  # Else pyarrow wants room for every number of its type.
    return column.cast(field.type, safe=True)
