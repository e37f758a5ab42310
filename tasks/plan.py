"""Which chunks come next: edges by row rank, a few at a time, within the pass and the run's limit."""

from typing import Protocol

from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.position import Position
from prefect_batch.blocks.values import ChunkRange

__all__ = ["EdgeSource", "Planner"]

# A wrong column name in the processor costs this many records, not a fan-out.
CANARY_RECORDS = 1_000
# Edges are planned, and saved, this many at a time.
AHEAD = 8


class EdgeSource(Protocol):
    """What planning needs of a source."""

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """At most `most` keys in ``(after, upto]``, each `rows` rows after the former; the last may be `upto`."""


class Planner:
    """Hands out the unfinished chunks of a position in order, planning more when it runs short.

    `chunk_size` is the number of rows of a chunk. `limit` bounds the records that this run starts on: planning stops
    there, and the pass stays unfinished. `canary`: the first chunk planned is a small one.
    """

    def __init__(self, source: EdgeSource, chunk_size: int, *, limit: int | None, canary: bool) -> None:
        self._source = source
        self._chunk_size = chunk_size
        self._left = limit
        self._canary = canary
        self._own: set[ChunkRange] = set()

    def plan(self, position: Position, busy: set[ChunkRange], wanted: int) -> Position:
        """The position with more chunks planned, if fewer than `wanted` of its own wait to be started."""
        exhausted = self._left is not None and self._left <= 0
        if exhausted or position.fully_planned or len(_waiting(position, busy)) >= wanted:
            return position
        assert position.upper is not None
        rows, most = self._chunk_size, max(wanted, AHEAD)
        if self._canary:
            self._canary = False
            rows, most = min(rows, CANARY_RECORDS), 1
        if self._left is not None:
            rows = min(rows, self._left)
            most = min(most, self._left // rows)
            self._left -= rows * most
        edges = self._source.edges(position.planned_upto, position.upper, rows, most)
        planned = position.plan(edges)
        self._own.update(chunk for chunk, _ in planned.ranges()[-len(edges) :])
        return planned

    def take(self, position: Position, busy: set[ChunkRange], most: int) -> list[ChunkRange]:
        """Up to `most` planned chunks to start now, in order, none of them in `busy`."""
        taken = []
        for chunk in _waiting(position, busy)[:most]:
            if chunk not in self._own and self._left is not None:
                # An earlier run planned it, and how many rows it has is not known.
                if self._left <= 0:
                    break
                self._left -= self._chunk_size
            taken.append(chunk)
        return taken


def _waiting(position: Position, busy: set[ChunkRange]) -> list[ChunkRange]:
    return [chunk for chunk, done in position.ranges() if not done and chunk not in busy]
