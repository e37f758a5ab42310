"""Writes one file of a sink table by table, so that memory does not depend on the file's size."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from prefect_batch.blocks.errors import BadSink
from prefect_batch.blocks.kinds.csv_form import as_csv, csv_schema
from prefect_batch.blocks.kinds.json_form import check_json, json_default, json_values
from prefect_batch.blocks.kinds.kind import kind_of, plain_type
from prefect_batch.blocks.parameters.files import COMPRESSIONS, Format

_WRITTEN: dict[str, str] = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON"}

# Row groups of this size are read quickly and held in memory easily, whatever the size of the batches.
GROUP_ROWS = 120_000
GROUP_BYTES = 32 * 2**20


def written_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with types that every format has, where several types can hold the same values."""
    return pa.schema([(field.name, _written_type(field.type)) for field in schema])


def _written_type(arrow: pa.DataType) -> pa.DataType:
    plain = plain_type(arrow)
    return pa.string() if pa.types.is_null(plain) or pa.types.is_string_view(plain) else plain


class PartWriter(Protocol):
    """Writes tables of the file's schema."""

    def write(self, table: pa.Table) -> None:
        """Write these rows."""

    def close(self) -> None:
        """Write what a file of this format ends with, and leave the underlying file open."""


@dataclass(frozen=True)
class PartFormat:
    """The format of a sink's files.

    Attributes:
        delimiter: CSV: the character between fields.
        header: CSV: whether each file begins with a line of column names.
        codec: For text, the compression of the whole file (gzip, zstd, or None for none). For Parquet, the
            compression within the file (None is zstd).
    """

    name: Format
    delimiter: str = ","
    header: bool = True
    codec: str | None = None

    @property
    def suffix(self) -> str:
        """The ending of the files' names."""
        name = "tsv" if self.name == "csv" and self.delimiter == "\t" else self.name
        return f".{name}" + (COMPRESSIONS[self.codec] if self.packed and self.codec else "")

    @property
    def packed(self) -> bool:
        """Whether a file is one compressed stream."""
        return self.codec is not None and self.name != "parquet"

    def check(self, schema: pa.Schema) -> None:
        """Raise BadSink unless the format can hold every column."""
        for field in schema:
            if self.name in kind_of(field.type).refused:
                raise BadSink(
                    f"column {field.name} is {field.type}, which {_WRITTEN[self.name]} cannot hold: let the processor "
                    "make text of it, or write another format",
                    column=field.name,
                )

    def check_values(self, table: pa.Table) -> None:
        """Raise DoesNotFit unless the format can hold every value."""
        for name, column in zip(table.column_names, table.columns, strict=True) if self.name == "jsonl" else ():
            check_json(column, name)

    def open(self, file: Any, schema: pa.Schema) -> PartWriter:
        """Return a writer that writes this format into the file."""
        if self.name == "parquet":
            return _Parquet(file, schema, self.codec or "zstd")
        if self.packed:
            return _Packed(self, file, schema)
        return _Csv(file, schema, self) if self.name == "csv" else _JsonLines(file)


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

        # Text is quoted and NULL is left empty, so that an empty text does not become NULL.
        options = csv.WriteOptions(delimiter=form.delimiter, include_header=form.header)
        self._writer = csv.CSVWriter(file, csv_schema(schema), write_options=options)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(as_csv(table))

    def close(self) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, table: pa.Table) -> None:
        import orjson

        names = table.column_names
        rows = zip(*map(json_values, table.columns), strict=True)
        option = orjson.OPT_APPEND_NEWLINE
        lines = [orjson.dumps(dict(zip(names, row, strict=True)), json_default, option) for row in rows]
        self._file.write(b"".join(lines))

    def close(self) -> None:
        pass


class _Packed:
    """Writes text as one compressed stream."""

    def __init__(self, form: PartFormat, file: Any, schema: pa.Schema) -> None:
        self._stream = pa.CompressedOutputStream(file, form.codec)
        self._writer = replace(form, codec=None).open(self._stream, schema)

    def write(self, table: pa.Table) -> None:
        self._writer.write(table)

    def close(self) -> None:
        self._writer.close()
        self._stream.close()
