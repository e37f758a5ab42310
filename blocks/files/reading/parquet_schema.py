"""Checks that the files of a pass have the same columns, and chooses which of those are read."""

from collections.abc import Iterable

import pyarrow as pa

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.kinds.kind import plain_type
from prefect_batch.blocks.kinds.widest import widest
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


def compared(files: Iterable[tuple[str, pa.Schema]], *, exactly: bool) -> pa.Schema:
    """Return the schema in which all files can be read, with the widest type where they differ.

    Args:
        files: The names of the files, and their columns.
        exactly: Whether another file may have no column besides those of the first one.

    Raises:
        BadSource: a file has other columns than the first one, or no type holds the values of two files exactly.
    """
    fields: dict[str, tuple[str, pa.Field]] = {}
    for file, schema in files:
        if not fields:
            fields = {field.name: (file, field) for field in schema}
            continue
        _check_names(schema, list(fields), file, exactly=exactly)
        for name, (other, known) in fields.items():
            field = schema.field(name)
            if (arrow := widest(known.type, field.type)) is None:
                raise BadSource(
                    f"{file} has {field.type} in column {name}, and {other} has {known.type}, and no type holds both "
                    "exactly: write them alike, or read them in jobs of their own",
                    file,
                    name,
                )
            origin = other if arrow == known.type else file
            fields[name] = (origin, pa.field(name, arrow, known.nullable or field.nullable))
    return pa.schema([field for _, field in fields.values()])


def _check_names(found: pa.Schema, wanted: list[str], file: str, *, exactly: bool) -> None:
    lacks = [name for name in wanted if name not in found.names]
    adds = [name for name in found.names if name not in wanted] if exactly else []
    if lacks or adds:
        raise BadSource(
            f"{file} has other columns than the first file: it lacks {', '.join(lacks) or 'none'}, and has "
            f"{', '.join(adds) or 'none'} besides. Read it in a job of its own, or name common columns with columns=[…]"
        )
