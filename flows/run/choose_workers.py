"""Chooses what processes the chunks of a run: worker processes or threads of this process, and how many."""

import contextlib
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_batch.blocks.contracts import End, Sink, Source
from prefect_batch.blocks.credentials import SECRETS, url_of
from prefect_batch.blocks.errors import BadParameter, BadPlace, BadSink, BadSource, Refused
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.redaction import redaction_key
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.tasks.work.work_chunk import ChunkJob
from prefect_batch.tasks.workers.messages import WorkerSetup
from prefect_batch.tasks.workers.pool import WorkerPool
from prefect_batch.tasks.workers.send_function import send_function

if TYPE_CHECKING:
    from collections.abc import Callable

# Fewer records are done before worker processes are up.
FEW_RECORDS = 50_000
MOST = 4


class Workers(NamedTuple):
    """How many chunks run at the same time, and the setup of their worker processes, where None means threads."""

    size: int
    setup: WorkerSetup | None

    def open(self) -> AbstractContextManager[WorkerPool | None]:
        """Run the worker processes for the length of the block."""
        return contextlib.nullcontext() if self.setup is None else WorkerPool(self.setup, self.size)


def choose_workers(parameters: Parameters, ends: tuple[End, End], job: ChunkJob, records: int) -> Workers:
    """Choose worker processes where they are asked for, or faster for so many records, and threads otherwise.

    Raises:
        BadParameter: Worker processes are needed, and the function cannot be sent to them.
    """
    threads = Workers(parameters.run.concurrency or (1 if any(end.one_thread for end in ends) else _cores()), None)
    size = parameters.run.concurrency or _cores()
    needed = _needs_workers(parameters)
    not_here = os.name != "posix" or _other_runner() is not None or bool(_only_here(ends, job.dead_letters))
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
    urls = {name: url_of(name) for name in connections if name.startswith(SECRETS)}
    unset: Callable[..., Any] | str = parameters.what.process if isinstance(parameters.what.process, str) else ""
    key = redaction_key(create=not job.dry_run) if job.redact else None
    timeout = parameters.chunks.record_timeout
    return WorkerSetup(replace(job, process=unset), function, list(sys.path), urls, timeout, key)


def _cores() -> int:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, count)


def check_reach(parameters: Parameters, ends: tuple[Source, Sink], place: str) -> None:
    """Raise unless the processes that will work can reach both ends, and the place of the dead letters.

    Raises:
        BadSource: only this process can reach the source, and others are needed.
        BadSink: the same of the sink.
        BadPlace: the same of the place.
    """
    if _needs_workers(parameters):
        asked = "workers='processes'" if parameters.run.workers == "processes" else "record_timeout"
        way_out = "use workers='threads' without record_timeout"
    elif runner := _other_runner():
        asked, way_out = f"the task runner {runner}", "use Prefect's ThreadPoolTaskRunner"
    else:
        return
    for error, name in _only_here(ends, place):
        raise error(
            f"only this process can reach {name}, in its memory, and {asked} has other processes do the work: name a "
            f"place that they can reach, too, or {way_out}"
        )


def _only_here(ends: tuple[End, End], place: str) -> list[tuple[type[Refused], str]]:
    """Return what only this process can reach, by name, with the error for it."""
    source, sink = ends
    letters = bool(place) and open_place(place).only_here
    found = (
        (source.only_here, BadSource, source.name),
        (sink.only_here, BadSink, sink.name),
        (letters, BadPlace, f"the dead letters in {place}"),
    )
    return [(error, name) for only_here, error, name in found if only_here]


def _needs_workers(parameters: Parameters) -> bool:
    """Return whether worker processes were asked for, or are needed to end records that hang."""
    timed = parameters.chunks.record_timeout is not None and parameters.what.processor.form == "record"
    return parameters.run.workers == "processes" or timed


def _other_runner() -> str | None:
    """Return the name of the task runner, such as Dask's or Ray's, that may run chunks in other processes."""
    context = FlowRunContext.get()
    here = context is None or isinstance(context.task_runner, ThreadPoolTaskRunner)
    return None if here or context is None else type(context.task_runner).__name__
