"""The walk over a pass: chunks are mapped in slices, results move the cursor, the policy may stop it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
from prefect import unmapped
from prefect.futures import PrefectFuture, as_completed
from prefect.tasks import Task

from prefect_batch.blocks.cursor import Cursor
from prefect_batch.blocks.errors import ChunkFailed, FailureRateExceeded, LostOwnership, RunStopped, StopBatch
from prefect_batch.blocks.policy import FailurePolicy
from prefect_batch.blocks.values import ChunkRange, ChunkResult
from prefect_batch.flows.stopping import StopRequest
from prefect_batch.tasks.plan import Planner
from prefect_batch.tasks.progress import Progress
from prefect_batch.tasks.report import count_errors
from prefect_batch.tasks.work import ChunkJob, abandon

__all__ = ["Walk"]


@dataclass
class Walk:
    """One run's walk over its pass; `cursor` is where it stands, and only this thread writes it.

    `save` stores the cursor and returns it as stored; `show` is told of every change. At most `concurrency` chunks
    are in flight.
    """

    cursor: Cursor
    job: ChunkJob
    task: Task[[ChunkJob, ChunkRange], dict[str, Any]]
    planner: Planner
    policy: FailurePolicy
    progress: Progress
    concurrency: int
    request: StopRequest
    save: Callable[[Cursor], Cursor]
    show: Callable[[], None]
    in_flight: dict[PrefectFuture[dict[str, Any]], ChunkRange] = field(default_factory=dict)
    problem: Exception | None = None
    cpu_seconds_before: float = field(default_factory=lambda: sum(psutil.Process().cpu_times()[:2]))

    def go(self) -> None:
        """Walk until the pass is complete, its limit is reached, or it must stop; chunks in flight are finished.

        Raises:
            FailureRateExceeded: too many records failed.
            ChunkFailed: a chunk failed as a whole.
            RunStopped: the processor raised StopBatch.
            LostOwnership: another run took the job over.
        """
        try:
            self._start_chunks(1)  # The canary, alone.
            while self.in_flight:
                self._collect(next(as_completed(list(self.in_flight))))
                self._start_chunks(self.concurrency)
                self._store()
        except LostOwnership:
            abandon(self.job.run_id)  # The chunks in flight are the new owner's now.
            raise
        except BaseException as error:
            # A signal, or Prefect's own Pause: finish what is in flight and save it before letting it pass.
            self._drain(at_once=isinstance(error, KeyboardInterrupt))
            raise
        if isinstance(self.problem, FailureRateExceeded):
            # Judged again: the chunks that were in flight count, too.
            reason = self.policy.exceeded(self.cursor.run.tally, final=False)
            raise FailureRateExceeded(explain(self.cursor, reason or str(self.problem), dry_run=self.job.dry_run))
        if self.problem:
            raise self.problem

    def _start_chunks(self, most: int) -> None:
        if self.problem or self.request.reason:
            return
        busy = set(self.in_flight.values())
        wanted = most - len(busy)
        planned = self.planner.plan(self.cursor.position, busy, wanted)
        if planned is not self.cursor.position:
            # Saved before they are started: a restart must plan the same ranges, or the ledger would not know them.
            self.cursor = replace(self.cursor, position=planned)
            self._store()
        if chunks := self.planner.take(planned, busy, wanted):
            futures = self.task.map(unmapped(self.job), chunks)
            self.in_flight.update(zip(futures, chunks, strict=True))

    def _store(self) -> None:
        self.cursor = self.save(self.cursor)
        self.show()

    def _collect(self, future: PrefectFuture[dict[str, Any]]) -> None:
        """Count the chunk that has ended, advance over it, and judge."""
        outcome: Any = future.result(raise_on_failure=False)
        chunk = self.in_flight.pop(future)
        if isinstance(outcome, BaseException):
            self._fail(chunk, outcome)
            return
        result = ChunkResult.decode(outcome)
        self.progress.add(result.tally, time.monotonic())
        run = self.cursor.run
        resources = dict(run.resources)
        resources["peak_rss_bytes"] = max(resources.get("peak_rss_bytes", 0), result.rss_bytes)
        run = replace(
            run,
            tally=run.tally + result.tally,
            errors=count_errors(run.errors, result.errors),
            rate=self.progress.rate(time.monotonic()),
            resources=resources,
        )
        tally = self.cursor.tally + result.tally
        self.cursor = replace(self.cursor, position=self.cursor.position.finish(chunk), tally=tally, run=run)
        if (reason := self.policy.exceeded(run.tally, final=False)) and not self.problem:
            self.problem = FailureRateExceeded(reason)

    def _fail(self, chunk: ChunkRange, error: BaseException) -> None:
        if self.problem or isinstance(error, RunStopped):
            return
        if isinstance(error, StopBatch):
            self.problem = RunStopped(f"{self.job.job}: the processor stopped the run: {error}")
            return
        self.problem = ChunkFailed(
            f"{self.job.job}: chunk {chunk.text} failed and was rolled back: {type(error).__name__}: {error}"
        )
        self.problem.__cause__ = error

    def _drain(self, *, at_once: bool) -> None:
        if at_once:
            abandon(self.job.run_id)
        for future in list(self.in_flight):
            try:
                future.wait()
                self._collect(future)
            except BaseException:  # noqa: BLE001, S112, PERF203 - Prefect raises Pause at each; a chunk unseen is repeated
                continue
        self.cursor = self.save(self.cursor)
