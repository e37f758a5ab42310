"""The text files of a pass together: their columns, where their records begin, and roughly how many there are."""

import contextlib
import functools
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.file_list import File, FileList, Portion
from prefect_batch.blocks.files.reading.csv_parser import csv_parser, header_of
from prefect_batch.blocks.files.reading.file_system import FileSystem
from prefect_batch.blocks.files.reading.json_parser import json_parser, object_of
from prefect_batch.blocks.files.reading.text_columns import columns_of
from prefect_batch.blocks.files.reading.text_file import HEAD_BYTES, RecordStart, TextFile, packing_of
from prefect_batch.blocks.files.reading.text_parse import Parser
from prefect_batch.blocks.kinds.names import schema_of
from prefect_batch.blocks.kinds.of_values import SPARSE
from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.suggestions import near

if TYPE_CHECKING:
    from prefect_batch.blocks.parameters.text_form import TextForm

# Compressed text is assumed to be this many times as long once decompressed.
UNPACKED = 4
# The lines of the first file, and of each other one, from which columns and types are taken.
SAMPLE_RECORDS, OTHER_RECORDS = 1_000, 100


class _Top(NamedTuple):
    """The columns that a file names, and where its records begin."""

    names: list[str]
    data: RecordStart


def _one_column(spec: Files, names: list[str]) -> bool:
    return spec.format == "csv" and len(names) == 1


def _second(text: TextFile, first: RecordStart) -> RecordStart:
    """Return where the record after the first one starts, or the end of the file."""
    stretch = next(text.stretches(first, HEAD_BYTES))
    return stretch.following if len(stretch.starts) == 1 else stretch.start(1)


def _field(name: str, given: pa.Schema, sampled: pa.Schema | None = None) -> pa.Field:
    """Return a column as it is given, or else sampled. Records of JSON may lack one that no line of the sample has."""
    if name in given.names:
        metadata = None
        if sampled is not None:
            metadata = SPARSE if name not in sampled.names else sampled.field(name).metadata
        return given.field(name).with_metadata(metadata)
    return sampled.field(name) if sampled is not None and name in sampled.names else pa.field(name, pa.string())


def _no_lines(file: File) -> BadSource:
    return BadSource(
        f"{file.name} is one JSON document, and not a record on each line. Make lines of it, such as with: "
        f"jq -c '.[]' {file.name} > {file.name.rpartition('.')[0]}.jsonl (for an array), or jq -c . (for objects)",
        file.name,
    )


