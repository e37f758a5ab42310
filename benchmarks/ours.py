"""process_records as it is, without some of its parts, and as after a crash."""

import contextlib
import functools
import os
import signal
import tempfile
import time
from unittest import mock

from functions import RECORD, TABLE, clean_order_frame, failing

from prefect_batch.blocks.opening import open_source

FORMS = {"record": RECORD, "frame": {"orders": clean_order_frame}, "table": TABLE}


def ours(setting, form="record", process=None, job=None, **parameters):
    """process_records with all its protections; its report."""
    from prefect_batch import Table, process_records

    key = list(setting.work.key)
    write = parameters.pop("write", "upsert")
    return process_records(
        job=job or f"bench-{os.getpid()}",
        source=Table(setting.url, setting.table, key=key),
        process=process or FORMS[form][setting.work.table],
        sink=Table(setting.url, "sink", key=key, write=write),
        concurrency=setting.processes,
        dead_letters=parameters.pop("dead_letters", None) or tempfile.mkdtemp(),
        **parameters,
    )


def isolating(setting, per_mille=0, where="process"):
    """Some records fail."""
    return ours(setting, process=failing(per_mille, where), max_failure_rate=1.0)


def without(setting, part, **parameters):
    """process_records without its cursor, or without its cache, to see what they cost."""
    from prefect_batch.blocks.state.cursor_store import CursorStore
    from prefect_batch.blocks.state.ownership import Ownership
    from prefect_batch.flows.run import run_job as run

    with contextlib.ExitStack() as patches:
        if part == "cursor":
            patches.enter_context(mock.patch.object(CursorStore, "save", lambda _self, cursor: cursor))
            patches.enter_context(mock.patch.object(Ownership, "check", return_value=None))
        if part == "cache":
            uncached = lambda *args, **kw: run_task(*args, **kw).with_options(persist_result=False)  # noqa: E731
            run_task = run.chunk_task
            patches.enter_context(mock.patch.object(run, "chunk_task", uncached))
        return ours(setting, **parameters)


def bare(setting):
    """The same worker processes on the same chunks, without Prefect: no flow, tasks, cursor, cache or owner."""
    import sys
    from concurrent.futures import ThreadPoolExecutor

    from prefect_batch import Table
    from prefect_batch.blocks.state.position import Position
    from prefect_batch.tasks.plan.chunk_size import ChunkSizer
    from prefect_batch.tasks.plan.planner import Planner
    from prefect_batch.tasks.work.work_chunk import ChunkJob
    from prefect_batch.tasks.workers.messages import WorkerSetup
    from prefect_batch.tasks.workers.pool import WorkerPool
    from prefect_batch.tasks.workers.send_function import send_function

    key = list(setting.work.key)
    ends = [Table(setting.url, name, key=key) for name in (setting.table, "sink")]
    job = ChunkJob("bench", 1, "x", "bare", *ends, process="", dead_letters=tempfile.mkdtemp())
    source = open_source(ends[0])
    upper = source.last_key()
    position = Position(None, upper, None)
    planner = Planner(
        source, ChunkSizer(None, source.estimate(None, upper), setting.processes), limit=None, canary=True
    )
    setup = WorkerSetup(job, send_function(setting.clean), list(sys.path), {}, None)
    with WorkerPool(setup, setting.processes) as pool, ThreadPoolExecutor(setting.processes + 1) as threads:
        in_flight = {}
        while True:
            while len(in_flight) <= setting.processes:
                position = planner.plan(position, set(in_flight.values()), 1)
                chunks = planner.take(position, set(in_flight.values()), 1)
                if not chunks:
                    break
                in_flight[threads.submit(pool.work, chunks[0], job.batch_rows, print)] = chunks[0]
            if not in_flight:
                return
            done = next(future for future in _until_done(in_flight))
            chunk = in_flight.pop(done)
            planner.learn(chunk, done.result().tally)
            position = position.finish(chunk)


def _until_done(futures):
    from concurrent.futures import FIRST_COMPLETED, wait

    return wait(list(futures), return_when=FIRST_COMPLETED).done


def killed(setting, job, share, rows, dead_letters):
    """A run that ends by SIGKILL once this share of the rows is done and saved."""
    from prefect_batch.blocks.state.cursor_store import CursorStore

    save = CursorStore.save

    def save_and_die(self, cursor):
        saved = save(self, cursor)
        if cursor.tally.read >= share * rows:
            print("RESULT", '{"seconds": 0, "peak_mb": 0, "client_cpu": 0, "sums": []}', flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return saved

    with mock.patch.object(CursorStore, "save", save_and_die):
        ours(setting, job=job, dead_letters=dead_letters, workers="processes")


def resumed(setting, job, dead_letters):
    """Go on after that: the seconds from the call until a chunk is at work again."""
    from prefect_batch.tasks.workers.pool import WorkerPool

    begun, called = [], time.perf_counter()
    ask = WorkerPool._ask

    @functools.wraps(ask)
    def noted(*args):
        begun.append(time.perf_counter() - called)
        return ask(*args)

    with mock.patch.object(WorkerPool, "_ask", noted):
        ours(setting, job=job, dead_letters=dead_letters, workers="processes")
    # All that is left may be done already, with its results in the cache.
    return {"resumed_after": begun[0] if begun else time.perf_counter() - called}


CASES = {
    "ours": ours,
    "isolating": isolating,
    "without": without,
    "bare": bare,
    "killed": killed,
    "resumed": resumed,
}
