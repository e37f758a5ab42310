"""What a function starts works as in a plain script, ends with the run, and never makes it wait for ever."""

import atexit
import contextlib
import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from prefect_batch import Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import RemoteError, WorkerDied
from prefect_batch.tasks.work.work_chunk import ChunkJob
from prefect_batch.tasks.workers import worker_process
from prefect_batch.tasks.workers.messages import WorkerSetup
from prefect_batch.tasks.workers.pool import WorkerPool
from prefect_batch.tasks.workers.send_function import send_function

ROWS = 12
ALL = ChunkRange(None, (ROWS,))


@pytest.fixture
def pool(sqlite, tmp_path, request):
    """A pool of one worker process for a function, in which chunks are worked on by `chunk`."""
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY, n)")
    sqlite.many("INSERT INTO t VALUES (:n)", [{"n": n} for n in range(ROWS)])
    source, sink = Table(sqlite.url, "t", key="id"), Table(sqlite.url, "out", key="id")
    job = ChunkJob("j", 1, "p", request.node.name, source, sink, "", str(tmp_path / "letters"))

    @contextlib.contextmanager
    def open_pool(function, timeout=None):
        with WorkerPool(WorkerSetup(job, send_function(function), list(sys.path), {}, timeout), 1) as opened:
            yield lambda: opened.work(ALL, 1000, lambda _level, _text: None)

    return open_pool


