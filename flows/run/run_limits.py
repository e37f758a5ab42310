"""What a run may do just now: the watch and the memory set these limits, and the walk obeys them."""

from dataclasses import dataclass

from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.flows.run.stopping import StopRequest

__all__ = ["RunLimits"]


@dataclass
class RunLimits:
    """The limits of a run, which change while it is at work; only its main thread touches them.

    At most `concurrency` chunks are at work, each with at most `batch_rows` records in memory at once, and together
    they read at most `max_rate` records a second; None is no limit. `memory_bytes` is what the whole run may take.
    While `waits_for` names a reason, no further chunk is started. `request` says whether somebody asked the run to
    stop, and `problem` is the error that it will stop with; the chunks in flight are finished first.
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
        """How many records one chunk may read in so many seconds, at least one; None without a limit."""
        return max(1, int(self.max_rate / self.concurrency * seconds)) if self.max_rate else None

    @property
    def rows_at_once(self) -> int:
        """The records of a batch: no more than may be read in a second, so that a slow run looks around as often."""
        return min(self.batch_rows, self.rows_at_rate(1.0) or self.batch_rows)
