"""One text file, read in stretches of whole records, from the start of any record on."""

import contextlib
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.file_list import File
from prefect_batch.blocks.files.reading.file_system import FileSystem
from prefect_batch.blocks.files.reading.record_ends import Ends, RecordEnds
from prefect_batch.blocks.parameters.files import Files, ending_of
from prefect_batch.blocks.parameters.text_form import TextForm, text_form

BLOCK_BYTES = 2**20
# Blocks that fit into the CPU's cache are searched for ends twice as fast.
SEARCH_BYTES = 128 * 2**10
# A quote that is never closed would take the rest of the file into one record.
MOST_RECORD_BYTES = 64 * 2**20
# Read at once: the byte order mark, the header and the first records.
HEAD_BYTES = 64 * 2**10
_NONE = np.empty(0, np.int64)


class RecordStart(NamedTuple):
    """Where a record starts.

    Attributes:
        offset: Its first byte in the file, or in the decompressed content.
        line: Its line, counted from 1. None if it is not known.
    """

    offset: int
    line: int | None


class Stretch(NamedTuple):
    """Consecutive whole records of a text file, without blank lines between them that are no records.

    Attributes:
        raw: The bytes of the file that contain the records.
        base: The byte of the file at which `raw` begins.
        starts: Where each record starts in `raw`.
        ends: Where each record ends in `raw`.
        lines: The line of each record. None if the lines are not known.
        following: Where the next record starts.
        unclosed: Whether the last record has an open quote, and thus contains the rest of the file.
    """

    raw: bytes
    base: int
    starts: Any
    ends: Any
    lines: Any
    following: RecordStart
    unclosed: bool

    def start(self, place: int) -> RecordStart:
        """Return where the record at this index starts."""
        return RecordStart(self.base + int(self.starts[place]), None if self.lines is None else int(self.lines[place]))

    def record(self, place: int) -> bytes:
        """Return the bytes of the record at this index, with the end of its line."""
        return self.raw[int(self.starts[place]) : int(self.ends[place])]

    def part(self, first: int, stop: int) -> "Stretch":
        """Return the records with the indexes ``[first, stop)``."""
        lines = None if self.lines is None else self.lines[first:stop]
        following = self.following if stop >= len(self.starts) else self.start(stop)
        unclosed = self.unclosed and stop >= len(self.starts)
        return self._replace(
            starts=self.starts[first:stop],
            ends=self.ends[first:stop],
            lines=lines,
            following=following,
            unclosed=unclosed,
        )


def packing_of(spec: Files, file: File) -> str | None:
    """Return the compression of the file.

    Returns:
        ``gzip`` or ``zstd``, or None for plain text.
    """
    packed = spec.compression if spec.compression is not None else ending_of(file.name)[1]
    return None if packed == "none" else packed


