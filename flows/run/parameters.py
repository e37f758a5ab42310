"""The parameters of `process_records`, checked together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.jobs import check_job, main_job
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.blocks.parameters.health_check import HealthCheck
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.blocks.parameters.run_window import RunWindow
from prefect_batch.blocks.parameters.specs import SinkSpec, SourceSpec
from prefect_batch.blocks.processor import resolve_processor
from prefect_batch.tasks.plan.begin import define

__all__ = ["Parameters"]


@dataclass(frozen=True)
class Parameters:
    """What the caller asked for; see `process_records` for each field.

    Raises:
        BadParameter: a value is out of its range.
        BadProcessor: `process` cannot be imported, or is not marked.
    """

    job: str
    source: SourceSpec | Letters
    process: str | Callable[..., Any]
    sink: SinkSpec
    chunk_size: int | None
    concurrency: int | None
    retries: int
    retry_delay_seconds: float
    max_failure_rate: float
    min_records: int
    max_failures: int | None
    circuit_breaker: int | None
    record_retries: int
    record_timeout: float | None
    workers: Literal["processes", "threads"] | None
    max_memory_mb: int | None
    limit: int | None
    dry_run: bool
    restart: bool
    mode: Literal["full", "incremental"]
    overlap: int | timedelta | None
    dead_letters: str | None
    redact: list[str] | None
    run_window: str | None = None
    max_duration: float | timedelta | None = None
    max_rate: float | None = None
    health: Sequence[HealthCheck] = ()
    min_free_disk_mb: int = 500
    alert: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_job(self.job if self.source.replay is None else main_job(self.job))
        for name, least in (("retries", 0), ("retry_delay_seconds", 0), ("record_retries", 0), ("min_free_disk_mb", 0)):
            if getattr(self, name) < least:
                raise BadParameter(f"{name}={getattr(self, name)} must be {least} or more")
        for name in ("chunk_size", "concurrency", "circuit_breaker", "max_memory_mb", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadParameter(f"{name}={value} must be 1 or more, or None")
        self._check_overlap()
        self._check_timeout()
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise BadParameter(f"max_duration={self.max_duration} must be more than 0 seconds, or None")
        if self.max_rate is not None and not 0 < self.max_rate < math.inf:
            raise BadParameter(f"max_rate={self.max_rate} must be more than 0 records per second, or None")
        _ = self.policy, self.definition, self.window

    def _check_overlap(self) -> None:
        if self.overlap is None:
            return
        if self.mode != "incremental":
            raise BadParameter("overlap goes with mode='incremental': a full pass reads everything anyway")
        if self.overlap < (timedelta() if isinstance(self.overlap, timedelta) else 0):  # type: ignore[operator]
            raise BadParameter(f"overlap={self.overlap} must not be negative")
        if not self.overlap:
            return
        if reason := self.sink.forbids_overlap:
            raise BadParameter(f"overlap={self.overlap} reads records again, and {reason}")

    def _check_timeout(self) -> None:
        if self.record_timeout is None:
            return
        if self.record_timeout <= 0:
            raise BadParameter(f"record_timeout={self.record_timeout} must be more than 0 seconds, or None")
        processor = resolve_processor(self.process)
        if processor.vectorized:
            raise BadParameter("record_timeout does not go with a vectorized function, which has no single records")
        if processor.form == "record" and self.workers == "threads":
            raise BadParameter("record_timeout needs worker processes: a thread that hangs cannot be ended")

    def check_redact(self, source: Source) -> None:
        """Nothing, when the redacted columns are columns of the source, and none of them part of its key.

        Raises:
            BadParameter: they are not.
        """
        for column in self.redact or () if self.source.replay is None else ():
            if column in source.key:
                raise BadParameter(
                    f"redact={self.redact} names {column}, which is part of the key of {source.name}: chunks, cursor "
                    "and letters are named by it; use another key"
                )
            if column not in source.names:
                raise BadParameter(
                    f"redact={self.redact} names {column}, but {source.name} has {', '.join(source.names)}"
                )

    @property
    def policy(self) -> FailurePolicy:
        """The failure limits."""
        return FailurePolicy(self.max_failure_rate, self.min_records, self.max_failures)

    @property
    def window(self) -> RunWindow | None:
        """The hours in which the job may run."""
        return None if self.run_window is None else RunWindow(self.run_window)

    @property
    def max_seconds(self) -> float | None:
        """How long the run may take."""
        return self.max_duration.total_seconds() if isinstance(self.max_duration, timedelta) else self.max_duration

    @property
    def definition(self) -> dict[str, Any]:
        """What must not change while a pass is unfinished."""
        return define(self.source, self.sink, resolve_processor(self.process).name)
