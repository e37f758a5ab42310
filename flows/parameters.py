"""The parameters of `process_records`, checked together."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from prefect_batch.blocks.connections import open_engine
from prefect_batch.blocks.cursor import check_job
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.policy import FailurePolicy
from prefect_batch.blocks.processor import resolve_processor
from prefect_batch.blocks.table import Query, Table
from prefect_batch.tasks.begin import define

__all__ = ["Parameters"]


@dataclass(frozen=True)
class Parameters:
    """What the caller asked for; see `process_records` for each field.

    Raises:
        BadParameter: a value is out of its range.
        BadProcessor: `process` cannot be imported, or is not marked.
    """

    job: str
    source: Table | Query
    process: str | Callable[..., Any]
    sink: Table
    chunk_size: int
    concurrency: int | None
    retries: int
    retry_delay_seconds: float
    max_failure_rate: float
    min_records: int
    max_failures: int | None
    record_retries: int
    limit: int | None
    dry_run: bool
    restart: bool
    mode: Literal["full", "incremental"]
    overlap: int | timedelta | None
    dead_letters: str | None

    def __post_init__(self) -> None:
        check_job(self.job)
        for name, least in (("chunk_size", 1), ("retries", 0), ("retry_delay_seconds", 0), ("record_retries", 0)):
            if getattr(self, name) < least:
                raise BadParameter(f"{name}={getattr(self, name)} must be {least} or more")
        for name in ("concurrency", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadParameter(f"{name}={value} must be 1 or more, or None")
        self._check_overlap()
        _ = self.policy, self.definition

    def _check_overlap(self) -> None:
        if self.overlap is None:
            return
        if self.mode != "incremental":
            raise BadParameter("overlap goes with mode='incremental': a full pass reads everything anyway")
        if self.overlap < (timedelta() if isinstance(self.overlap, timedelta) else 0):  # type: ignore[operator]
            raise BadParameter(f"overlap={self.overlap} must not be negative")

    @property
    def policy(self) -> FailurePolicy:
        """The failure limits."""
        return FailurePolicy(self.max_failure_rate, self.min_records, self.max_failures)

    @property
    def definition(self) -> dict[str, Any]:
        """What must not change while a pass is unfinished."""
        return define(self.source, self.sink, resolve_processor(self.process).name)

    @property
    def at_once(self) -> int:
        """The number of chunks at work at once."""
        if self.concurrency is not None:
            return self.concurrency
        dialects = {open_engine(end.connection).dialect.name for end in (self.source, self.sink)}
        # SQLite has one writer, and its threads hand the interpreter over at every row: two are slower than one.
        return 1 if "sqlite" in dialects else min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
