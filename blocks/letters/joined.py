"""Brings letters of different files to one schema: the records may differ in their columns, and in their types."""

from collections.abc import Iterable

import pyarrow as pa

from prefect_batch.blocks.kinds.cast import CONVERSION_ERRORS
from prefect_batch.blocks.kinds.convert import values_of
from prefect_batch.blocks.kinds.widest import widest


def joined_type(records: Iterable[pa.StructType]) -> pa.StructType:
    """Return the type of records with all the columns of these, as text where no type holds the values of all."""
    fields: dict[str, pa.DataType] = {}
    for record in records:
        for field in record:
            known = fields.get(field.name)
            fields[field.name] = field.type if known is None else widest(known, field.type) or pa.string()
    return pa.struct(list(fields.items()))


def with_records(table: pa.Table, record: pa.StructType) -> pa.Table:
    """Return the letters with their column ``record`` as this type, which is that of `joined_type`."""
    place = table.schema.get_field_index("record")
    if place < 0 or table.schema.field(place).type == record:
        return table
    found = table.column(place).combine_chunks()
    columns = dict(zip((field.name for field in found.type), found.flatten(), strict=True))
    parts = [_part(columns.get(field.name), field.type, len(found)) for field in record]
    return table.set_column(place, "record", pa.StructArray.from_arrays(parts, fields=list(record)))


def _part(column: pa.Array | None, arrow: pa.DataType, count: int) -> pa.Array:
    if column is None:
        return pa.nulls(count, arrow)
    try:
        return column.cast(arrow)
    except CONVERSION_ERRORS:
        return pa.array([None if value is None else str(value) for value in values_of(column)], arrow)
