"""Who does the work of a run: worker processes, or threads of this one, and how many."""

import contextlib
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_batch.blocks.contracts import End
from prefect_batch.blocks.credentials import url_of
from prefect_batch.blocks.errors import BadParameter, BadPlace
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.redaction import redaction_key
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.tasks.work.work_chunk import ChunkJob
from prefect_batch.tasks.workers.messages import WorkerSetup
from prefect_batch.tasks.workers.pool import WorkerPool
from prefect_batch.tasks.workers.send_function import send_function

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Workers", "choose_workers"]

# Fewer records are done before worker processes are up.
FEW_RECORDS = 50_000
MOST = 4


class Workers(NamedTuple):
    """How many chunks are at work at once, and what their worker processes get; None for threads."""

    size: int
    setup: WorkerSetup | None

    def open(self) -> AbstractContextManager[WorkerPool | None]:
        """The worker processes, for the length of the block."""
        return contextlib.nullcontext() if self.setup is None else WorkerPool(self.setup, self.size)


def choose_workers(parameters: Parameters, ends: tuple[End, End], job: ChunkJob, records: int) -> Workers:
    """Worker processes where they were asked for, or where they are faster for so many records; else threads.

    Raises:
        BadParameter: worker processes are needed, and the function cannot be sent to them.
    """
    threads = Workers(parameters.run.concurrency or (1 if any(end.one_thread for end in ends) else _cores()), None)
    size = parameters.run.concurrency or _cores()
    timed = parameters.chunks.record_timeout is not None and parameters.what.processor.form == "record"
    needed = parameters.run.workers == "processes" or timed
    letters_here = bool(job.dead_letters) and open_place(job.dead_letters).only_here
    if needed and letters_here:
        raise BadPlace(
            f"dead letters in {job.dead_letters} would be lost with the worker processes: name another place, or use "
            "workers='threads' without record_timeout"
        )
    not_here = letters_here or _not_here(ends)
    if not needed and (parameters.run.workers == "threads" or size == 1 or records < FEW_RECORDS or not_here):
        return threads
    function = None if isinstance(parameters.what.process, str) else send_function(parameters.what.process)
    if function is None and not isinstance(parameters.what.process, str):
        if not needed:
            return threads
        raise BadParameter(
            "the function cannot be sent to worker processes, because it holds something that cannot be pickled, such "
            "as a connection or a lock: open that inside the function, or use workers='threads' without record_timeout"
        )
    return Workers(size, _setup(parameters, ends, job, function))


def _setup(parameters: Parameters, ends: tuple[End, End], job: ChunkJob, function: bytes | None) -> WorkerSetup:
    connections = {connection for end in ends for connection in end.connections}
    urls = {name: url_of(name) for name in connections if name.startswith("secret/")}
    unset: Callable[..., Any] | str = parameters.what.process if isinstance(parameters.what.process, str) else ""
    key = redaction_key() if job.redact else None
    timeout = parameters.chunks.record_timeout
    return WorkerSetup(replace(job, process=unset), function, list(sys.path), urls, timeout, key)


def _cores() -> int:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, count)


def _not_here(ends: tuple[End, End]) -> bool:
    """Whether other processes cannot do the work: no way to hand them a pipe, a database in memory, Dask or Ray."""
    context = FlowRunContext.get()
    elsewhere = context is not None and not isinstance(context.task_runner, ThreadPoolTaskRunner)
    return os.name != "posix" or elsewhere or any(end.only_here for end in ends)
