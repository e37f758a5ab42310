"""Records and tables as a table of the files' schema: exactly, or not at all."""

from collections.abc import Sequence

import pyarrow as pa

from prefect_batch.blocks.errors import DoesNotFit, UnknownColumn
from prefect_batch.blocks.kinds.cast import CONVERSION_ERRORS, cast_column
from prefect_batch.blocks.kinds.convert import to_arrow
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.suggestions import near


def fit_records(records: Sequence[Record], schema: pa.Schema) -> pa.Table:
    """Return the records as a table of this schema, with NULL where a record lacks a column.

    Raises:
        UnknownColumn: a record has a column that the schema does not have.
        DoesNotFit: a value is not exactly one of its column's type.
    """
    names = schema.names
    if not all(record.keys() == records[0].keys() for record in records) or records[0].keys() - names:
        for record in records:
            _check_names(record, names)
    return pa.table([_column(records, field) for field in schema], schema=schema)


def _column(records: Sequence[Record], field: pa.Field) -> pa.Array:
    array = to_arrow([record.get(field.name) for record in records], f"column {field.name} of the files", field.type)
    if array.null_count and not field.nullable:
        raise DoesNotFit(f"column {field.name} of the files takes no NULL")
    return array


def _check_names(found: Record | Sequence[str], names: list[str]) -> None:
    if unknown := set(found) - set(names):
        name = str(min(unknown, key=str))
        raise UnknownColumn(f"the files have no column {name}: {near(name, names)}")


def fit_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with the columns and types of this schema, with NULL for columns that it lacks.

    Raises:
        UnknownColumn: it has a column that the schema does not have.
        DoesNotFit: a column's values cannot be cast without loss.
    """
    if table.schema.equals(schema):
        return table
    _check_names(table.column_names, schema.names)
    return pa.table([_cast(table, field) for field in schema], schema=schema)


def _cast(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    try:
        return cast_column(table[field.name], field.type)
    except CONVERSION_ERRORS as error:
        raise DoesNotFit(
            f"column {field.name} of the files is {field.type}, and cannot hold these values exactly: {error}"
        ) from error
