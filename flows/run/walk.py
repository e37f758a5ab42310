"""The walk over a pass: chunks are mapped in slices, results move the cursor, the policy may stop it."""

import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import psutil
from prefect import unmapped
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, Split, decode_outcome
from prefect_batch.blocks.errors import (
    ChunkFailed,
    FailureRateExceeded,
    LostOwnership,
    RemoteError,
    RunStopped,
    SinkRefuses,
    StopBatch,
    TooLarge,
)
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.flows.run.circuit_breaker import Circuit
from prefect_batch.flows.run.memory import mind_memory
from prefect_batch.flows.run.run_limits import RunLimits
from prefect_batch.flows.run.watch import RunWatch
from prefect_batch.tasks.error_text import message_of
from prefect_batch.tasks.plan.planner import Planner
from prefect_batch.tasks.report.progress import Progress
from prefect_batch.tasks.report.report import count_errors, failures_exceeded
from prefect_batch.tasks.work.work_chunk import ChunkJob
from prefect_batch.tasks.workers.pool import pool_of, refuse_waiting, stop_at_once

# How long a walk sleeps at most before it looks around: for a stop, for instance.
TICK_SECONDS = 1.0
# Prefect kills a cancelled run 30 s after the signal: the cursor must be saved by then.
GRACE_SECONDS = 22.0