class TextFile:
    """A text file of a pass, as it was when the pass began."""

    def __init__(self, system: FileSystem, spec: Files, file: File) -> None:
        self._system, self._spec, self.file = system, spec, file
        self.packing = packing_of(spec, file)
        self._cached = system.read(file.name, 0, min(file.size, HEAD_BYTES)) if not self.packing else b""
        head = self._cached[:4] if not self.packing else next(self._blocks(0, 4, 1), b"")
        # Where each line is a record, quotes do not matter for where records end.
        quote = spec.quote if spec.multiline else None
        delimiter, quote, escape = (
            (spec.delimiter_of(file.name), quote, spec.escape) if spec.format == "csv" else (None, None, None)
        )
        self.form: TextForm = text_form(spec.encoding, delimiter, quote, escape, head)
        self.first = RecordStart(self.form.mark(head), 1)
        # In CSV of one column, a blank line is a record with an empty field. So are NULLs written.
        self.blank_lines_are_records = False

    def head(self) -> bytes:
        """Return the first bytes of the content, as UTF-8 as far as they are text."""
        raw = next(self._blocks(self.first.offset, HEAD_BYTES, self.form.width), b"")
        return raw.decode(self.form.encoding, "replace").encode("utf-8", "replace")

    def stretches(self, start: RecordStart, block_bytes: int = BLOCK_BYTES) -> Iterator[Stretch]:
        """Yield all records from `start` on, in stretches.

        Raises:
            BadSource: a record does not end within 64 MB, or the file cannot be decompressed.
        """
        finder, kept, lines_kept = RecordEnds(self.form), b"", _NONE
        for block in self._blocks(start.offset, block_bytes, self.form.width):
            ends = _shifted(_search(finder, block), len(kept))
            if len(lines_kept):
                ends = Ends(ends.records, np.concatenate([lines_kept, ends.lines]))
            kept += block
            if not len(ends.records):
                self._check_length(kept, start)
                lines_kept = ends.lines
                continue
            cut = int(ends.records[-1])
            stretch = self._stretch(kept[:cut], start, ends, unclosed=False)
            yield stretch
            start, kept, lines_kept = stretch.following, kept[cut:], ends.lines[ends.lines > cut] - cut
        if kept:
            yield self._stretch(kept, start, Ends(np.array([len(kept)]), lines_kept), unclosed=finder.inside)

    def _stretch(self, raw: bytes, start: RecordStart, ends: Ends, *, unclosed: bool) -> Stretch:
        (base, line), stops = start, ends.records
        starts = np.concatenate([[0], stops[:-1]])
        lines = ends.lines[ends.lines <= len(raw)]
        following = RecordStart(base + len(raw), None if line is None else line + len(lines))
        numbers = None
        if line is not None:
            same = ends.records is ends.lines
            numbers = line + (np.arange(len(starts)) if same else np.searchsorted(lines, starts, side="right"))
        if not self.blank_lines_are_records and (blank := self._blank(raw, starts, stops)).any():
            starts, stops = starts[~blank], stops[~blank]
            numbers = None if numbers is None else numbers[~blank]
        return Stretch(raw, base, starts, stops, numbers, following, unclosed)

    def _blank(self, raw: bytes, starts: Any, stops: Any) -> Any:
        """Return which records consist only of a line end."""
        width = self.form.width
        short = np.asarray(stops - starts <= 2 * width)
        if short.any():
            units = np.frombuffer(raw[: len(raw) - len(raw) % width], self.form.unit)
            places = np.flatnonzero(short)
            first = units[np.minimum(starts[places] // width, len(units) - 1)]
            short[places] = (first == 10) | (first == 13)
        return short

    def _check_length(self, kept: bytes, start: RecordStart) -> None:
        if len(kept) > MOST_RECORD_BYTES:
            where = f"byte {start.offset:,}" if start.line is None else f"line {start.line:,}"
            raise BadSource(
                f"the record that begins at {where} of {self.file.name} has not ended after "
                f"{MOST_RECORD_BYTES // 2**20} MB: is a quote not closed? Mend the file, or read it with quote=None if "
                "its quotes mean nothing"
            )

    def _blocks(self, start: int, size: int, width: int) -> Iterator[bytes]:
        """Yield the file's bytes from `start` on.

        No block ends within a character, or between a carriage return and a line feed.
        """
        with contextlib.closing(self._reads(start, size)) as reads:
            kept = b""
            for read in reads:
                block = kept + read
                whole = len(block) - len(block) % width
                # A carriage return may be half of a line end: keep it until the next bytes are read.
                if whole and block[whole - width : whole].strip(b"\0") == b"\r":
                    whole -= width
                block, kept = block[:whole], block[whole:]
                if block:
                    yield block
            if kept:
                yield kept

    def _reads(self, start: int, size: int) -> Generator[bytes, None, None]:
        if self.packing:
            yield from self._unpacked(start, size)
            return
        while start < self.file.size:
            stop = min(start + size, self.file.size)
            cached = stop <= len(self._cached)
            read = self._cached[start:stop] if cached else self._system.read(self.file.name, start, stop)
            if not read:
                self._system.check(self.file)
                raise BadSource(f"the file {self.file.name} ends at byte {start:,}, before its size")
            yield read
            start += len(read)

    def _unpacked(self, start: int, size: int) -> Iterator[bytes]:
        """Yield the decompressed bytes from `start` on, for which the file must be read from its beginning."""
        with self._system.open(self.file.name) as packed:
            try:
                with pa.CompressedInputStream(pa.PythonFile(packed, "r"), self.packing) as stream:
                    left = start
                    while read := stream.read(size):
                        if left < len(read):
                            yield read[left:]
                        left = max(0, left - len(read))
            except OSError as error:
                raise BadSource(f"the file {self.file.name} cannot be unpacked as {self.packing}: {error}") from error


def _search(finder: RecordEnds, block: bytes) -> Ends:
    """Return the ends in the block, which is searched in pieces."""
    found, start = [], 0
    width = finder.form.width
    while start < len(block):
        stop = start + SEARCH_BYTES
        while stop < len(block) and block[stop - width : stop].strip(b"\0") == b"\r":
            stop += width
        found.append(_shifted(finder.feed(block[start:stop]), start))
        start = stop
    if len(found) == 1:
        return found[0]
    records = np.concatenate([ends.records for ends in found])
    if all(ends.records is ends.lines for ends in found):
        return Ends(records, records)
    return Ends(records, np.concatenate([ends.lines for ends in found]))


def _shifted(ends: Ends, by: int) -> Ends:
    if not by:
        return ends
    records = ends.records + by
    return Ends(records, records if ends.records is ends.lines else ends.lines + by)
