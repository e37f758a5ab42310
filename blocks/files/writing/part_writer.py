"""One file of a sink in its format: written table by table, so that memory does not depend on its size."""

from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefect_batch.blocks.errors import BadSink, DoesNotFit
from prefect_batch.blocks.parameters.files import COMPRESSIONS, Format

__all__ = ["PartFormat", "PartWriter"]

# Row groups of this size are read quickly and held in memory easily, whatever the size of the batches.
GROUP_ROWS = 120_000
GROUP_BYTES = 32 * 2**20


class PartWriter(Protocol):
    """Takes tables of the file's schema."""

    def write(self, table: pa.Table) -> None:
        """Write these rows."""

    def close(self) -> None:
        """Write what a file of this format ends with; the file below it stays open."""


@dataclass(frozen=True)
class PartFormat:
    """The format of a sink's files; `delimiter` and `header` are those of CSV.

    `codec` compresses: text as a whole (gzip, zstd or None), Parquet within (None: zstd).
    """

    name: Format
    delimiter: str = ","
    header: bool = True
    codec: str | None = None

    @property
    def suffix(self) -> str:
        """What the files' names end with."""
        return f".{self.name}" + (COMPRESSIONS[self.codec] if self.packed and self.codec else "")

    @property
    def packed(self) -> bool:
        """Whether a file is one compressed stream."""
        return self.codec is not None and self.name != "parquet"

    def check(self, schema: pa.Schema) -> None:
        """Nothing, when the format can hold every column.

        Raises:
            BadSink: it cannot.
        """
        for field in schema if self.name == "csv" else ():
            if pa.types.is_nested(field.type) or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
                raise BadSink(
                    f"column {field.name} is {field.type}, which CSV cannot hold: let the processor make text of it, "
                    "or write Parquet",
                    column=field.name,
                )

    def check_values(self, table: pa.Table) -> None:
        """Nothing, when the format can hold every value.

        Raises:
            DoesNotFit: it cannot.
        """
        for name, column in zip(table.column_names, table.columns, strict=True) if self.name == "jsonl" else ():
            if any(_has_infinite(chunk) for chunk in column.chunks):
                raise DoesNotFit(f"column {name} has a number that JSON cannot hold: NaN or infinite")

    def open(self, file: Any, schema: pa.Schema) -> PartWriter:
        """A writer of this format into the file."""
        if self.name == "parquet":
            return _Parquet(file, schema, self.codec or "zstd")
        if self.packed:
            return _Packed(self, file, schema)
        return _Csv(file, schema, self) if self.name == "csv" else _JsonLines(file)


def _has_infinite(array: pa.Array) -> bool:
    if pa.types.is_floating(array.type):
        return not pc.all(pc.is_finite(array), min_count=0).as_py()
    if pa.types.is_struct(array.type) or pa.types.is_list(array.type):
        parts = array.flatten()
        return any(map(_has_infinite, parts if isinstance(parts, list) else [parts]))
    return False


class _Parquet:
    def __init__(self, file: Any, schema: pa.Schema, codec: str) -> None:
        self._writer = pq.ParquetWriter(file, schema, compression=codec)
        self._held: list[pa.Table] = []
        self._rows = self._bytes = 0

    def write(self, table: pa.Table) -> None:
        self._held.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._held), row_group_size=self._rows)
        self._held, self._rows, self._bytes = [], 0, 0

    def close(self) -> None:
        self._write_group()
        self._writer.close()


class _Csv:
    def __init__(self, file: Any, schema: pa.Schema, form: PartFormat) -> None:
        from pyarrow import csv

        # Text is quoted and NULL is nothing at all: so an empty text stays one.
        options = csv.WriteOptions(delimiter=form.delimiter, include_header=form.header)
        self._writer = csv.CSVWriter(file, schema, write_options=options)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, table: pa.Table) -> None:
        import orjson

        names = table.column_names
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        option = orjson.OPT_APPEND_NEWLINE
        lines = [orjson.dumps(dict(zip(names, row, strict=True)), _json, option) for row in rows]
        self._file.write(b"".join(lines))

    def close(self) -> None:
        pass


class _Packed:
    """Text as one compressed stream."""

    def __init__(self, form: PartFormat, file: Any, schema: pa.Schema) -> None:
        self._stream = pa.CompressedOutputStream(file, form.codec)
        self._writer = replace(form, codec=None).open(self._stream, schema)

    def write(self, table: pa.Table) -> None:
        self._writer.write(table)

    def close(self) -> None:
        self._writer.close()
        self._stream.close()


def _json(value: Any) -> Any:
    """What JSON has not: a decimal as text, bytes as base64, a duration in microseconds."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    raise TypeError(type(value).__qualname__)
