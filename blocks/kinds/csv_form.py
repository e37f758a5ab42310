"""Converts columns to CSV and back, where pyarrow itself does not write or read a kind."""

from collections.abc import Sequence
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.cast import CONVERSION_ERRORS, cast_column
from prefect_batch.blocks.kinds.convert import to_arrow
from prefect_batch.blocks.kinds.kind import JSON, plain_type, written_moment

_AS_TEXT = (pa.uuid(), pa.string_view(), JSON)


def csv_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the columns that pyarrow writes for those of this schema."""
    return pa.schema([(field.name, _written(plain_type(field.type))) for field in schema])


def _written(arrow: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(arrow):
        return written_moment(arrow)
    return pa.string() if arrow in _AS_TEXT else arrow


def as_csv(table: pa.Table) -> pa.Table:
    """Return the table in the types of `csv_schema`."""
    schema = csv_schema(table.schema)
    if schema == table.schema:
        return table
    return pa.table([cast_column(table[field.name], field.type) for field in schema], schema=schema)


def csv_type(arrow: pa.DataType) -> pa.DataType:
    """Return the type that pyarrow reads from CSV before `from_csv` converts the column to this type."""
    if pa.types.is_float16(arrow):
        return pa.float32()
    return pa.string() if arrow in _AS_TEXT or pa.types.is_decimal256(arrow) else arrow


def from_csv(column: pa.ChunkedArray, arrow: pa.DataType, name: str, nulls: Sequence[str]) -> pa.ChunkedArray:
    """Convert a column of type `csv_type` to this type, with NULL for fields that are one of `nulls`.

    Raises:
        ArrowInvalid: a field is not one of this type.
    """
    if column.type == arrow:
        return column
    if pa.types.is_string(column.type) and arrow != pa.string_view():
        column = pc.if_else(pc.is_in(column, pa.array(nulls, pa.string())), None, column)
    try:
        if arrow == pa.uuid():
            return pa.chunked_array([to_arrow([v and UUID(v) for v in column.to_pylist()], "it", arrow)], arrow)
        return column.cast(arrow)
    except (*CONVERSION_ERRORS, DoesNotFit) as error:
        raise pa.ArrowInvalid(f"column {name}: {error}") from error
