"""How many rows the next chunk has: adapted to how long chunks take. Pure; durations come in as arguments."""

from prefect_batch.blocks.values import Tally

__all__ = ["MANY_CHUNKS", "ChunkSizer"]

FIRST_ROWS = 50_000
# What a chunk costs besides its work is about this much of it.
LEAST_SECONDS = 0.5
LEAST_ROWS, MOST_ROWS = 10, 2_000_000
# A chunk is long enough that Prefect's part in it does not matter, and short enough to finish when a run is cancelled:
# 30 s later the process is killed.
TARGET_SECONDS, LONGEST_SECONDS = 5.0, 15.0
GROWTH = 1.5
# Prefect's server keeps the task runs of a flow run reliably up to about this many.
MANY_CHUNKS = 1_000
# Bytes of a chunk's source rows.
MOST_BYTES = 256 * 2**20


class ChunkSizer:
    """The rows of the next chunk: `fixed`, or what takes about five seconds of a chunk's own work.

    `records` is about how many the pass has to go: for very many the chunks get longer, so that there are not more than
    about a thousand of them. `at_once` is how many chunks are at work together.
    """

    def __init__(self, fixed: int | None, records: int, at_once: int = 1) -> None:
        self._fixed = fixed
        self._enough = -(-records // MANY_CHUNKS)
        self._left, self.at_once = records, at_once
        self._bound: int | None = None
        self._pace = 0.0
        self.rows = fixed or FIRST_ROWS

    def take(self) -> int:
        """The rows of the next chunk; towards the end of a pass they get fewer, so that all workers end together."""
        if self._fixed is not None:
            return self._fixed
        share = max(self._left // (2 * self.at_once), FIRST_ROWS, int(LEAST_SECONDS * self._pace))
        rows = min(self.rows, share) if self._left > 0 else self.rows
        self._left -= rows
        return rows

    def bound(self, most_rows: int | None) -> None:
        """Plan no chunk with more rows than this; None for no bound. Where the rate is bounded, so is the size."""
        self._bound = most_rows
        if most_rows is not None and self.adapts:
            self.rows = min(self.rows, most_rows)

    @property
    def adapts(self) -> bool:
        """Whether the size is not fixed."""
        return self._fixed is None

    @property
    def at_floor(self) -> bool:
        """Whether chunks cannot get smaller, though they take too long."""
        return self.adapts and self.rows == LEAST_ROWS

    def observe(self, planned_rows: int, tally: Tally) -> None:
        """Learn from a finished chunk that was planned with so many rows.

        `tally.seconds` is the chunk's own work, without waiting in a queue. Chunks of another size than the present one
        were planned before the last change, and say nothing about it: only one that is far too long is heeded.
        """
        if not self.adapts:
            return
        wanted = self._wanted(tally)
        far_over = tally.seconds > 2 * LONGEST_SECONDS or (planned_rows < self.rows and wanted < planned_rows)
        if planned_rows != self.rows and not far_over:
            return
        grown = int(self.rows * GROWTH)
        self.rows = max(LEAST_ROWS, min(wanted, grown, MOST_ROWS))
        self.bound(self._bound)

    def _wanted(self, tally: Tally) -> int:
        """The rows that this chunk's pace suggests."""
        if tally.read == 0 or tally.seconds <= 0:
            return MOST_ROWS
        self._pace = pace = tally.read / tally.seconds
        rows = max(pace * TARGET_SECONDS, min(self._enough, pace * LONGEST_SECONDS))
        if tally.bytes:
            rows = min(rows, MOST_BYTES / (tally.bytes / tally.read))
        return max(1, int(rows))
