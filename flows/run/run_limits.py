"""What a run may do now: the watch and the memory set these limits, and the walk obeys them."""

from dataclasses import dataclass

from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.flows.run.stopping import StopRequest


@dataclass
class RunLimits:
    """The limits of a run, which only its main thread reads and changes while it is running.

    Attributes:
        concurrency: How many chunks run at the same time at most.
        batch_rows: How many records each of them has in memory at once at most.
        max_rate: Records per second that they read together at most. None is no limit.
        memory_bytes: The memory that the whole run may take.
        policy: How many records may fail.
        request: Whether a stop was requested. The chunks in flight are finished first.
        waits_for: Why no further chunk is started now. Empty if chunks may start.
        problem: The error with which the run will stop. The chunks in flight are finished first.
    """

    concurrency: int
    batch_rows: int
    max_rate: float | None
    memory_bytes: int
    policy: FailurePolicy
    request: StopRequest
    waits_for: str = ""
    problem: Exception | None = None

    @property
    def stops(self) -> bool:
        """Whether the run is about to end, and starts nothing more."""
        return bool(self.problem or self.request.reason)

    @property
    def let_start(self) -> bool:
        """Whether further chunks may be started just now."""
        return not (self.waits_for or self.stops)

    def rows_at_rate(self, seconds: float) -> int | None:
        """Return how many records, at least one, a chunk may read in this many seconds, or None without a limit."""
        return max(1, int(self.max_rate / self.concurrency * seconds)) if self.max_rate else None

    @property
    def rows_at_once(self) -> int:
        """The records of a batch: no more than may be read in a second, so that a slow run looks around as often."""
        return min(self.batch_rows, self.rows_at_rate(1.0) or self.batch_rows)