class TextSet:
    """Files of one form, of which the first that is not empty defines the columns of all."""

    def __init__(self, spec: Files, files: FileList | None = None) -> None:
        self.spec = spec
        self.system = FileSystem(spec)
        self._given = files
        self.open = functools.lru_cache(16)(self._open)
        self._parsers: dict[tuple[tuple[str, ...], TextForm], Parser] = {}
        self._tops: dict[str, _Top] = {}
        self._headers: dict[tuple[bytes, TextForm], list[str]] = {}

    @property
    def multiline(self) -> bool:
        """Whether a record may span several lines."""
        return self.spec.format == "csv" and self.spec.multiline and self.spec.quote is not None

    @cached_property
    def files(self) -> FileList:
        """The files of the pass, or those that exist now if none were given."""
        return FileList(self.system.list()) if self._given is None else self._given

    def _open(self, file: File) -> TextFile:
        text = TextFile(self.system, self.spec, file)
        if file.name not in self._tops:
            self._tops[file.name] = self._read_top(text)
        text.blank_lines_are_records = _one_column(self.spec, self._tops[file.name].names)
        return text

    @cached_property
    def first(self) -> File | None:
        """The first file that is not empty, or None if all are.

        If the pass has no files, this is one of those that exist now.
        """
        return next((file for file in self.files.files or self.system.list() if file.size), None)

    def data(self, file: File) -> RecordStart:
        """Return where the file's records begin."""
        return self._top(file).data

    def _top(self, file: File) -> _Top:
        if file.name not in self._tops:
            self.open(file)
        return self._tops[file.name]

    def _read_top(self, text: TextFile) -> _Top:
        names = self.spec.names or []
        if self.spec.format != "csv" or not self.spec.header:
            return _Top(names, text.first)
        for stretch in text.stretches(text.first, HEAD_BYTES):
            if len(stretch.starts):
                names = names or self._header(text, stretch.record(0))
                text.blank_lines_are_records = _one_column(self.spec, names)
                return _Top(names, _second(text, stretch.start(0)))
        return _Top(names, text.first)

    def _header(self, text: TextFile, line: bytes) -> list[str]:
        if (line, text.form) in self._headers:  # Most files have the same header.
            return self._headers[line, text.form]
        try:
            found = header_of(self.spec, text.form, text.form.as_utf8(line))
        except (UnicodeDecodeError, pa.ArrowInvalid) as error:
            raise BadSource(f"the first line of {text.file.name} cannot be read as column names: {error}") from error
        self._check_header(text.file, found)
        self._headers[line, text.form] = found
        return found

    def _check_header(self, file: File, found: list[str]) -> None:
        if self.spec.names:
            if len(self.spec.names) != len(found):
                raise BadSource(
                    f"{file.name} has {len(found)} columns ({', '.join(found)}), and names has {len(self.spec.names)}"
                )
            return
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            raise BadSource(
                f"{file.name} has more than one column {', '.join(twice)}: give each column its own name with names=[…]"
            )

    @cached_property
    def _names(self) -> list[str]:
        """The columns of the first file of CSV."""
        if self.spec.names:
            return self.spec.names
        if not self.spec.header:
            raise BadSource(f"{self.spec.path}: header=False needs the columns' names with names=[…]")
        if self.first is None or not (names := self._top(self.first).names):
            raise BadSource(f"{self.spec.path} has no line of column names: every file is empty")
        return names

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns that are read, with the types that were given or sampled, or else text.

        Raises:
            BadSource: a file of the pass has other columns, or other kinds of values in them, than another one.
        """
        if self._given is None:
            return self._compared([self.first] if self.first else [])
        if self._given.schema is None:
            compared = self._compared([file for file in self._given.files if file.size] or [self.first])
            self._given.schema = compared.serialize().to_pybytes()
        return pa.ipc.read_schema(pa.py_buffer(self._given.schema))

    def _compared(self, files: Sequence[File | None]) -> pa.Schema:
        """Return the columns of these files."""
        given = schema_of(self.spec.schema or {})
        there = [file for file in files if file is not None]
        if not there and not self.files.files:
            return pa.schema([_field(name, given) for name in self.spec.columns or given.names])
        sampled: pa.Schema | None = None
        if self.spec.format == "jsonl":
            sampled = self._sampled(there, given.names)
            # A column that the first lines lack may appear later. One that has a type in `schema` is assumed to.
            names = list(dict.fromkeys([*sampled.names, *given.names]))
        else:
            names = self._names
            deque(self.system.each(self._check_names, there), maxlen=0)
        for what, wanted in (("columns", self.spec.columns), ("schema", given.names)):
            for name in wanted or []:
                if name not in names:
                    path, meant = self.spec.path, near(name, names)
                    raise BadSource(f"{path} has no column {name}, as {what} says: {meant}", path, name, meant)
        return pa.schema([_field(name, given, sampled) for name in self.spec.columns or names])

    def _sampled(self, files: Sequence[File], typed: list[str]) -> pa.Schema:
        """Return the columns in the first lines of these files."""
        samples = zip((file.name for file in files), self.system.each(self._first_lines, files), strict=True)
        return columns_of(samples, typed, self.spec.columns)

    def _first_lines(self, file: File) -> list[dict[str, Any]]:
        """Return the first lines of JSON. Those that cannot be read are left out, and fail when read.

        Raises:
            BadSource: the file is not one of lines.
        """
        text, found = self.open(file), []
        head = text.head()
        if head.lstrip()[:1] == b"[" and b"\n" not in head.strip():
            raise _no_lines(file)
        stretch = next(text.stretches(text.first, HEAD_BYTES), None)
        most = SAMPLE_RECORDS if file == self.first else OTHER_RECORDS
        lines = [stretch.record(place) for place in range(min(most, len(stretch.starts)))] if stretch else []
        for line in lines:
            with contextlib.suppress(ValueError):
                found.append(object_of(text.form.as_utf8(line).decode()))
        if lines and text.form.as_utf8(lines[0]).strip() in (b"[", b"{", b"[{"):
            raise _no_lines(file)
        return found

    def _check_names(self, file: File) -> None:
        """Raise BadSource unless the CSV file has the columns of the first one."""
        names = self._top(file).names
        if set(names) != set(self._names):
            other = self.first.name if self.first else ""
            lacks, adds = ([n for n in a if n not in b] for a, b in ((self._names, names), (names, self._names)))
            raise BadSource(
                f"{file.name} has other columns than {other}: it lacks {', '.join(lacks) or 'none'}, and has "
                f"{', '.join(adds) or 'none'} besides. Read it in a job of its own"
            )

    def parser(self, file: File) -> Parser:
        """Return the parser for the file's records.

        Raises:
            BadSource: the file has other columns than the first one.
        """
        names, form = self._top(file).names, self.open(file).form
        if self.spec.format == "csv":
            self._check_names(file)
        if (key := (tuple(names), form)) not in self._parsers:
            self._parsers[key] = (
                csv_parser(self.spec, names, self.schema, form)
                if self.spec.format == "csv"
                else json_parser(
                    self.schema, others=self.spec.columns is not None, sampled=not self.spec.schema, form=form
                )
            )
        return self._parsers[key]

    @cached_property
    def record_bytes(self) -> float:
        """The average size of the first records, in bytes."""
        if self.first is not None:
            text = self.open(self.first)
            start = self.data(self.first)
            for stretch in text.stretches(start, HEAD_BYTES):
                if count := len(stretch.starts):
                    return max(1.0, (stretch.following.offset - start.offset) / count)
        return 100.0

    def records_in(self, portion: Portion) -> int:
        """Return roughly how many records the portion has."""
        header = self.data(self.first).offset if self.first else 0  # Assumes a header this long in every file.
        start = header if portion.after is None else portion.after[1]
        stop = portion.file.size if portion.upto is None else portion.upto[1]
        packed = UNPACKED if packing_of(self.spec, portion.file) else 1
        return max(0, round((stop - start) * packed / self.record_bytes))
