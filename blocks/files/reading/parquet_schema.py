"""Checks that the files of a pass have the same columns, and chooses which of those are read."""

import pyarrow as pa

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.kinds.kind import plain_type
from prefect_batch.blocks.suggestions import near


def without_metadata(schema: pa.Schema) -> pa.Schema:
    """Return the schema without details of how the file was written: dictionary encodings and pandas metadata."""
    return pa.schema([pa.field(field.name, plain_type(field.type), field.nullable) for field in schema])


def read_columns(schema: pa.Schema, columns: list[str] | None, file: str) -> pa.Schema:
    """Return the schema of the columns to read, or of all columns if `columns` is None.

    Raises:
        BadSource: a column does not exist, or two have the same name.
    """
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise BadSource(f"{file} has more than one column {', '.join(twice)}: a record cannot have both")
    for name in columns or []:
        if name not in schema.names:
            meant = near(name, schema.names)
            raise BadSource(f"{file} has no column {name}: {meant}", file, name, meant)
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def as_schema(found: pa.Schema, wanted: pa.Schema, file: str, *, exactly: bool) -> None:
    """Raise BadSource unless a file with the columns `found` can be read as `wanted` without loss.

    Raises:
        BadSource: the file lacks a column, has one of another type, or, with `exactly`, has an extra one.
    """
    lacks = [name for name in wanted.names if name not in found.names]
    adds = [name for name in found.names if name not in wanted.names] if exactly else []
    if lacks or adds:
        raise BadSource(
            f"{file} has other columns than the first file: it lacks {', '.join(lacks) or 'none'}, and has "
            f"{', '.join(adds) or 'none'} besides. Read it in a job of its own, or name common columns with columns=[…]"
        )
    for field in wanted:
        other = found.field(field.name).type
        if not _fits(other, field.type):
            raise BadSource(
                f"{file} has {other} in column {field.name}, and the first file has {field.type}: write them alike",
                file,
                field.name,
            )


def _fits(other: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether a cast from the type `other` to `wanted` keeps every value or fails."""
    if other == wanted or pa.types.is_null(other):
        return True
    integers, texts = pa.types.is_integer, (pa.types.is_string, pa.types.is_large_string)
    if integers(other) and integers(wanted):
        return bool(other.bit_width <= wanted.bit_width)
    if pa.types.is_timestamp(other) and pa.types.is_timestamp(wanted):
        return bool(other.tz == wanted.tz)
    return any(is_text(other) for is_text in texts) and any(is_text(wanted) for is_text in texts)