def runs(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def forked(child):
    """The exit status of a forked process, which does this and then returns to whoever called the function."""
    pid = os.fork()
    if pid == 0:
        child()
        return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fails():
    raise ValueError("in the child")


def starts_everything(record):
    """Leaves in `n` what each of these did."""
    tell = "from signal import *; print(getsignal(SIGTERM) is SIG_DFL, getsignal(SIGINT) is default_int_handler)"
    terminated = [subprocess.Popen(["sleep", "600"]), subprocess.Popen(["sleep", "600"])]
    acts = {
        2: lambda: [terminated[0].terminate(), terminated[0].wait()][1],
        3: lambda: [terminated[0].send_signal(signal.SIGINT), terminated[0].wait()][1],
        4: lambda: subprocess.check_output([sys.executable, "-c", tell], text=True).strip(),
        5: lambda: forked(lambda: sys.exit(7)),
        6: lambda: forked(fails),
        7: lambda: forked(lambda: logging.getLogger("child").warning("to its own standard error")),
        8: lambda: forked(lambda: os.kill(os.getpid(), signal.SIGTERM)),
        9: lambda: ThreadPoolExecutor(1).submit(abs, -3).result(),
        # Last, because to fork beside the threads of a pool may hang in any program.
        10: lambda: sum(multiprocessing.get_context("fork").Pool(2).__enter__().map(abs, [1, -2])),
    }
    try:
        if record["id"] == 1:
            with multiprocessing.get_context("fork").Pool(2) as own:  # Ends by terminate() and join().
                return {"id": 1, "n": str(own.map(abs, [1, -2]))}
        return {"id": record["id"], "n": str(acts.get(record["id"], int)())}
    finally:
        for one in terminated:
            one.kill()
            one.wait()


def test_processes_pools_threads_and_signals_are_those_of_a_plain_script(pool, sqlite):
    with pool(starts_everything) as work:
        result = work()
    assert (result.tally.written, result.tally.failed) == (ROWS, 0)
    assert dict(sqlite.rows("SELECT id, n FROM out WHERE id BETWEEN 1 AND 10")) == {
        1: "[1, 2]",
        2: str(-signal.SIGTERM),
        3: str(-signal.SIGINT),
        4: "True True",
        5: "7",
        6: "1",
        7: "0",
        8: str(-signal.SIGTERM),
        9: "3",
        10: "3",
    }


def test_a_worker_that_dies_and_leaves_children_is_missed(pool, sqlite, tmp_path):
    def function(record):
        if not (tmp_path / "once").exists():
            children = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
            (tmp_path / "pid").write_text(str(children.submit(os.getpid).result()))
            (tmp_path / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)  # As the kernel does when memory is short.
        return {"id": record["id"], "n": 1}

    with pool(function) as work:
        with pytest.raises(WorkerDied):
            work()
        assert not runs(int((tmp_path / "pid").read_text()))
        assert work().tally.written == ROWS


def test_what_was_opened_is_closed_at_the_end_and_what_is_left_is_ended(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_process, "LEFT_BEHIND_SECONDS", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"

    def function(record):
        if record["id"] == 0:
            atexit.register((tmp_path / "closed").touch)
            own = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
            left = [
                subprocess.Popen(["sleep", "600"]),
                subprocess.Popen(["sleep", "600"], start_new_session=True),
                subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE),
            ]
            left[-1].stdout.readline()
            function.kept = own
            pids = [own.submit(os.getpid).result(), *(one.pid for one in left)]
            (tmp_path / "pids").write_text(json.dumps(pids))
        return {"id": record["id"], "n": 1}

    with pool(function) as work:
        work()
        pids = json.loads((tmp_path / "pids").read_text())
        assert all(map(runs, pids))
    assert (tmp_path / "closed").exists()
    assert not any(map(runs, pids))


def test_a_function_that_never_closes_keeps_no_run(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_process, "CLOSING_SECONDS", 0.3)

    def function(record):
        if record["id"] == 0:
            threading.Thread(target=threading.Event().wait).start()
            (tmp_path / "pid").write_text(str(os.getpid()))
        return {"id": record["id"], "n": 1}

    with pool(function) as work:
        work()
    assert not runs(int((tmp_path / "pid").read_text()))


def test_a_worker_that_cannot_be_started_is_a_passing_lack(pool):
    def function(record):
        return {"id": record["id"], "n": 1}

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as limited:
        limited.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                limited.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        with pool(function) as work:
            for _ in range(2):
                with pytest.raises(RemoteError, match="Too many open files") as failed:
                    work()
                assert failed.value.blame is Blame.PROCESS
            limited.close()
            assert work().tally.written == ROWS


def test_a_worker_that_dies_in_its_idleness_costs_nothing(pool, tmp_path):
    def function(record):
        (tmp_path / "pid").write_text(str(os.getpid()))
        return {"id": record["id"], "n": 1}

    with pool(function) as work:
        work()
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert work().tally.written == ROWS


def test_real_limits_of_a_worker_bury_no_healthy_record(pool, tmp_path):
    def function(record):
        if record["id"] == 3 and not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))
            with contextlib.suppress(OSError), Path("/dev/null").open():
                pass
            os.open("/dev/null", os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
        return {"id": record["id"], "n": 1}

    def hungry(record):
        if record["id"] == 3:
            resource.setrlimit(resource.RLIMIT_AS, (2**31, resource.getrlimit(resource.RLIMIT_AS)[1]))
            return {"id": 3, "n": len(bytearray(2**32))}
        return {"id": record["id"], "n": 1}

    for process, blame in ((function, Blame.PROCESS), (hungry, Blame.SIZE)):
        with pool(process) as work:
            with pytest.raises(RemoteError) as failed:
                work()
            assert failed.value.blame == blame
            if blame is Blame.PROCESS:
                assert work().tally.written == ROWS


def test_a_wrong_log_line_of_the_function_fails_nothing(pool, capfd):
    def function(record):
        logging.getLogger("shop").warning("%d records", "three")
        logging.getLogger("shop").warning("half an emoji \ud83d")
        return {"id": record["id"], "n": 1}

    with pool(function) as work:
        assert work().tally.failed == 0
    assert "not all arguments" in (said := capfd.readouterr().err) or "format" in said


def test_the_letters_of_a_forked_child_are_no_letters(pool):
    def function(record):
        if record["id"] == 3 and os.fork() == 0:
            raise ValueError("in the child only")
        return {"id": record["id"], "n": 1}

    with pool(function) as work:
        result = work()
    assert (result.tally.written, result.letters) == (ROWS, None)
