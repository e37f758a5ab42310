"""Casts columns from one Arrow type to another without loss, or raises an error."""

from types import NoneType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from prefect_batch.blocks.kinds.kind import JSON, plain_type, python_types

CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)


def cast_column(column: pa.ChunkedArray, arrow: pa.DataType) -> pa.ChunkedArray:
    """Cast the column to this type, which must be of the same kind. Text and numbers are not cast to one another.

    Raises:
        ArrowException, TypeError: a value would be altered.
    """
    if column.type == arrow:
        return column
    column = column.cast(plain_type(column.type))
    if column.type == JSON and is_.is_string(arrow):
        return column.cast(arrow)  # Its text, as CSV has it.
    if not _same_values(column.type, arrow):
        raise TypeError(f"they are {column.type}")
    if is_.is_integer(column.type) and is_.is_decimal(arrow):
        column = column.cast(pa.decimal128(20, 0))  # Otherwise pyarrow asks for room for every number of its type.
    if column.type == JSON:
        raise TypeError("they are documents")
    if column.type == pa.uuid() and arrow != pa.uuid():
        return pa.chunked_array([pa.array([v and str(v) for v in column.to_pylist()], arrow)], arrow)
    if is_.is_floating(column.type) and arrow in (pa.float16(), pa.float32()):
        return narrow(column, arrow)
    return column.cast(arrow, safe=True)


def _same_values(before: pa.DataType, after: pa.DataType) -> bool:
    """Return whether the values of one type are, in Python, values that the other accepts."""
    if is_.is_null(before) or before == after:
        return True
    if is_.is_struct(before) and is_.is_struct(after):
        names = [[arrow.field(n).name for n in range(arrow.num_fields)] for arrow in (before, after)]
        return set(names[0]) <= set(names[1]) and all(
            _same_values(before.field(name).type, after.field(name).type) for name in names[0]
        )
    if is_.is_nested(before) or is_.is_nested(after):
        parts = [getattr(arrow, "value_type", None) for arrow in (before, after)]
        return type(before) is type(after) and None not in parts and _same_values(parts[0], parts[1])
    if before == pa.uuid():
        return str in python_types(after)
    zones = [getattr(arrow, "tz", None) is None for arrow in (before, after)]
    kinds = [python_types(arrow) - {NoneType} for arrow in (before, after)]
    return bool(kinds[0]) and kinds[0] <= kinds[1] and zones[0] == zones[1]


def narrow(column: Any, arrow: pa.DataType) -> Any:
    """Return the floats with fewer bits.

    Raises:
        ArrowInvalid: a float would be rounded.
    """
    narrow = column.cast(arrow, safe=False)
    back = narrow.cast(column.type)
    if not pc.all(pc.or_(pc.equal(back, column), pc.is_nan(column)), min_count=0).as_py():
        raise pa.ArrowInvalid(f"one of them is rounded to {arrow}")
    return narrow
