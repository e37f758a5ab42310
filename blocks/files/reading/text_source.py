"""CSV and JSON Lines as a source: ranges of bytes that begin and end with records."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prefect_batch.blocks.batches import Batch, FileBatch, Unreadable
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadParameter, BadSource
from prefect_batch.blocks.file_list import FileList, Portion, portions
from prefect_batch.blocks.files.reading.json_parser import absent_keys, parse_objects
from prefect_batch.blocks.files.reading.text_edges import end_of, found_at, is_end, next_edge
from prefect_batch.blocks.files.reading.text_file import (
    BLOCK_BYTES,
    HEAD_BYTES,
    RecordStart,
    Stretch,
    TextFile,
    packing_of,
)
from prefect_batch.blocks.files.reading.text_parse import Fault, parse_stretch
from prefect_batch.blocks.files.reading.text_set import TextSet
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.parameters.files import Files


class TextSource:
    """The records of text files, file after file.

    The key is the file, the record's first byte and its line. The end of a file is also a key: its size, and line 0.
    """

    key: tuple[str, ...] = ("file", "offset", "line")
    one_thread = False

    def __init__(self, spec: Files, files: FileList | None = None) -> None:
        self.spec = spec
        self.name = f"the files {spec.path}"
        self.connections: tuple[str, ...] = (spec.storage,) if spec.storage else ()
        self.texts = TextSet(spec, files)

    @property
    def only_here(self) -> bool:
        """Whether the files are in this process's memory."""
        return self.texts.system.only_here

    @property
    def files(self) -> FileList:
        """The files of the pass, or those that exist now if none were given."""
        return self.texts.files

    def with_files(self, files: FileList) -> "TextSource":
        """Return the same source over these files."""
        return TextSource(self.spec, files)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of a record's columns, in order."""
        return tuple(self.schema.names)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the records."""
        return self.texts.schema

    def check(self) -> list[str]:
        """Return warnings about the files, whose columns are read from the first one.

        Raises:
            BadSource: the files do not exist, or have other columns than asked for.
        """
        try:
            names = self.names
            packed = [file.name for file in self.files.files if file.size and packing_of(self.spec, file)]
        except PermissionError as error:
            raise BadSource(f"{self.name} may not be read: {error}") from error
        found = [] if self.files.files else [f"{self.name} are none: there is nothing to do"]
        if packed:
            found.append(
                f"{len(packed):,} of {self.name} are packed ({packed[0]} …): such a file is one stream, read by one "
                "chunk from its top"
            )
        missing = [name for name in names if name not in (self.spec.schema or {})]
        if self.spec.format == "jsonl" and missing and self.texts.first is not None:
            found.append(
                f"the types of {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''} for columns are taken from "
                f"the first lines of {self.texts.first.name}; fix them with schema={{…}}"
            )
        return found

    def last_key(self, after: Key | None = None) -> Key | None:
        """Return the end of the last file that is not empty.

        Returns:
            None if that is `after`, or if all files are empty.
        """
        filled = [file for file in self.files.files if file.size]
        last = end_of(filled[-1]) if filled else None
        return None if last == after else last

    def back(self, upto: Key, rows: int) -> Key | None:  # noqa: ARG002 - what every source has
        """Raise BadParameter, because an overlap is possible only for tables.

        Raises:
            BadParameter: always.
        """
        raise BadParameter(f"overlap={rows} is for the keys of tables: an incremental pass reads new files whole")

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return at most `most` keys in ``(after, upto]`` at which chunks end.

        They are `rows` records apart: exactly so within a file, but how many records a whole file has is estimated.
        """
        found: list[Key] = []
        while len(found) < most and after != upto:
            after = next_edge(self.texts, after, upto, rows)
            found.append(after)
        return found

    def cut(self, chunk: ChunkRange, rows: int) -> Key:
        """Return the key of the record that is `rows` records into the range, or its end if it has no more.

        The range is read up to there, also in a packed file, which `edges` leaves whole.
        """
        left, key = rows, None
        for text, stretch in self._stretches(chunk):
            if key is not None:
                return key
            here = len(stretch.starts)
            if here >= left:
                key = (text.file.name, *stretch.start(left - 1))
                if here > left:
                    return key
            left -= here
        return chunk.upto

    def estimate(self, after: Key | None, upto: Key) -> int:
        """Return roughly how many records are in ``(after, upto]``, estimated from the bytes."""
        return sum(self.texts.records_in(portion) for portion in portions(self.files, after, upto))

    def key_of(self, row: tuple[Any, ...]) -> Key:
        """Return the key of a row in a batch of `read`."""
        return row[-3:]

    def read(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the records of the range in key order, in batches of at most `batch_rows`.

        Raises:
            DefinitionChanged: a file has changed since the pass began.
        """
        for text, stretch in self._stretches(chunk):
            yield from self._of_stretch(text, stretch, batch_rows)

    def read_tables(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the same as `read`, but always as tables."""
        for text, stretch in self._stretches(chunk):
            yield from self._tables(text, stretch, batch_rows)

    def _of_stretch(self, text: TextFile, stretch: Stretch, batch_rows: int) -> Iterator[Batch]:
        """Yield the stretch's records: JSON without a schema as Python objects, all else as tables."""
        if self.spec.format == "csv" or self.spec.schema:
            yield from self._tables(text, stretch, batch_rows)
            return
        others = self.spec.columns is not None
        parsed = parse_objects(stretch, text.form.encoding, self.names, others=others)

        def batch(start: int, stop: int, **more: Any) -> Batch:
            return FileBatch(self.names, parsed.rows[start:stop], gaps=parsed.gaps, **more)

        yield from _batches(text, stretch, parsed.places, parsed.faults, batch, batch_rows)

    def _tables(self, text: TextFile, stretch: Stretch, batch_rows: int) -> Iterator[Batch]:
        parsed = parse_stretch(stretch, self.texts.parser(text.file))

        def batch(start: int, stop: int, **more: Any) -> Batch:
            table = parsed.table.slice(start, stop - start)
            absent = functools.partial(_absent, text, stretch, table, parsed.places[start:stop])
            may_lack = self.spec.format == "jsonl" and any(column.null_count for column in table.columns)
            return FileBatch(self.names, table=table, absent=absent if may_lack else None, **more)

        yield from _batches(text, stretch, parsed.places, parsed.faults, batch, batch_rows)

    def find(self, keys: Sequence[Key]) -> Iterator[Batch]:
        """Yield the records that begin where these keys say, as rows with their keys.

        Left out are records that cannot be read, and keys whose byte or line is no longer that of a record.
        """
        known = {file.name: file for file in self.files.files}
        for name in sorted({key[0] for key in keys} & known.keys()):
            text = self.texts.open(known[name])
            asked = {key[1]: key for key in keys if key[0] == name}
            for stretch in found_at(text, [RecordStart(key[1], key[2]) for key in asked.values()]):
                for batch in self._of_stretch(text, stretch, 1):
                    rows = [batch.row(place) for place in range(len(batch))]
                    # The key may not have the line, where that was not known when the record was read.
                    yield Batch(batch.names, [(*row[:-3], *asked[row[-2]]) for row in rows], gaps=batch.gaps)

    def _stretches(self, chunk: ChunkRange) -> Iterator[tuple[TextFile, Stretch]]:
        """Yield the records of the range in stretches, file by file."""
        for portion in portions(self.files, chunk.after, chunk.upto):
            if not portion.file.size or is_end(portion.after):
                continue
            self.texts.system.check(portion.file)
            text = self.texts.open(portion.file)
            for stretch in self._of(portion, text):
                yield text, stretch
            if self.texts.system.local:
                self.texts.system.check(portion.file)  # Proves that the file did not change while it was read.

    def _of(self, portion: Portion, text: TextFile) -> Iterator[Stretch]:
        after, stop = portion.after, None if is_end(portion.upto) else portion.upto
        start = self.texts.data(portion.file) if after is None else RecordStart(after[1], after[2])
        # Read beyond the range's end, to find where its last record ends.
        wanted = BLOCK_BYTES if stop is None else stop[1] - start.offset + HEAD_BYTES
        for place, stretch in enumerate(text.stretches(start, min(wanted, BLOCK_BYTES))):
            # The range begins behind the record of `after`.
            part = stretch.part(1 if after is not None and place == 0 else 0, len(stretch.starts))
            if stop is not None:
                part = part.part(0, int(np.searchsorted(part.starts, stop[1] - part.base, side="right")))
            if len(part.starts):
                yield part
            if stop is not None and stretch.following.offset > stop[1]:
                return


def _absent(text: TextFile, stretch: Stretch, table: pa.Table, places: Any) -> dict[int, set[str]]:
    """Return the keys that lines of JSON do not have, by the index in the table: only a NULL may be one of them."""
    nulls = np.logical_or.reduce([column.is_null().to_numpy() for column in table.columns])
    lines = ((index, text.form.as_utf8(stretch.record(int(places[index])))) for index in np.flatnonzero(nulls).tolist())
    return absent_keys(lines, table.column_names)


def _batches(
    text: TextFile, stretch: Stretch, places: Any, faults: list[Fault], batch: Callable[..., Batch], batch_rows: int
) -> Iterator[Batch]:
    """Yield the stretch's records in batches of at most `batch_rows`.

    The first batch also has the records that cannot be read.
    """
    name = text.file.name
    unreadable = [
        Unreadable((name, *stretch.start(place)), stretch.record(place), stretch.start(place).line, reason)
        for place, reason in faults
    ]
    row_bytes = len(stretch.raw) // max(1, len(stretch.starts))
    for start in range(0, max(1, len(places)), batch_rows):
        stop = min(start + batch_rows, len(places))

        def key_at(index: int, start: int = start) -> Key:
            return (name, *stretch.start(int(places[start + index])))

        yield batch(start, stop, row_bytes=row_bytes, key_at=key_at, unreadable=unreadable)
        unreadable = []
