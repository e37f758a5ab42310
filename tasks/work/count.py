"""What a chunk did, counted batch by batch: the tally, the kinds of errors, and the letters to bury."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import psutil
import pyarrow as pa

from prefect_batch.blocks.batches import Batch, Unreadable
from prefect_batch.blocks.capabilities import Replays
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, ErrorCount, Tally
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.databases.connections import open_connections
from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.errors import UnreadableRecord
from prefect_batch.blocks.key_sum import KeySum, sum_of_keys
from prefect_batch.blocks.keys import Key, key_text
from prefect_batch.blocks.kinds.convert import values_of
from prefect_batch.blocks.letters.record_json import LINE, RAW
from prefect_batch.blocks.letters.redaction import Redaction
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.tasks.error_text import normalise, storable, text_of
from prefect_batch.tasks.work.failure import Failure
from prefect_batch.tasks.work.outputs import Outputs, first_records, places
from prefect_batch.tasks.work.trial import told

TOP_ERRORS = 20
MESSAGE_CHARACTERS = 300


class Count:
    """The counts of one chunk while its batches go by."""

    def __init__(self, chunk: ChunkRange, redaction: Redaction | None = None) -> None:
        self._chunk, self._redaction = chunk, redaction
        self._tally = Tally(chunks=1)
        self._started_at, self._clock = time.time(), time.monotonic()
        self._kinds: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, str]] = {}
        self._filtered = KeySum()

    def add(
        self,
        batch: Batch,
        outputs: list[Outputs],
        written: tuple[int, int],
        failures: list[Failure],
        source: Source,
        skipped: Collection[int] = (),
    ) -> list[DeadLetter]:
        """Count a batch, of which so many records were written as so many rows.

        `skipped` are the places of records that the sink left out on purpose.

        Returns:
            The letters of the records that failed.
        """
        read, failed = len(batch) + len(batch.unreadable), len(failures) + len(batch.unreadable)
        records, rows = written
        filtered = read - records - failed
        self._tally = self._tally + Tally(read, records, filtered, failed, rows, bytes=read * batch.row_bytes)
        if filtered:
            self._filtered = self._filtered + sum_filtered(batch, outputs, failures, source, skipped)
        letters = [self._unread(record) for record in batch.unreadable]
        replays = source if isinstance(source, Replays) else None
        in_order = sorted(failures, key=lambda f: f.index)
        letters.extend(self._letter(batch, source, replays, failure) for failure in in_order)
        for letter in letters:
            self._note(letter)
        return letters

    def add_unread(self, source: Source, error: Exception) -> DeadLetter:
        """Count the only record of the chunk, which could not be read for its size, and return its letter."""
        key = self._chunk.upto
        text = told(error)
        record = {name: value for name, value in zip(source.key, key, strict=True) if name in source.names}
        letter = DeadLetter(key, "read", text.kind, text.message, text.traceback, 1, datetime.now(UTC), record)
        if self._redaction is not None:
            letter = self._redaction.letter(letter)
        self._tally = self._tally + Tally(read=1, failed=1)
        self._note(letter)
        return letter

    def _note(self, letter: DeadLetter) -> None:
        self._kinds[letter.error_type] += 1
        if letter.error_type not in self._examples:
            message = hide_passwords(letter.error_message)[:MESSAGE_CHARACTERS]
            self._examples[letter.error_type] = (storable(key_text(letter.key), MESSAGE_CHARACTERS), message)

    def _letter(self, batch: Batch, source: Source, replays: Replays | None, failure: Failure) -> DeadLetter:
        letter = _letter(batch, source, replays, failure)
        if self._redaction is None:
            return letter
        return self._redaction.letter(letter, [] if failure.output is None else first_records(failure.output))

    def _unread(self, record: Unreadable) -> DeadLetter:
        letter = letter_of(record)
        if self._redaction is None:
            return letter
        # What the line holds is not known, so the whole of it is redacted, and every value in the message.
        letter = self._redaction.letter(letter)
        return replace(letter, error_message=normalise(letter.error_message), traceback="")

    def result(self, path: str | None) -> ChunkResult:
        """Return what the chunk did, with the path of its letters."""
        tally = replace(self._tally, seconds=time.monotonic() - self._clock)
        errors = tuple(ErrorCount(kind, n, *self._examples[kind]) for kind, n in self._kinds.most_common(TOP_ERRORS))
        rss = psutil.Process().memory_info().rss
        connections = open_connections()
        return ChunkResult(self._chunk, tally, errors, path, self._started_at, rss, connections, self._filtered)


def _letter(batch: Batch, source: Source, replays: Replays | None, failure: Failure) -> DeadLetter:
    row = batch.row(failure.index)
    origin, record = None, batch.record(row)
    if replays is not None:
        origin, record = replays.origin_of(row), replays.record_of(row)
    return DeadLetter(
        key=source.key_of(row),
        stage=failure.stage,
        error_type=failure.error.kind,
        error_message=failure.error.message,
        traceback=failure.error.traceback,
        attempts=failure.attempts + (origin.attempts if origin else 0),
        failed_at=datetime.now(UTC),
        record=record,
        origin=origin,
    )


def letter_of(record: Unreadable) -> DeadLetter:
    """Return the letter of a record that could not be read: with its bytes if it is of a file."""
    error = text_of(UnreadableRecord(f"{_place(record)}: {record.reason}"))
    return DeadLetter(
        key=record.key,
        stage="read",
        error_type=error.kind,
        error_message=error.message,
        traceback=error.traceback,
        attempts=1,
        failed_at=datetime.now(UTC),
        record={RAW: record.raw, LINE: record.line} if record.record is None else record.record,
    )


def _place(record: Unreadable) -> str:
    if record.record is not None:
        return f"the record with the key {key_text(record.key)}"
    place = f"byte {record.key[1]:,}" if record.line is None else f"line {record.line:,}"
    return f"{place} of {record.key[0]}"


def sum_filtered(
    batch: Batch,
    outputs: Sequence[Outputs],
    failures: Sequence[Failure],
    source: Source,
    skipped: Collection[int] = (),
) -> KeySum:
    """Return the sum of the keys of the filtered records, unknown for files, because no database can sum their keys."""
    if not set(source.key) <= set(batch.names):
        return KeySum(kind="unknown")
    kept = {place for part in outputs for place in places(part)}.difference(skipped)
    kept.update(failure.index for failure in failures)
    return sum_of_keys(_keys(batch, [place for place in range(len(batch)) if place not in kept], source))


def _keys(batch: Batch, wanted: list[int], source: Source) -> Iterable[Key]:
    if batch.table is None:
        rows = batch.rows
        return (source.key_of(rows[place]) for place in wanted)
    columns = batch.table.select(list(source.key)).take(pa.array(wanted, pa.int64())).columns
    return zip(*map(values_of, columns), strict=True)
