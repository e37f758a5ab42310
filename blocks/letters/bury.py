"""Dead letters in Parquet: one file per chunk, written whole, so that a repeated chunk replaces its own file.

A file appears complete or not at all. A place looks like this::

    <place>/<job>/pass-000001/<digest of the chunk's range>.parquet      buried by the pass: generation 0
    <place>/<job>/replay-000002/<digest of the chunk's range>.parquet    failed again in the 2nd replay: generation 2
    <place>/<job>/pass-000001/<digest of the chunk's range>.split      done in parts: no letter of the whole counts
"""

import contextlib
import json
from collections.abc import Sequence
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from prefect_batch.blocks.chunks import ChunkRange, Split
from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.errors import SinkRefuses
from prefect_batch.blocks.jobs import main_job, of_replay
from prefect_batch.blocks.keys import encode_key
from prefect_batch.blocks.kinds.convert import to_arrow_or_null
from prefect_batch.blocks.letters.place import check_marker, check_place, mark_place, open_place
from prefect_batch.blocks.letters.record_json import encode_record
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.blocks.stores.store import Store, drop, full_name

# The ending of the file that marks a chunk as split, in place of .parquet.
SPLIT = ".split"
# The letters of a chunk are written in groups of at most this many rows, or about this many characters of JSON.
GROUP_ROWS, GROUP_CHARACTERS = 1_000, 4_000_000


def letter_schema(record: pa.Schema) -> pa.Schema:
    """Return the columns of a dead-letter file for records of this schema."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("job", pa.string()),
            ("pass", pa.int64()),
            ("generation", pa.int64()),
            ("run_id", pa.string()),
            ("chunk", pa.string()),
            ("key", pa.string()),
            ("stage", pa.string()),
            ("error_type", pa.string()),
            ("error_message", pa.string()),
            ("traceback", pa.string()),
            ("attempts", pa.int64()),
            ("failed_at", pa.timestamp("us", tz="UTC")),
            ("record", pa.struct([(field.name, _shown(field.type)) for field in record])),
            ("record_json", pa.string()),
            ("redacted", pa.list_(pa.string())),
        ]
    )


def _shown(arrow: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(arrow) and not arrow.num_fields:
        return pa.string()  # Parquet has no structs without fields.
    return pa.string() if arrow == pa.uuid() else arrow  # Few readers of Parquet know UUIDs within a struct.


def letters_folder(name: str, number: int) -> str:
    """Return the folder of the letters of a job's pass or replay, relative to the place."""
    return f"{main_job(name)}/{'replay' if of_replay(name) else 'pass'}-{number:06d}"


class DeadLetters:
    """The dead letters of one pass of a job, or of one replay, for records of this schema.

    `marked`: the place has the job's marker, and is away if it is not there any more.
    """

    def __init__(self, place: str, name: str, number: int, schema: pa.Schema, *, marked: bool = False) -> None:
        self._place = open_place(place)
        self._marked = marked
        self._folder = letters_folder(name, number)
        self._fixed = {"job": main_job(name), "pass": number, "generation": number if of_replay(name) else 0}
        self._record_schema = schema

    def check(self, *, used: bool = False) -> None:
        """Mark the place. Raise BadPlace unless files can be written there, or if it was `used` and is away."""
        job = str(self._fixed["job"])
        if used:
            check_marker(self._place, job)
        check_place(self._place, job)
        mark_place(self._place, job)

    def open(self, chunk: ChunkRange, run_id: str) -> "Burial":
        """Return the file of a chunk's letters, to be used in a ``with`` statement."""
        fixed = {**self._fixed, "run_id": run_id, "chunk": chunk.text}
        return Burial(
            self._place, f"{self._folder}/{chunk.digest}.parquet", fixed, self._record_schema, marked=self._marked
        )

    def split_of(self, chunk: ChunkRange) -> Split | None:
        """Return the split of this chunk that is marked, or None if its letters count."""
        found = self._place.get([path := self._mark(chunk)])
        return Split.decode(json.loads(found[path])) if found else None

    def mark(self, split: Split) -> Split:
        """Mark the chunk as split, unless it is, so that its letters do not count, and remove them.

        Returns:
            The split that is marked now.
        """
        chunk = split.range
        if not self._place.put_first(self._mark(chunk), json.dumps(split.encode()).encode()):
            split = self.split_of(chunk) or split
        # Other programs that read Parquet do not know the mark.
        self._place.remove([f"{self._folder}/{chunk.digest}.parquet"])
        return split

    def _mark(self, chunk: ChunkRange) -> str:
        return f"{self._folder}/{chunk.digest}{SPLIT}"


