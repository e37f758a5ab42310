"""Planning of the next chunks: edges by row rank, a few at a time, within the pass and the run's limit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect_batch.blocks.chunks import ChunkRange, Split, Tally
from prefect_batch.blocks.state.position import Position
from prefect_batch.tasks.plan.chunk_size import ChunkSizer

if TYPE_CHECKING:
    from prefect_batch.blocks.contracts import Source

# Edges are planned, and saved, this many at a time.
AHEAD = 8


class Planner:
    """Gives out the unfinished chunks of a position in order, and plans more when few are left.

    `sizer` gives the number of rows of a chunk. `limit` bounds the records that this run starts on: planning ends
    there, and the pass stays unfinished. The first chunk planned has at most `canary` rows, or None for no such bound.
    """

    def __init__(self, source: "Source", sizer: ChunkSizer, *, limit: int | None, canary: int | None) -> None:
        self._source = source
        self._sizer = sizer
        self._left = limit
        self._canary = canary
        self._own: dict[ChunkRange, int] = {}
        self._charged: dict[ChunkRange, int] = {}
        self._of_split: dict[ChunkRange, _Whole] = {}

    def plan(self, position: Position, busy: set[ChunkRange], wanted: int) -> Position:
        """Return the position with more chunks planned, if fewer than `wanted` of its own wait to be started."""
        waiting = _waiting(position, busy)
        # What is planned already, by an earlier run perhaps, comes first.
        free = None if self._left is None else self._left - sum(map(self._expected, waiting))
        if (free is not None and free <= 0) or position.fully_planned or len(waiting) >= wanted:
            return position
        assert position.upper is not None
        # Where sizes change, what is planned long before is of the wrong one.
        rows, most = self._sizer.take(), 1 if self._sizer.adapts else max(wanted, AHEAD)
        if self._canary is not None:
            rows, most, self._canary = min(rows, self._canary), 1, None
        if free is not None:
            rows = min(rows, free)
            most = min(most, free // rows)
        edges = self._source.edges(position.planned_upto, position.upper, rows, most)
        planned = position.plan(edges)
        self._own.update(dict.fromkeys((chunk for chunk, _ in planned.ranges()[-len(edges) :]), rows))
        return planned

    def learn(self, chunk: ChunkRange, tally: Tally) -> bool:
        """Adapt the size of the next chunks to a finished one, unless an earlier run planned it.

        The limit is charged with what the chunk has read, instead of what was expected.

        Returns:
            Whether chunks have just reached their smallest size and still take too long.
        """
        before = self._sizer.at_floor
        if whole := self._of_split.pop(chunk, None):
            whole.finish(tally.read)
            if whole.fits:
                self._sizer.fit(whole.fits)
        if rows := self._own.pop(chunk, None):
            self._sizer.observe(rows, tally)
        if self._left is not None:
            self._left += self._charged.pop(chunk, 0) - tally.read
        return self._sizer.at_floor and not before

    def take(self, position: Position, busy: set[ChunkRange], most: int) -> list[ChunkRange]:
        """Up to `most` planned chunks to start now, in order, none of them in `busy`."""
        taken = []
        for chunk in _waiting(position, busy)[:most]:
            if self._left is not None and chunk not in self._charged:  # Else it was held back, and is started again.
                if self._left <= 0:
                    break
                self._charged[chunk] = self._expected(chunk)
                self._left -= self._charged[chunk]
            taken.append(chunk)
        return taken

    def split(self, split: Split) -> None:
        """Take note that a chunk is done in parts, which are charged to the limit in its place."""
        rows = self._expected(split.range)
        self._own.pop(split.range, None)
        if self._left is not None:
            self._left += self._charged.pop(split.range, 0)
        whole = self._of_split.pop(split.range, None) or _Whole(unfinished=1)
        whole.unfinished += len(split.parts) - 1
        for part in split.parts:
            self._own[part] = max(1, rows // len(split.parts))
            self._of_split[part] = whole

    def excuse(self, chunk: ChunkRange) -> None:
        """Take note that this part failed for a record of its own, so that its size says nothing about others."""
        if whole := self._of_split.get(chunk):
            whole.excused = True

    def most_rows(self, chunk: ChunkRange) -> int | None:
        """Return the rows beyond which this chunk should be split before it is begun, or None if it is not too large.

        An earlier run may have planned larger chunks, and so may this one, before it saw that they fail.
        """
        most = self._sizer.most
        if most is None or chunk in self._of_split or self._own.get(chunk, most + 1) <= most:
            return None
        return most

    def _expected(self, chunk: ChunkRange) -> int:
        """Return about how many rows the chunk has. If an earlier run planned it, that is not known."""
        return self._own.get(chunk, self._sizer.rows)


@dataclass
class _Whole:
    """A chunk that is done in parts, which may be split in turn.

    Attributes:
        largest: The most records that a part had which passed.
        excused: Whether a single key failed, so that the chunk failed for a record and not for its size.
    """

    unfinished: int
    largest: int = 0
    excused: bool = False

    def finish(self, records: int) -> None:
        """Take note of a part that passed."""
        self.unfinished -= 1
        self.largest = max(self.largest, records)

    @property
    def fits(self) -> int:
        """How many records a chunk can have, once that is known, and before 0."""
        return 0 if self.unfinished or self.excused else self.largest


def _waiting(position: Position, busy: set[ChunkRange]) -> list[ChunkRange]:
    return [chunk for chunk, done in position.ranges() if not done and chunk not in busy]
