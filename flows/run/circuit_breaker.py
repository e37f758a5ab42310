"""The circuit breaker: chunks of which the sink took nothing are held back until it is known whether it takes any."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from prefect_batch.blocks.chunks import ChunkRange, ChunkResult
from prefect_batch.blocks.errors import CircuitOpen, SinkRefuses, TooLarge
from prefect_batch.tasks.work.refusals import ENOUGH_RECORDS


class _Held(NamedTuple):
    refusal: SinkRefuses | TooLarge
    since: float


@dataclass
class Circuit:
    """The circuit breaker, which opens when `limit` chunks in a row were rejected whole, and never if it is None.

    A rejected chunk is neither finished nor buried. When a chunk that began after the rejection is written, the sink
    works and the rejected chunk has bad records only: it is released, repeated, and its records are buried. "In a row"
    means in the order in which chunks end, without such a proof between them.

    The same holds for chunks of one key that are too large: only if others pass, it is their records that are to blame.
    """

    job: str
    limit: int | None
    _held: dict[ChunkRange, _Held] = field(default_factory=dict)
    _released: set[ChunkRange] = field(default_factory=set)
    _has_written: bool = False

    @property
    def held(self) -> set[ChunkRange]:
        """The chunks that must not be started now."""
        return set(self._held)

    def hold(self, chunk: ChunkRange, refusal: SinkRefuses | TooLarge, now: float) -> CircuitOpen | None:
        """Hold this chunk back.

        Returns:
            Why the run must stop, or None while it may continue.
        """
        self._held[chunk] = _Held(refusal, now)
        return self._open() if self.limit is not None and len(self._held) >= self.limit else None

    def see(self, result: ChunkResult) -> None:
        """Release the chunks that were rejected before this finished chunk began, if it has written records."""
        if result.tally.written == 0:
            return
        self._has_written = True
        self._release(chunk for chunk, held in self._held.items() if held.since <= result.started_at)

    def settle(self) -> CircuitOpen | None:
        """Release the chunks held back, when no others are left.

        Returns:
            Why the run must stop, if the sink took nothing at all.
        """
        alike = self.limit is not None and sum(isinstance(held.refusal, TooLarge) for held in self._held.values()) > 1
        if not self._has_written and (alike or self._records >= ENOUGH_RECORDS):
            return self._open()
        self._release(self._held)
        return None

    def may_bury(self, chunk: ChunkRange) -> bool:
        """Return whether this chunk may bury all its records if the sink rejects them all."""
        return self.limit is None or chunk in self._released

    def has_released(self, chunk: ChunkRange) -> bool:
        """Return whether this chunk was held back, and others have passed since, or none is left."""
        return chunk in self._released

    def _release(self, chunks: Iterable[ChunkRange]) -> None:
        for chunk in list(chunks):
            del self._held[chunk]
            self._released.add(chunk)

    @property
    def _records(self) -> int:
        return sum(held.refusal.records for held in self._held.values())

    def _open(self) -> CircuitOpen:
        chunks = list(self._held)
        first, last = chunks[0], chunks[-1]
        return CircuitOpen(self.job, len(chunks), self._records, first, last, self._held[last].refusal.error)
