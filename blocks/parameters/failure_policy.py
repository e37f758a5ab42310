"""When a run has failed too often; see docs on scope: all records of this run, judged after every chunk."""

from dataclasses import dataclass

from prefect_batch.blocks.chunks import Tally
from prefect_batch.blocks.errors import BadParameter

__all__ = ["FailurePolicy"]


@dataclass(frozen=True)
class FailurePolicy:
    """How many records of a run may fail.

    `max_failure_rate` is a share from 0 to 1, exceeded by more and not by equal; it is judged once `min_records`
    were read, and at the end of the run whatever their number. `max_failures` is a count; None means no limit.
    """

    max_failure_rate: float = 0.05
    min_records: int = 1000
    max_failures: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_failure_rate <= 1:
            raise BadParameter(f"max_failure_rate={self.max_failure_rate} must be a share from 0 to 1: 0.05 is 5 %")
        if self.min_records < 0:
            raise BadParameter(f"min_records={self.min_records} must be 0 or more")
        if self.max_failures is not None and self.max_failures < 0:
            raise BadParameter(f"max_failures={self.max_failures} must be 0 or more, or None for no limit")

    def exceeded(self, tally: Tally, *, final: bool) -> str | None:
        """Why the run must stop, as the first half of a sentence; None while it may go on."""
        if self.max_failures is not None and tally.failed > self.max_failures:
            return f"{tally.failed:,} records failed, more than max_failures={self.max_failures:,}"
        judged = final or tally.read >= self.min_records
        # The rate as a product: a quotient could round 5 % of something onto the wrong side.
        if judged and tally.failed > self.max_failure_rate * tally.read:
            return (
                f"{tally.failed:,} of {tally.read:,} records failed ({tally.failure_rate:.2%}), "
                f"more than max_failure_rate={self.max_failure_rate:g} allows"
            )
        return None
