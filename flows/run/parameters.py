"""The parameters of a run: five values by what they are about, with their defaults, and all of them together."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal, Self

from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.jobs import check_job, main_job
from prefect_batch.blocks.letters.redaction import redaction_key
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.blocks.parameters.health_check import HealthCheck
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.blocks.parameters.run_window import RunWindow
from prefect_batch.blocks.parameters.specs import SinkSpec, SourceSpec
from prefect_batch.blocks.processor import Processor, resolve_processor
from prefect_batch.tasks.plan.begin import define
from prefect_batch.tasks.plan.bound import bound_to


def part_of(part: Any, given: Mapping[str, Any]) -> Any:
    """Return one of the values below from the parameters of a flow, with defaults for those left out."""
    return part(**{field.name: given[field.name] for field in fields(part) if field.name in given})


def _check_least(part: object, least: int, *names: str) -> None:
    """Raise BadParameter unless each of these is at least so much, or None."""
    for name in names:
        value = getattr(part, name)
        if value is not None and value < least:
            or_none = ", or None" if least else ""
            raise BadParameter(f"{name}={value} must be {least} or more{or_none}")


@dataclass(frozen=True)
class JobParameters:
    """What a job does, and who is alerted when it fails.

    Raises:
        BadParameter: `job` is not a valid name.
        BadProcessor: `process` cannot be imported, or is not marked.
    """

    job: str
    source: SourceSpec | Letters
    process: str | Callable[..., Any]
    sink: SinkSpec
    alert: Sequence[str] | None = None
    dead_letters: str | None = None
    redact: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_job(self.job if self.source.replay is None else main_job(self.job))
        _ = self.processor

    def check_redact(self, source: Source) -> None:
        """Raise unless the redacted columns are columns of the source, and none of them part of its key.

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
    def processor(self) -> Processor:
        """The function and its form."""
        return resolve_processor(self.process)

    def define(self, *, leave_no_trace: bool = False) -> dict[str, Any]:
        """Return what must not change while a pass is unfinished.

        With `leave_no_trace`, the key for values that are bound to the function is not made if there is none.
        """
        processor, key = self.processor, functools.partial(redaction_key, create=not leave_no_trace)
        return define(self.source, self.sink, processor.name, bound_to(processor.function, main_job(self.job), key))


@dataclass(frozen=True)
class PassParameters:
    """Which records a run works on, and whether it changes anything.

    Raises:
        BadParameter: a value is out of its range.
    """

    mode: Literal["full", "incremental"] = "full"
    overlap: int | timedelta | None = None
    limit: int | None = None
    dry_run: bool = False
    restart: bool = False
    write_again: bool = False

    def __post_init__(self) -> None:
        _check_least(self, 1, "limit")
        if self.overlap is None:
            return
        if self.mode != "incremental":
            raise BadParameter("overlap goes with mode='incremental': a full pass reads everything anyway")
        if self.overlap < (timedelta() if isinstance(self.overlap, timedelta) else 0):  # type: ignore[operator]
            raise BadParameter(f"overlap={self.overlap} must not be negative")


@dataclass(frozen=True)
class FailureParameters:
    """How much may fail before a run stops.

    Raises:
        BadParameter: a value is out of its range.
    """

    max_failure_rate: float = FailurePolicy.max_failure_rate
    max_failures: int | None = FailurePolicy.max_failures
    min_records: int = FailurePolicy.min_records
    circuit_breaker: int | None = 3

    def __post_init__(self) -> None:
        _check_least(self, 1, "circuit_breaker")
        _ = self.policy

    @property
    def policy(self) -> FailurePolicy:
        """The limits of failed records."""
        return FailurePolicy(self.max_failure_rate, self.min_records, self.max_failures)


@dataclass(frozen=True)
class ChunkParameters:
    """How large chunks are, and how often what fails is tried again.

    Raises:
        BadParameter: a value is out of its range.
    """

    record_timeout: float | None = None
    record_retries: int = 0
    chunk_size: int | None = None
    retries: int = 5
    retry_delay_seconds: float = 1.0

    def __post_init__(self) -> None:
        _check_least(self, 0, "retries", "retry_delay_seconds", "record_retries")
        _check_least(self, 1, "chunk_size")
        if self.record_timeout is not None and self.record_timeout <= 0:
            raise BadParameter(f"record_timeout={self.record_timeout} must be more than 0 seconds, or None")


@dataclass(frozen=True)
class RunParameters:
    """When a run may work, how fast, and what it may take of its machine.

    Raises:
        BadParameter: a value is out of its range.
    """

    run_window: str | None = None
    max_duration: float | timedelta | None = None
    max_rate: float | None = None
    health: Sequence[HealthCheck] | None = None
    min_free_disk_mb: int = 500
    concurrency: int | None = None
    workers: Literal["processes", "threads"] | None = None
    max_memory_mb: int | None = None

    def __post_init__(self) -> None:
        _check_least(self, 0, "min_free_disk_mb")
        _check_least(self, 1, "concurrency", "max_memory_mb")
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise BadParameter(f"max_duration={self.max_duration} must be more than 0 seconds, or None")
        if self.max_rate is not None and not 0 < self.max_rate < math.inf:
            raise BadParameter(f"max_rate={self.max_rate} must be more than 0 records per second, or None")
        _ = self.window

    @property
    def window(self) -> RunWindow | None:
        """The hours in which the job may run."""
        return None if self.run_window is None else RunWindow(self.run_window)

    @property
    def max_seconds(self) -> float | None:
        """How long the run may take."""
        return self.max_duration.total_seconds() if isinstance(self.max_duration, timedelta) else self.max_duration


_PARTS: tuple[Any, ...] = (JobParameters, PassParameters, FailureParameters, ChunkParameters, RunParameters)


@dataclass(frozen=True)
class Parameters:
    """The parameters of a run. `process_records` describes each field of the parts.

    Raises:
        BadParameter: two values do not go together.
    """

    what: JobParameters
    pass_: PassParameters = PassParameters()
    failures: FailureParameters = FailureParameters()
    chunks: ChunkParameters = ChunkParameters()
    run: RunParameters = RunParameters()

    @classmethod
    def of(cls, **flat: Any) -> Self:
        """Return the parameters from the flat form of flows and files, with defaults for those left out."""
        unknown = flat.keys() - {field.name for part in _PARTS for field in fields(part)}
        assert not unknown, f"these belong to no part of the parameters: {', '.join(unknown)}"
        return cls(*(part_of(part, flat) for part in _PARTS))

    def __post_init__(self) -> None:
        self._check_overlap()
        self._check_timeout()

    def _check_overlap(self) -> None:
        overlap = self.pass_.overlap
        if overlap and (reason := self.what.sink.forbids_overlap):
            raise BadParameter(f"overlap={overlap} reads records again, and {reason}")

    def _check_timeout(self) -> None:
        if self.chunks.record_timeout is None:
            return
        processor = self.what.processor
        if processor.vectorized:
            raise BadParameter("record_timeout does not go with a vectorized function, which has no single records")
        if processor.form == "record" and self.run.workers == "threads":
            raise BadParameter("record_timeout needs worker processes: a thread that hangs cannot be ended")
