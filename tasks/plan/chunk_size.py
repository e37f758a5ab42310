"""The number of rows of the next chunk, adapted to how long chunks take. Pure: durations are arguments."""

from typing import NamedTuple

from prefect_batch.blocks.chunks import Tally

# A wrong column name in the processor costs this many records, not a fan-out.
CANARY_ROWS = 1_000
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


class FirstChunks(NamedTuple):
    """The rows of a run's first chunk, which is alone, and of those after it."""

    canary: int
    rows: int


def start_of(done: Tally, *, tables: bool) -> FirstChunks:
    """Return the first chunk sizes of a run that continues after this tally.

    The rate of the work done so far bounds them, so that no chunk lasts longer than allowed. `tables`: the function
    takes Arrow tables, which are fast.
    """
    start = FirstChunks(5 * CANARY_ROWS, 8 * FIRST_ROWS) if tables else FirstChunks(CANARY_ROWS, FIRST_ROWS)
    if not (done.read and done.seconds):
        return start
    return start._replace(rows=max(LEAST_ROWS, min(start.rows, int(done.read / done.seconds * LONGEST_SECONDS))))


class ChunkSizer:
    """The number of rows of the next chunk: `fixed`, or as many as take about five seconds of a chunk's own work.

    `records` is about how many records remain in the pass: for very many the chunks are longer, so that there are at
    most about a thousand. `at_once` is the number of chunks that run at the same time, and `first` the rows to begin
    with.
    """

    def __init__(self, fixed: int | None, records: int, at_once: int = 1, first: int = FIRST_ROWS) -> None:
        self._fixed = fixed
        self._untried = True
        self._enough = -(-records // MANY_CHUNKS)
        self._left, self.at_once = records, at_once
        self._bound: int | None = None
        self._fits: int | None = None
        self._pace = 0.0
        self.rows = fixed or first

    def take(self) -> int:
        """Return the rows of the next chunk: fewer towards the end of a pass, so that all workers end together."""
        if self._fixed is not None:
            return self.fitting(self._fixed)
        share = max(self._left // (2 * self.at_once), FIRST_ROWS, int(LEAST_SECONDS * self._pace))
        rows = min(self.rows, share) if self._left > 0 else self.rows
        self._left -= rows
        return self.fitting(rows)

    def fit(self, rows: int) -> None:
        """Plan no chunk with more rows than this any more: larger ones have failed for their size."""
        self._fits = max(1, min(rows, self._fits or rows))

    def fitting(self, rows: int) -> int:
        """Return so many rows, or as many as a chunk can have without failing."""
        return rows if self._fits is None else min(rows, self._fits)

    @property
    def most(self) -> int | None:
        """The rows that no chunk should exceed, also one that was planned before. None if that is not known."""
        return self._fits if self._fixed is None else self.fitting(self._fixed)

    def bound(self, most_rows: int | None) -> None:
        """Plan no chunk with more rows than this, or without a bound if it is None. A rate limit bounds the size."""
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
        """Adapt the size to a finished chunk that was planned with this many rows.

        `tally.seconds` is the chunk's own work, without waiting in a queue. Chunks of another size than the present one
        were planned before the last change. They are ignored, unless one took far too long.
        """
        if not self.adapts:
            return
        wanted = self._wanted(tally)
        far_over = tally.seconds > 2 * LONGEST_SECONDS or (planned_rows < self.rows and wanted < planned_rows)
        untried, self._untried = self._untried, False
        if planned_rows != self.rows and not far_over:
            if untried and planned_rows < self.rows:
                # The first, small chunk: what it takes besides its records makes it seem slower than it is.
                self.rows = max(planned_rows, min(self.rows, self._wanted(tally, LONGEST_SECONDS)))
            return
        grown = int(self.rows * GROWTH)
        self.rows = max(LEAST_ROWS, min(wanted, grown, MOST_ROWS))
        self.bound(self._bound)

    def _wanted(self, tally: Tally, target_seconds: float = TARGET_SECONDS) -> int:
        """Return the rows that this chunk's pace suggests."""
        if tally.read == 0 or tally.seconds <= 0:
            return MOST_ROWS
        self._pace = pace = tally.read / tally.seconds
        rows = max(pace * target_seconds, min(self._enough, pace * LONGEST_SECONDS))
        if tally.bytes:
            rows = min(rows, MOST_BYTES / (tally.bytes / tally.read))
        return max(1, int(rows))
