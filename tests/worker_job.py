"""Functions for the tests of worker processes, found by import path."""

import ctypes
import logging
import os
import signal
import threading
import time
import warnings
from pathlib import Path

from prefect_batch import StopBatch, processor

BEGAN = time.monotonic()


def _out(record):
    return {"id": record["id"], "n": 1}


def _once(name):
    """True the first time in any process, for this name."""
    try:
        (Path(os.environ["WORKER_JOB"]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@processor
def plain(record):
    return _out(record)


@processor
def dies_once(record):
    if record["id"] == 1500 and _once("died"):
        os._exit(3)
    return _out(record)


@processor
def dies(record):
    if record["id"] == 1500:
        os.kill(os.getpid(), signal.SIGSEGV)
    return _out(record)


@processor
def sleeps(record):
    if record["id"] in (1500, 1501):
        time.sleep(600)
    return _out(record)


@processor
def loops(record):
    while record["id"] == 1500:
        try:
            while True:
                pass
        except ValueError:
            pass
    return _out(record)


@processor
def blocks(record):
    """Blocks in C code that does not let go of the interpreter: no signal handler runs."""
    if record["id"] == 1500:
        ctypes.PyDLL(None).sleep(600)
    return _out(record)


@processor
def talks(record):
    if record["id"] == 1500:
        logging.getLogger("shop").warning("the price of 1500 is odd")
        warnings.warn("an old price list", stacklevel=1)
    return _out(record)


@processor
def talks_all_the_time(record):
    """Is interrupted while it logs, in two threads at once, long lines that fill the pipe."""
    log = logging.getLogger("shop")
    if 1500 <= record["id"] < 1506:
        threading.Thread(target=lambda: [log.warning("b" * 50_000) for _ in range(20)]).start()
        while True:
            log.warning("a" * 200_000)
    return _out(record)


@processor
def stops(record):
    if record["id"] == 1500:
        raise StopBatch("no price list")
    return _out(record)


@processor
def kills_its_parent(record):
    """The parent dies by SIGKILL while this worker is in mid-chunk; what it does afterwards must not count."""
    if record["id"] == 2500 and _once("killed"):
        os.kill(os.getppid(), signal.SIGKILL)
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            pass
    return _out(record)


@processor
def slow(record):
    if record["id"] % 100 == 50:
        time.sleep(0.1)
    return _out(record)


@processor
def held(record):
    """All thousands but the first wait for a file named "go", a minute at most."""
    here = Path(os.environ["WORKER_JOB"])
    if record["id"] in (1000, 2000, 3000):
        _once(f"at-{record['id']}")
        deadline = time.monotonic() + 60
        while not (here / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    return _out(record)


@processor
def never_ends(record):
    """The first record of the second thousand never ends, in the first run."""
    if record["id"] == 1000 and _once("begun"):
        threading.Event().wait()
    return _out(record)


@processor
def until_three(record):
    """Waits until three processes work on it, two minutes at most."""
    here = Path(os.environ["WORKER_JOB"])
    (here / f"pid-{os.getpid()}").touch()
    while len(list(here.glob("pid-*"))) < 3 and time.monotonic() < BEGAN + 120:
        time.sleep(0.005)
    return _out(record)
