"""The Prefect task that works on one chunk: its name, its cache key and its retries."""

import contextlib
import functools
import hashlib
import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.filesystems import LocalFileSystem
from prefect.results import get_result_store
from prefect.tasks import Task

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.chunks import ChunkRange, Outcome, Split
from prefect_batch.tasks.work.split_chunk import work_or_split
from prefect_batch.tasks.work.stop_signals import check_refusing
from prefect_batch.tasks.work.work_chunk import ChunkJob, work_chunk
from prefect_batch.tasks.workers.pool import pool_of

# Half as long again at most, so that chunks which failed together do not come back together.
JITTER = 0.5
# Prefect kills a cancelled run 30 s after the signal: a longer delay would not be waited out.
LONGEST_DELAY_SECONDS = 15.0


def cache_place(job: str, pass_number: int, pass_id: str) -> str:
    """Return the directory of a pass's cache entries, below the result storage."""
    return f"prefect-batch-{job}/pass-{pass_number}-{pass_id}"


@dataclass
class ChunkCache(CachePolicy):
    """A cache key of what decides a chunk's outcome, and of nothing else.

    The run is no part of it, because another one may resume the pass. Nor is how the work is done (batches, retries,
    time limits, workers, redaction), nor the processor's code: the function may be fixed while a pass is unfinished.

    The key is a file name below the result storage, so it is a short place and a hash.
    """

    # Job, pass number and pass id: each pass does its work anew, also that of a job that was reset and begins with 1.
    place: str = ""
    # Source, sink and processor, by name: a chunk of another table, condition, key or way to write is another one.
    definition: str = ""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,  # noqa: ARG002 - Prefect's signature
    ) -> str | None:
        """Return the key of this call of `run_chunk`."""
        del task_ctx, flow_parameters
        chunk: ChunkRange = inputs["chunk"]  # Both ends: a range that was split, or begins elsewhere, has other rows.
        text = json.dumps([self.place, self.definition, chunk.encode()], sort_keys=True)
        return f"{self.place}/{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _delays(retries: int, first_seconds: float) -> list[float]:
    """Return the seconds before each retry, doubled up to a bound. Prefect takes at most 50 and repeats the last."""
    return [min(LONGEST_DELAY_SECONDS, first_seconds * 2**retry) for retry in range(min(retries, 50))]


def _name() -> str:
    parameters = TaskRunContext.get().parameters  # type: ignore[union-attr]
    return f"{parameters['job'].job} {parameters['chunk'].text}"


def _may_retry(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether the chunk failed for a passing cause."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and blame_of(error).passes


@task(name="run-chunk", task_run_name=_name, result_serializer="json", cache_policy=NO_CACHE)
def run_chunk(job: ChunkJob, chunk: ChunkRange) -> dict[str, Any]:
    """Return the chunk's `ChunkResult` as JSON, once its records are written and its dead letters buried.

    If it is too large, return its `Split`.
    """
    check_refusing(job.run_id)
    context = TaskRunContext.get()
    attempt = context.task_run.run_count if context else 1
    again = context is not None and attempt == 1 and context.task.retries > 0 and not job.bury_large
    outcome = work_or_split(job, chunk, functools.partial(_attempt, chunk), get_run_logger().warning, again=again)
    if isinstance(outcome, Split):
        return outcome.encode()
    return replace(outcome, tally=replace(outcome.tally, retries=max(0, attempt - 1))).encode()


def _attempt(chunk: ChunkRange, job: ChunkJob) -> Outcome:
    """Do the chunk as a whole, in a worker process if the run has some."""
    if pool := pool_of(job.run_id):
        return pool.work(chunk, job.batch_rows, _log, hold_refused=job.hold_refused, trial=job.trial)
    return work_chunk(job, chunk)


class _ToTaskRun(logging.Handler):
    """Writes what the package logs to the log of the task run in hand."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(MissingContextError):
            get_run_logger().log(record.levelno, record.getMessage())


_package_log = logging.getLogger("prefect_batch")
_package_log.setLevel(logging.INFO)
_package_log.addHandler(_ToTaskRun())


def _log(level: int, text: str) -> None:
    """Write a line of the user's function, from a worker process, to the task run's log."""
    get_run_logger().log(level, text)


def chunk_task(
    job: ChunkJob, *, definition: str, retries: int, retry_delay_seconds: float
) -> Task[[ChunkJob, ChunkRange], dict[str, Any]]:
    """Return `run_chunk` with this run's retries and cache. A dry run has no cache."""
    cache = ChunkCache(place=cache_place(job.job, job.pass_number, job.pass_id), definition=definition)
    return run_chunk.with_options(
        cache_policy=NO_CACHE if job.dry_run else cache,
        persist_result=not job.dry_run,
        retries=retries,
        retry_delay_seconds=_delays(retries, retry_delay_seconds),
        retry_jitter_factor=JITTER,
        retry_condition_fn=_may_retry,
    )


def forget_cache(job: str, pass_number: int, pass_id: str) -> None:
    """Remove the cache entries of a finished pass from a local storage: Prefect would keep them for ever."""
    storage = get_result_store().result_storage
    if isinstance(storage, LocalFileSystem) and storage.basepath:
        place = Path(storage.basepath).expanduser() / cache_place(job, pass_number, pass_id)
        shutil.rmtree(place, ignore_errors=True)
