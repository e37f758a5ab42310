"""The job of the crash tests, and a program that runs it in forks of itself, which die by SIGKILL at a given step.

It reads lines of JSON: a file for the output, then url, job, letters, write mode, concurrency, step, nth and kind of
workers; and answers each with the exit code. Prefect is imported once for all of them: that takes longer than the job.

A write mode that is a format writes files beside the letters; a url that is a path reads the files there.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from prefect_batch import Files, Table, process_records, processor

ROWS, CHUNK = 400, 40
STEPS = (
    "after plan",
    "mid batch",
    "before bury",
    "after bury",
    "before commit",
    "after commit",
    "before return",
    "before advance",
    "after advance",
    "before complete",
)
# Some fail in the processor, some are refused by the sink, some are filtered.
FAILING = {n for n in range(ROWS) if n % 23 == 5} | {n for n in range(ROWS) if n % 31 == 7}
EXPECTED = [(n, 2 * n) for n in range(ROWS) if n not in FAILING and n % 29 != 3]

_on_record = [lambda _n: None]


@processor
def work(record):
    _on_record[0](record["n"])
    if record["n"] % 23 == 5:
        raise ValueError("does not divide")
    if record["n"] % 29 == 3:
        return None
    return {"id": record["id"], "doubled": -1 if record["n"] % 31 == 7 else 2 * record["n"]}


# Too large for any process, and so are all chunks that it is in.
GIANT = 137


@processor
def work_with_a_giant(record):
    if record["n"] == GIANT:
        raise MemoryError
    return work(record)


@processor
def work_into_files(record):
    """The same, but files refuse what does not fit their column."""
    output = work(record)
    return {**output, "doubled": "none"} if output and output["doubled"] < 0 else output


@processor
def add_one(record):
    """Not repeatable: a record that is written where it was read must not be read again."""
    _on_record[0](record["n"])
    return {"id": record["id"], "n": record["n"] + 1}


FORMATS = ("parquet", "csv", "jsonl")
TYPES = {"id": "int64", "n": "int64"}


def ends(url, letters, write):
    """The source and the sink: a table or files each. A database's URL may be followed by the path of the source."""
    url, _, path = url.partition("|")
    if path:
        form = path.rpartition(".")[2]
        source = Files(path, schema=None if form == "parquet" else TYPES)
    else:
        source = Table(url, "numbers", key="id")
    if write in FORMATS:
        return source, Files(f"{letters}-{write}", write, compact=True)
    name = "numbers" if "in place" in write else "out"
    return source, Table(url, name, key="id", write=write.split()[0], ledger="unledgered" not in write)


def function(write):
    """The function that goes with the sink."""
    others = {"in place": "add_one", "giant": "work_with_a_giant"}
    of_table = next((name for mark, name in others.items() if mark in write), "work")
    return f"crash_job:{'work_into_files' if write in FORMATS else of_table}"


def run(url, job, letters, write, concurrency, **parameters):
    source, sink = ends(url, letters, write)
    return process_records(
        job=job,
        source=source,
        process=function(write),
        sink=sink,
        chunk_size=CHUNK,
        concurrency=concurrency,
        dead_letters=letters,
        max_failure_rate=0.5,
        **parameters,
    )


@processor
def repaired(record):
    """Most of what failed, succeeds now."""
    if record["n"] % 46 == 5:
        raise ValueError("does not divide yet")
    return {"id": record["id"], "doubled": 2 * record["n"]}


STILL_FAILING = {n for n in FAILING if n % 46 == 5}


def replay(_url, job, _letters, _write, concurrency):
    from prefect_batch import replay_dead_letters

    return replay_dead_letters(job, process="crash_job:repaired", chunk_size=5, concurrency=concurrency)


def discard(_url, job, _letters, _write, _concurrency):
    from prefect_batch import discard_dead_letters

    return discard_dead_letters(job, reason="test data", where="record.n > 100")


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def die_once():
    """This worker dies, and none of those that come after it."""
    with contextlib.suppress(FileExistsError):
        Path(os.environ["CRASH_ONCE"]).touch(exist_ok=False)
        die()


def kill_parent():
    """And go on: what this worker does from now on must not count."""
    os.kill(os.getppid(), signal.SIGKILL)


