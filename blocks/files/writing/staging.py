"""Staging: what a pass writes before it is complete, in a directory that readers of Parquet directories skip.

It looks like this::

    _pass-000003-1f2e3d4c/_pass.json              the pass that it belongs to
    _pass-000003-1f2e3d4c/_schema                 the schema of every part, fixed by the first one
    _pass-000003-1f2e3d4c/<chunk>-5d2f.parquet    the part of a chunk, named by the digest of its range, and the attempt
    _pass-000003-1f2e3d4c/<chunk>.json            its note: range, rows, bytes, checksum; also of a chunk without rows
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from prefect_batch.blocks.chunks import ChunkRange, is_split
from prefect_batch.blocks.errors import BadSink
from prefect_batch.blocks.files.writing.manifest import decode_schema, encode_schema
from prefect_batch.blocks.jobs import PassRef, of_replay
from prefect_batch.blocks.stores.store import Store, put

STAGING = "_pass-"
# The start of the source, as an encoded key.
_START = "null"


@dataclass(frozen=True)
class Note:
    """What became of a chunk.

    Attributes:
        chunk: The digest of its range.
        after: The lower bound of its range, as an encoded key.
        upto: The upper bound of its range, as an encoded key.
        name: The file of its part. None if it wrote no rows.
        result: The encoded result of the chunk, or its split.
    """

    chunk: str
    after: str
    upto: str
    name: str | None = None
    rows: int = 0
    bytes: int = 0
    sha256: str = ""
    result: dict[str, Any] | None = None

    @property
    def counts(self) -> bool:
        """Whether it is that of a chunk that was done as a whole, rather than split or joined with others."""
        return bool(self.after) and not is_split(self.result)

    @classmethod
    def of(cls, chunk: ChunkRange, result: dict[str, Any] | None) -> "Note":
        """Return the note of a chunk that wrote no rows."""
        bounds = {end: json.dumps(key, sort_keys=True) for end, key in chunk.encode().items()}
        return cls(chunk.digest, bounds["after"], bounds["upto"], result=result)


class Staging:
    """The staging directory of one pass, in the sink's store."""

    def __init__(self, store: Store, pass_: PassRef) -> None:
        self._store, self._pass = store, pass_
        self._directory = f"{STAGING}{pass_.number:06d}-{pass_.id}"
        self._schema: pa.Schema | None = None

    def path(self, name: str) -> str:
        """Return the name of this file in the store."""
        return f"{self._directory}/{name}"

    def begin(self) -> None:
        """Create the directory."""
        self._put("_pass.json", json.dumps(asdict(self._pass)).encode())

    def check(self) -> None:
        """Raise BadSink unless what the pass has written still exists."""
        if not self._store.get([self.path("_pass.json")]):
            raise BadSink(
                f"what pass {self._pass.number} of {self._pass.job} has written is gone from {self._store.place}: "
                "give the pass up with restart=True"
            )

    def schema(self) -> pa.Schema | None:
        """Return the schema of every part of the pass.

        Returns:
            None while no part has fixed it.
        """
        if self._schema is None:
            content = self._store.get([self.path("_schema")]).values()
            self._schema = next(map(decode_schema, content), None)
        return self._schema

    def fix_schema(self, schema: pa.Schema) -> pa.Schema:
        """Fix the schema of every part, unless one was fixed before.

        Returns:
            The schema that is fixed now.
        """
        self._store.put_first(self.path("_schema"), encode_schema(schema))
        fixed = self.schema()
        assert fixed is not None
        return fixed

    def put_note(self, note: Note) -> None:
        """Write down what became of several parts that were joined, in place of an earlier note."""
        self._put(f"{note.chunk}.json", json.dumps(asdict(note)).encode())

    def put_first_note(self, note: Note) -> bool:
        """Write down what became of a chunk, unless that is written down.

        Returns:
            Whether it was written.
        """
        return self._store.put_first(self.path(f"{note.chunk}.json"), json.dumps(asdict(note)).encode())

    def _put(self, name: str, content: bytes) -> None:
        put(self._store, self.path(name), content)

    def note(self, chunk: ChunkRange) -> Note | None:
        """Return the note of this chunk.

        Returns:
            None while the chunk is not committed.
        """
        content = self._store.get([self.path(f"{chunk.digest}.json")]).values()
        return next((Note(**json.loads(found)) for found in content), None)

    def notes(self) -> dict[str, Note]:
        """Return the notes, by the digests of the chunks."""
        names = [n for n in self._store.names(self._directory) if n.endswith(".json") and not n.startswith("_")]
        contents = self._store.get([self.path(name) for name in names])
        found: Iterable[dict[str, Any]] = map(json.loads, contents.values())
        return {fields["chunk"]: Note(**fields) for fields in found}


def passes(store: Store) -> list[PassRef]:
    """Return the passes that have written something here and are not complete."""
    directories = [name for name in store.names() if name.startswith(STAGING)]
    contents = store.get([f"{directory}_pass.json" for directory in directories])
    return [PassRef(**json.loads(content)) for content in contents.values()]


def in_order(notes: Iterable[Note], pass_: PassRef, place: str) -> list[Note]:
    """Return the notes of a pass in the order of their ranges, each of which begins where another ends.

    In a replay some may be missing, because its chunks are independent.

    Raises:
        BadSink: a note of a pass is missing.
    """
    by_start = {note.after: note for note in notes}
    starts = sorted(by_start.keys() - {note.upto for note in by_start.values()})
    whole = [start == _START or pass_.adds for start in starts]
    if not (of_replay(pass_.job) or whole in ([], [True])):
        raise BadSink(
            f"{place} has lost the part of the chunk that ends at {starts[-1]}: give the pass up with restart=True"
        )
    found = []
    for start in starts:
        after: str | None = start
        while after in by_start:
            found.append(by_start[after])
            after = found[-1].upto
    return found
