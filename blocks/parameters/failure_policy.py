"""Decides when too many records of a run have failed. A run checks it after every chunk."""

from dataclasses import dataclass

from prefect_batch.blocks.chunks import Tally
from prefect_batch.blocks.errors import BadParameter


@dataclass(frozen=True)
class FailurePolicy:
    """How many records of a run may fail.

    Attributes:
        max_failure_rate: The allowed share of failed records, from 0 to 1. An equal share is still allowed.
        min_records: The rate is checked once this many records were read, and always at the end of the run.
        max_failures: The allowed number of failed records. None means no limit.
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
        """Return why the run must stop, as the first half of a sentence.

        With `final`, the rate is checked whatever the number of records.

        Returns:
            None if the run may continue.
        """
        if self.max_failures is not None and tally.failed > self.max_failures:
            return f"{tally.failed:,} records failed, more than max_failures={self.max_failures:,}"
        judged = final or tally.read >= self.min_records
        # A product, because a rounded quotient could be on the wrong side of the limit.
        if judged and tally.failed > self.max_failure_rate * tally.read:
            return (
                f"{tally.failed:,} of {tally.read:,} records failed ({tally.failure_rate:.2%}), "
                f"more than max_failure_rate={self.max_failure_rate:g} allows"
            )
        return None