@dataclass
class Walk:
    """One run's walk over its pass, within its `limits`. Only this thread writes the `cursor`, which is its position.

    `account` is called with each finished chunk, and `show` after every change. `save` stores the cursor and returns it
    as stored. `watch` sets the limits between chunks, and at least every second.
    """

    cursor: Cursor
    job: ChunkJob
    task: Task[[ChunkJob, ChunkRange], dict[str, Any]]
    planner: Planner
    limits: RunLimits
    circuit: Circuit
    progress: Progress
    warn: Callable[[str], None]
    save: Callable[[Cursor], Cursor]
    account: Callable[[ChunkResult], None]
    show: Callable[[], None]
    watch: RunWatch
    in_flight: dict[PrefectFuture[dict[str, Any]], ChunkRange] = field(default_factory=dict)
    worker_connections: int = 0
    _stored: Cursor | None = None
    _ended: queue.SimpleQueue[PrefectFuture[dict[str, Any]]] = field(default_factory=queue.SimpleQueue)

    def go(self) -> None:
        """Walk until the pass is complete, its limit is reached, or it must stop, and finish the chunks in flight.

        Raises:
            FailureRateExceeded: too many records failed.
            ChunkFailed: a chunk failed as a whole.
            CircuitOpen: the sink took not one record of several chunks in a row.
            RunStopped: the processor raised StopBatch.
            LostOwnership: another run took the job over.
        """
        try:
            self._look_around()
            self._start_chunks()
            while self.in_flight or (self.limits.waits_for and not self.limits.stops):
                with contextlib.suppress(queue.Empty):
                    self._collect(self._ended.get(timeout=TICK_SECONDS))
                self._look_around()
                self._start_chunks()
                if not self.in_flight and self.circuit.held:
                    self._settle()
                self._store()
                self.show()
                if self.limits.request.at_once:
                    self._drain(at_once=True, grace_seconds=None)
        except LostOwnership:
            stop_at_once(self.job.run_id)  # The chunks in flight are the new owner's now.
            raise
        except BaseException as error:
            # A signal, or Prefect's own Pause: finish what is in flight and save it before letting it pass.
            grace = GRACE_SECONDS if isinstance(error, TerminationSignal) else None
            self._drain(at_once=isinstance(error, KeyboardInterrupt), grace_seconds=grace)
            raise
        problem = self.limits.problem
        if isinstance(problem, FailureRateExceeded):
            # Judged again: the chunks that were in flight count, too.
            raise self._too_many() or problem
        if problem:
            raise problem

    def _look_around(self) -> None:
        """Have the limits set by what is seen now, and obey them."""
        self.watch.look(len(self.in_flight))
        self.progress.wait(self.limits.waits_for, time.monotonic(), idle=not self.in_flight)
        self._judge()
        self.note()

    def note(self, *, final: bool = False) -> None:
        """Take the limits of now, and what the run takes, into the cursor."""
        waited = self.progress.waited(time.monotonic())
        run = self.watch.note(self.cursor.run, waited, self.worker_connections, final=final)
        stopping = self.limits.request.reason
        message = self.cursor.message or (f"stopping: {stopping}" if stopping else "")
        if (run, message) != (self.cursor.run, self.cursor.message):
            self.cursor = replace(self.cursor, run=run, message=message)

    def _start_chunks(self) -> None:
        if not self.limits.let_start:
            return
        while (wanted := self._window - len(self.in_flight)) > 0:
            busy = {*self.in_flight.values(), *self.circuit.held}
            planned = self.cursor.position
            while (more := self.planner.plan(planned, busy, wanted)) != planned:
                planned = more
            if planned is not self.cursor.position:
                # Saved before they are started: a restart must plan the same ranges, or the ledger would not know them.
                self.cursor = replace(self.cursor, position=planned)
                self._store()
            chunks = self.planner.take(planned, busy, wanted)
            if not chunks:
                return
            for job, group in groupby(chunks, self._job_for):
                some = list(group)
                futures = self.task.map(unmapped(job), some)
                self.in_flight.update(zip(futures, some, strict=True))
                for future in futures:
                    future.add_done_callback(self._ended.put)

    def _job_for(self, chunk: ChunkRange) -> ChunkJob:
        """Return the job as this chunk has to do it."""
        circuit = self.circuit
        return replace(
            self.job,
            batch_rows=self.limits.rows_at_once,
            hold_refused=not circuit.may_bury(chunk),
            bury_large=circuit.has_released(chunk),
            most_rows=self.planner.most_rows(chunk),
        )

    def _settle(self) -> None:
        """Do the chunks held back after all, or stop: no others are left."""
        if self.limits.let_start:
            self.limits.problem = self.circuit.settle()
            self._start_chunks()

    @property
    def _window(self) -> int:
        """How many chunks may be in flight: with worker processes one more waits, so that none of them does."""
        if self.progress.run.chunks == 0 or self.limits.concurrency == 1:
            return 1  # The canary, alone; and one by one they keep the order of the key.
        return self.limits.concurrency + (1 if pool_of(self.job.run_id) else 0)

    def _store(self) -> None:
        if self.cursor is not self._stored:
            self.cursor = self._stored = self.save(self.cursor)

    def _collect(self, future: PrefectFuture[dict[str, Any]]) -> None:
        """Count the chunk that has ended, advance over it, and judge."""
        outcome: Any = future.result(raise_on_failure=False)
        chunk = self.in_flight.pop(future)
        if isinstance(outcome, BaseException):
            self._fail(chunk, outcome)
            return
        result = decode_outcome(outcome)
        if isinstance(result, Split):
            self._split(result)
            return
        self.circuit.see(result)
        self.account(result)
        if self.planner.learn(chunk, result.tally):
            self.warn(f"{self.job.job}: records take so long that even the smallest chunks take more than 15 s")
        self.progress.add(result.tally, time.monotonic())
        run = self.cursor.run
        resources = dict(run.resources)
        rss = result.rss_bytes
        if pool_of(self.job.run_id):
            rss = self.limits.concurrency * rss + psutil.Process().memory_info().rss
            self.worker_connections = self.limits.concurrency * result.connections
        if changed := mind_memory(self.limits, rss):
            self.warn(f"{self.job.job}: {changed}")
        resources["peak_rss_bytes"] = max(resources.get("peak_rss_bytes", 0), rss)
        run = replace(
            run,
            tally=run.tally + result.tally,
            errors=count_errors(run.errors, result.errors),
            rate=self.progress.rate(time.monotonic()),
            resources=resources,
        )
        tally = self.cursor.tally + result.tally
        self.cursor = replace(self.cursor, position=self.cursor.position.finish(chunk), tally=tally, run=run)
        self._judge()

    def _split(self, split: Split) -> None:
        """Take the parts of a chunk in its place, and save that before one of them begins."""
        self.planner.split(split)
        self.cursor = replace(self.cursor, position=self.cursor.position.split(split))
        self._store()

    def _judge(self) -> None:
        """Stop if too many records have failed by now."""
        if (exceeded := self._too_many()) and not self.limits.problem:
            self.limits.problem = exceeded
            refuse_waiting(self.job.run_id)

    def _too_many(self) -> FailureRateExceeded | None:
        return failures_exceeded(self.cursor, self.limits.policy, dry_run=self.job.dry_run, final=False)

    def _fail(self, chunk: ChunkRange, error: BaseException) -> None:
        limits = self.limits
        if isinstance(error, LostOwnership):
            raise error
        if limits.problem or isinstance(error, RunStopped):
            return
        if isinstance(error, TooLarge):
            self.planner.excuse(chunk)
        if isinstance(error, (SinkRefuses, TooLarge)):
            limits.problem = self.circuit.hold(chunk, error, time.time())
            if limits.problem:
                refuse_waiting(self.job.run_id)
            return
        if isinstance(error, StopBatch):
            limits.problem = RunStopped(f"the processor stopped the run: {message_of(error)}", self.job.job)
            return
        limits.problem = ChunkFailed(self.job.job, chunk, _described(error))
        limits.problem.__cause__ = error

    def _drain(self, *, at_once: bool, grace_seconds: float | None) -> None:
        """Wait for the chunks in flight and count them. Those still running after the grace period are rolled back."""
        refuse_waiting(self.job.run_id)
        if at_once:
            stop_at_once(self.job.run_id)
        for future in self.in_flight:
            # A signal may have come before it was watched. A chunk that is reported twice is counted once.
            future.add_done_callback(self._ended.put)
        deadline = None if grace_seconds is None else time.monotonic() + grace_seconds
        while self.in_flight:
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                future = self._ended.get(timeout=left)
            except BaseException:  # noqa: BLE001 - the time is up, or a second signal came
                stop_at_once(self.job.run_id)
                deadline = None
                continue
            try:
                self._collect(future)
            except BaseException:  # noqa: BLE001 - Prefect raises Pause at each; a chunk unseen is repeated
                self.in_flight.pop(future, None)
        self.cursor = self.save(self.cursor)


def _described(error: BaseException) -> str:
    return str(error) if isinstance(error, RemoteError) else f"{type(error).__name__}: {message_of(error)}"