class Burial:
    """Writes one chunk's letters to a new file, which gets its name when it is complete."""

    def __init__(
        self, place: Store, path: str, fixed: dict[str, Any], record_schema: pa.Schema, *, marked: bool = False
    ) -> None:
        self._place, self._path, self._marked = place, path, marked
        self._fixed, self._record_schema = fixed, record_schema
        self._schema = letter_schema(record_schema)
        self._first_id = f"{fixed['pass']}.{path.rpartition('/')[2].removesuffix('.parquet')}"
        self._rows = 0
        self._pending: list[tuple[DeadLetter, str]] = []
        self._characters = 0
        self._new_file = contextlib.ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is SinkRefuses:
            # No letter of this chunk counts, so letters that a killed attempt may have buried must go, too.
            self._place.remove([self._path])
        if self._writer is not None:
            with contextlib.suppress(Exception):  # Else garbage collection would close it, when its file is gone.
                self._writer.close()
        drop(self._new_file)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Add these letters, which are written as soon as there are enough of them.

        Raises:
            OSError: the place cannot be written.
        """
        for letter in letters:
            record = encode_record(letter.record)
            self._pending.append((letter, record))
            self._characters += len(record)
            if len(self._pending) >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
                self._write()

    def _write(self) -> None:
        if self._writer is None:
            if self._marked:
                # Looked at for each file, because a disk may go away during a run.
                check_marker(self._place, self._fixed["job"])
            file = self._new_file.enter_context(self._place.new(self._path))
            self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        letters, records = zip(*self._pending, strict=True)
        self._writer.write_table(self._table(letters, records))
        self._pending, self._characters = [], 0

    @property
    def name(self) -> str | None:
        """The full name that the file gets, or None if the chunk has no letters so far."""
        return full_name(self._place, self._path) if self._pending or self._writer is not None else None

    def finish(self) -> str | None:
        """Give the file its name, durably.

        If the chunk has no letters, the file of an earlier attempt is removed.

        Returns:
            The full name of the file, or None if the chunk has no letters.

        Raises:
            OSError: the place cannot be written.
        """
        if self._pending:
            self._write()
        if self._writer is None:
            # An earlier attempt of this chunk may have buried some.
            self._place.remove([self._path])
            return None
        self._writer.close()
        self._new_file.close()
        return full_name(self._place, self._path)

    def _table(self, letters: Sequence[DeadLetter], records: Sequence[str]) -> pa.Table:
        arrays: dict[str, Any] = {name: [value] * len(letters) for name, value in self._fixed.items()}
        arrays["id"] = [f"{self._first_id}.{row}" for row in range(self._rows, self._rows + len(letters))]
        self._rows += len(letters)
        for place, letter in enumerate(letters):
            if letter.origin is not None:
                arrays["id"][place], arrays["pass"][place], arrays["chunk"][place] = letter.origin[:3]
        arrays["key"] = [json.dumps(encode_key(letter.key)) for letter in letters]
        for name in ("stage", "error_type", "failed_at", "attempts"):
            arrays[name] = [getattr(letter, name) for letter in letters]
        arrays["error_message"] = [_text(hide_passwords(letter.error_message)) for letter in letters]
        arrays["traceback"] = [_text(hide_passwords(letter.traceback)) for letter in letters]
        arrays["record"] = self._records(letters)
        arrays["record_json"] = list(records)
        arrays["redacted"] = [list(letter.redacted) for letter in letters]
        return pa.table({name: arrays[name] for name in self._schema.names}, schema=self._schema)

    def _records(self, letters: Sequence[DeadLetter]) -> pa.StructArray:
        fields = list(self._schema.field("record").type)
        columns = [_fit([letter.record.get(field.name) for letter in letters], field.type) for field in fields]
        return pa.StructArray.from_arrays(columns, fields=fields)


def _fit(values: list[Any], arrow: pa.DataType) -> pa.Array:
    """Return the values as this type, with NULL for those that do not fit.

    The letter's `record_json` has those values in full.
    """
    if pa.types.is_string(arrow):
        values = [value if value is None else _text(str(value)) for value in values]
    return to_arrow_or_null(values, arrow)[0]


def _text(text: str) -> str:
    """Return the text with what UTF-8 cannot hold (halves of a surrogate pair) escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
