"""The text files of a pass together: their columns, where their records begin, and roughly how many there are."""

import functools
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.file_list import File, FileList, Portion
from prefect_batch.blocks.files.reading.csv_parser import csv_parser, header_of
from prefect_batch.blocks.files.reading.file_system import FileSystem
from prefect_batch.blocks.files.reading.json_parser import columns_of, json_parser, object_of
from prefect_batch.blocks.files.reading.text_file import HEAD_BYTES, RecordStart, TextFile, packing_of
from prefect_batch.blocks.files.reading.text_parse import Parser
from prefect_batch.blocks.kinds.names import schema_of
from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.suggestions import near

if TYPE_CHECKING:
    from prefect_batch.blocks.parameters.text_form import TextForm

# Compressed text is assumed to be this many times as long once decompressed.
UNPACKED = 4
SAMPLE_RECORDS = 1_000


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
        """The columns of the first file."""
        if self.spec.format == "jsonl":
            return list(self._sampled.names)
        if self.spec.names:
            return self.spec.names
        if not self.spec.header:
            raise BadSource(f"{self.spec.path}: header=False needs the columns' names with names=[…]")
        if self.first is None or not (names := self._top(self.first).names):
            raise BadSource(f"{self.spec.path} has no line of column names: every file is empty")
        return names

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns that are read, with the types that were given or sampled, or else text."""
        given = schema_of(self.spec.schema or {})
        if self.first is None and not self.files.files:
            return pa.schema([self._field(name, given) for name in self.spec.columns or given.names])
        names = self._names
        if self.spec.format == "jsonl":
            # A column that the first lines lack may appear later. One that has a type in `schema` is assumed to.
            names = list(dict.fromkeys([*names, *given.names]))
        for what, wanted in (("columns", self.spec.columns), ("schema", given.names)):
            for name in wanted or []:
                if name not in names:
                    path, meant = self.spec.path, near(name, names)
                    raise BadSource(f"{path} has no column {name}, as {what} says: {meant}", path, name, meant)
        return pa.schema([self._field(name, given) for name in self.spec.columns or names])

    def _field(self, name: str, given: pa.Schema) -> pa.Field:
        if name in given.names:
            return given.field(name)
        sampled = self._sampled if self.spec.format == "jsonl" else pa.schema([])
        return sampled.field(name) if name in sampled.names else pa.field(name, pa.string())

    @cached_property
    def _sampled(self) -> pa.Schema:
        """The columns in the first lines of JSON. Lines that cannot be read are skipped here, and fail when read."""
        found = []
        if self.first is not None:
            text = self.open(self.first)
            stretch = next(text.stretches(text.first, HEAD_BYTES), None)
            for place in range(min(SAMPLE_RECORDS, len(stretch.starts)) if stretch else 0):
                try:
                    found.append(object_of(text.form.as_utf8(stretch.record(place)).decode()))  # type: ignore[union-attr]
                except ValueError:
                    continue
        return columns_of(found)

    def parser(self, file: File) -> Parser:
        """Return the parser for the file's records.

        Raises:
            BadSource: the file has other columns than the first one.
        """
        names = self._top(file).names
        if self.spec.format == "csv" and set(names) != set(self._names):
            other = self.first.name if self.first else ""
            lacks, adds = ([n for n in a if n not in b] for a, b in ((self._names, names), (names, self._names)))
            raise BadSource(
                f"{file.name} has other columns than {other}: it lacks {', '.join(lacks) or 'none'}, and has "
                f"{', '.join(adds) or 'none'} besides. Read it in a job of its own"
            )
        form = self.open(file).form
        if (key := (tuple(names), form)) not in self._parsers:
            self._parsers[key] = (
                csv_parser(self.spec, names, self.schema, form)
                if self.spec.format == "csv"
                else json_parser(self.schema, others=self.spec.columns is not None, form=form)
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
