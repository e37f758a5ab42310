"""Columns that directories give to the files in them, such as ``year=2024/month=05/part.parquet``."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import unquote

import pyarrow as pa

from prefect_batch.blocks.errors import BadSource

_NULL = "__HIVE_DEFAULT_PARTITION__"


def directory_values(name: str) -> dict[str, str | None]:
    """Return the values that the directories in this path give, by column."""
    pairs = (part.partition("=") for part in PurePosixPath(name).parts[:-1])
    texts = {unquote(column): unquote(value) for column, mark, value in pairs if column and mark}
    return {column: None if text == _NULL else text for column, text in texts.items()}


def directory_columns(names: Iterable[str]) -> pa.Schema:
    """Return the columns that the directories of these files give: whole numbers if all are, and else text.

    Raises:
        BadSource: some files are in such a directory, and others are not.
    """
    found = [(name, directory_values(name)) for name in names]
    first, columns = found[0] if found else ("", {})
    for name, values in found:
        if values.keys() != columns.keys():
            raise BadSource(
                f"{name} is in directories that give the columns {', '.join(values) or 'none'}, and {first} in those "
                f"that give {', '.join(columns) or 'none'}: read them in jobs of their own",
                name,
            )
    return pa.schema([(column, _type_of({values[column] for _, values in found})) for column in columns])


def _type_of(texts: set[str | None]) -> pa.DataType:
    known = [text for text in texts if text is not None]
    whole = all(text.removeprefix("-").isdecimal() and str(int(text)) == text for text in known)
    return pa.int64() if known and whole and all(abs(int(text)) < 2**63 for text in known) else pa.string()


def directory_column(text: str | None, arrow: pa.DataType, count: int) -> pa.Array:
    """Return the column of a file of so many rows."""
    return pa.repeat(pa.scalar(text if text is None or arrow == pa.string() else int(text), arrow), count)
