"""Dead letters as a source: read by their numbers in the replay's list, and resolved when their chunk is committed."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from prefect_batch.blocks.batches import ABSENT, BATCH_BYTES, Batch
from prefect_batch.blocks.capabilities import FindsRecords
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.dead_letter import Origin
from prefect_batch.blocks.errors import DoesNotFit, KeyIsShared, RecordIsGone, UnreadableRecord
from prefect_batch.blocks.jobs import replay_job
from prefect_batch.blocks.keys import Key, decode_key, encode_key, key_text
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.letters.bury import letters_folder
from prefect_batch.blocks.letters.ids import LetterSet
from prefect_batch.blocks.letters.joined import joined_type
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.read import read_rows
from prefect_batch.blocks.letters.record_json import RAW, decode_record, shown_columns
from prefect_batch.blocks.letters.replay_list import ReplayList, read_replay_list
from prefect_batch.blocks.letters.status import Decision, Statuses, read_statuses, save_decision
from prefect_batch.blocks.parameters.letters import Letters

# The number of keys to find in one statement.
FIND_KEYS = 200
_COLUMNS = ("id", "pass", "chunk", "attempts", "key", "record_json")


class _Letter(NamedTuple):
    """The letter that a row contains behind the values of its record."""

    key: Key
    origin: Origin
    record: Record
    missing: Exception | None


class LettersSource:
    """The letters of a replay in the order of its list, where a row is the record followed by its letter.

    With `origin`, the records are read from there again, by the letters' keys.
    """

    key = ("letter",)

    def __init__(self, spec: Letters, origin: Source | None = None) -> None:
        self.spec = spec
        self.name = f"the dead letters of {spec.job}"
        self._place = open_place(spec.place)
        self.origin = origin

    @property
    def connections(self) -> tuple[str, ...]:
        """The connections of the source from which the records are read again."""
        return self.origin.connections if self.origin else ()

    @property
    def one_thread(self) -> bool:
        """Whether two threads are slower than one on the source from which the records are read again."""
        return self.origin is not None and self.origin.one_thread

    @property
    def only_here(self) -> bool:
        """Whether the letters, or the source, are in the memory of this process."""
        return self._place.only_here or (self.origin is not None and self.origin.only_here)

    @cached_property
    def _replay_list(self) -> ReplayList:
        place, path = self.spec.replay_list
        return read_replay_list(open_place(place), path)

    @cached_property
    def schema(self) -> pa.Schema:
        """The records' schema: that of the source, or the letters' own, with text where no type holds all."""
        if self.origin is not None:
            return self.origin.schema
        records = []
        for path, _ in self._replay_list.files:
            with self._place.open(path) as file:
                records.append(pq.read_schema(file).field("record").type)
        return pa.schema(list(joined_type(records)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that a record has."""
        return tuple(self.schema.names)

    def check(self) -> list[str]:
        """Return the warnings of the source from which the records are read again."""
        return self.origin.check() if self.origin else []

    def last_key(self, after: Key | None = None) -> Key | None:
        """Return the number of the last letter.

        Returns:
            None if no letter follows `after`.
        """
        count = self._replay_list.count
        return (count,) if count > _number(after) else None

    def back(self, upto: Key, rows: int) -> Key | None:
        """Return the number `rows` letters before `upto`.

        Returns:
            None, the start of the list, if there are not that many.
        """
        return (upto[0] - rows,) if upto[0] > rows else None

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return at most `most` numbers in ``(after, upto]``, each `rows` letters after the one before."""
        first = _number(after) + rows
        found = [(min(first + rows * place, upto[0]),) for place in range(most)]
        return list(dict.fromkeys(found))

    def estimate(self, after: Key | None, upto: Key) -> int:
        """Return exactly how many letters are in ``(after, upto]``."""
        return int(upto[0]) - _number(after)

    def read(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the records of the letters in the range, in batches of at most `batch_rows`."""
        letters: list[dict[str, Any]] = []
        size = 0
        for table in self._tables(chunk, _COLUMNS):
            for letter in table.to_pylist():
                letters.append(letter)
                size += len(letter["record_json"])
                if len(letters) >= batch_rows or size >= BATCH_BYTES:
                    yield from self._batches(letters)
                    letters, size = [], 0
        if letters:
            yield from self._batches(letters)

    @cached_property
    def _statuses(self) -> Statuses:
        return read_statuses(self._place, self.spec.job)

    def _tables(self, chunk: ChunkRange, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the chunk's letters, except those that a person discarded since the list was made."""
        for path, runs in self._replay_list.part(_number(chunk.after), chunk.upto[0]):
            for table in read_rows(self._place, path, runs, columns):
                kept = [self._statuses.of(letter).status != "discarded" for letter in table["id"].to_pylist()]
                yield table.filter(pa.array(kept))

    def _batches(self, letters: list[dict[str, Any]]) -> Iterator[Batch]:
        """Yield the letters that have a record, and then those that have none, in separate batches."""
        keys = [decode_key(json.loads(letter["key"])) for letter in letters]
        records: list[Record | Exception]
        records = (
            [_record(letter["record_json"]) for letter in letters]
            if self.origin is None
            else self._find(self.origin, keys)
        )
        rows: list[tuple[Any, ...]] = []
        for letter, key, record in zip(letters, keys, records, strict=True):
            origin = Origin(letter["id"], letter["pass"], letter["chunk"], letter["attempts"])
            if isinstance(record, Exception):
                # The letter fails again, and what is known of the record goes into its next letter.
                known, missing = decode_record(letter["record_json"]), record
            else:
                known, missing = record, None
            rows.append((*(known.get(name, ABSENT) for name in self.names), _Letter(key, origin, known, missing)))
        size = 2 * sum(len(letter["record_json"]) for letter in letters) // len(letters)
        for is_missing in (False, True):
            if part := [row for row in rows if (row[-1].missing is not None) == is_missing]:
                yield Batch(self.names, part, size, gaps=any(ABSENT in row for row in part))

    def _find(self, source: Source, keys: Sequence[Key]) -> list[dict[str, Any] | Exception]:
        """Return the source's record for each key, or why there is not exactly one."""
        found: dict[str, list[dict[str, Any]]] = {}
        unreadable: dict[str, Exception] = {}
        for start in range(0, len(keys), FIND_KEYS):
            for batch in _batches_of(source, keys[start : start + FIND_KEYS]):
                for gone in batch.unreadable:
                    unreadable[_text(gone.key)] = UnreadableRecord(
                        f"{source.name}, {key_text(gone.key)}: {gone.reason}"
                    )
                for row in batch.rows:
                    found.setdefault(_text(source.key_of(row)), []).append(batch.record(row))
        return [unreadable.get(_text(key)) or _only(found.get(_text(key), []), source, key) for key in keys]

    def key_of(self, row: tuple[Any, ...]) -> Key:
        """Return the record's key in the job's source."""
        return _letter(row).key

    def origin_of(self, row: tuple[Any, ...]) -> Origin:
        """Return the origin of the letter in this row."""
        return _letter(row).origin

    def record_of(self, row: tuple[Any, ...]) -> Record:
        """Return the record, or what the letter has of it."""
        return _letter(row).record

    def missing(self, row: tuple[Any, ...]) -> Exception | None:
        """Return why there is no record for this letter.

        Returns:
            None if there is one.
        """
        return _letter(row).missing

    def settle(self, chunk: ChunkRange, run_id: str) -> None:
        """Resolve the letters of a committed chunk, except those that it buried again."""
        buried = f"{letters_folder(replay_job(self.spec.job), self.spec.replay)}/{chunk.digest}.parquet"
        again: set[str] = set()
        if self._place.exists(buried):
            for table in read_rows(self._place, buried, [(0, 2**62)], ["id"]):
                again.update(table["id"].to_pylist())
        ids = [letter for table in self._tables(chunk, ["id"]) for letter in table["id"].to_pylist()]
        resolved = LetterSet(letter for letter in ids if letter not in again)
        if len(resolved):
            by, now = f"replay {self.spec.replay}", datetime.now(UTC).isoformat()
            decision = Decision("resolved", resolved, by, now, run_id=run_id)
            save_decision(self._place, self.spec.job, f"replay-{self.spec.replay:06d}-{chunk.digest}", decision)


def _letter(row: tuple[Any, ...]) -> _Letter:
    letter: _Letter = row[-1]
    return letter


def _record(text: str) -> dict[str, Any] | Exception:
    """Return the record of a letter, or why it has none."""
    record = decode_record(text)
    if shown := shown_columns(text):
        return DoesNotFit(
            f"the letter holds the value of column {shown[0]} as a text for people only, since its type has no exact "
            "one: replay it with from_='source'"
        )
    if RAW not in record:
        return record
    return UnreadableRecord(
        "the letter has the bytes of a record that could not be read: mend the file and have it read again, or discard "
        "the letter"
    )


def _number(key: Key | None) -> int:
    return 0 if key is None else int(key[0])


def _text(key: Key) -> str:
    return json.dumps(encode_key(key))


def _batches_of(source: Source, keys: Sequence[Key]) -> Iterator[Batch]:
    """Yield the records with these keys. A source that cannot find keys reads a range of one key for each."""
    if isinstance(source, FindsRecords):
        yield from source.find(keys)
        return
    for key in keys:
        yield from source.read(ChunkRange(source.back(key, 1), key), 100)


def _only(records: list[dict[str, Any]], source: Source, key: Key) -> dict[str, Any] | Exception:
    if len(records) == 1:
        return records[0]
    if not records:
        return RecordIsGone(f"{source.name} has no record with the key {key_text(key)} any more: discard the letter")
    return KeyIsShared(
        f"{source.name} has {len(records)} records with the key {key_text(key)}, and which one failed is not known: "
        "replay it with from_='letter'"
    )