class Countdown:
    """Dies at the nth call, whichever thread makes it."""

    def __init__(self, nth, death):
        self._left, self._lock, self._death = nth, threading.Lock(), death

    def __call__(self):
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._death()


def around(owner, name, *, before=None, after=None):
    """Replace a function by itself with something before or after it."""
    former = getattr(owner, name)

    def replacement(*args, **kwargs):
        if before:
            before(*args, **kwargs)
        result = former(*args, **kwargs)
        if after:
            after(*args, **kwargs)
        return result

    setattr(owner, name, replacement)


def arm(step, nth, death=die):
    count = Countdown(nth, death)
    tick = {"before": lambda *_a, **_k: count(), "after": lambda *_a, **_k: count()}
    if step == "mid batch":
        _on_record[0] = lambda n: count() if n % 40 == 20 else None
    elif step.endswith(("split", "mark", "bury", "commit", "move", "settle", "rename", "end of pass")):
        arm_ends(step, tick)
    else:
        arm_run(step, count, tick)


def arm_ends(step, tick):
    """The steps of a chunk, and of files at the end of the pass; without Prefect, which a worker has not."""
    from prefect_batch.blocks.databases.sink import SqlTransaction
    from prefect_batch.blocks.files.writing.sink import FilesSink
    from prefect_batch.blocks.files.writing.transaction import PartTransaction
    from prefect_batch.blocks.letters.bury import Burial, DeadLetters
    from prefect_batch.blocks.letters.source import LettersSource
    from prefect_batch.blocks.stores import local as store_local
    from prefect_batch.tasks.work import split_chunk

    when, _, where = step.partition(" ")
    places = {
        "bury": [(Burial, "finish")],
        "split": [(split_chunk, "_write_down")],
        "mark": [(DeadLetters, "mark")],
        "commit": [(SqlTransaction, "commit"), (PartTransaction, "commit")],
        "move": [(store_local.LocalStore, "move")],
        "settle": [(LettersSource, "settle")],
        "rename": [(store_local, "_rename")],
        "end of pass": [(FilesSink, "end_pass")],
    }
    for owner, name in places[where]:
        around(owner, name, **{when: tick[when]})


def arm_run(step, count, tick):
    """The steps of the run itself."""
    from prefect_batch.blocks.state.cursor_store import CursorStore
    from prefect_batch.flows.operations import decisions as decide
    from prefect_batch.flows.run import replay as replay_module
    from prefect_batch.flows.run import run_job as run_module
    from prefect_batch.flows.run.walk import Walk
    from prefect_batch.tasks import run_chunk as chunk_module

    if step == "after plan":
        around(CursorStore, "save", after=lambda _store, cursor: count() if cursor.position.planned else None)
    elif step == "after advance":
        around(CursorStore, "save", after=lambda _store, cursor: count() if cursor.position.prefix else None)
    elif step == "before return":
        around(chunk_module, "work_chunk", after=tick["after"])
    elif step == "before advance":
        around(Walk, "_collect", before=tick["before"])
    elif step.endswith("choose"):
        around(replay_module, "write_replay_list", **{step.partition(" ")[0]: tick["before"]})
    elif step.endswith("act"):
        around(decide, "save_decision", **{step.partition(" ")[0]: tick["before"]})
    elif step == "before complete":
        around(run_module, "judge", before=lambda *_: die())
    else:
        raise ValueError(step)


if step_of_workers := os.environ.get("CRASH_WORKERS"):
    # This is a worker process, which imports the function.
    arm(step_of_workers, 2, die_once if "CRASH_ONCE" in os.environ else kill_parent)


def fork(output, url, job, letters, write, concurrency, step, nth, workers, action="run"):
    """The exit code of a process that runs the job, or acts on its letters, and dies at this step, or a worker does."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        # The function must be the imported module's, not this script's.
        import crash_job

        if workers:
            os.environ["CRASH_WORKERS"] = step
        else:
            crash_job.arm(step, nth)
        options = {"workers": workers} if action == "run" else {}
        getattr(crash_job, action)(url, job, letters, write, concurrency, **options)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    import prefect_batch.flows.process_records  # noqa: F401

    for line in sys.stdin:
        print(fork(*json.loads(line)), flush=True)
