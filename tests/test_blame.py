"""What is to blame for an error: decided by one function, for whatever may be raised."""

import asyncio
import errno
import functools
import itertools
import os
import subprocess
import threading
from multiprocessing import popen_fork, util

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_batch.blocks.blame import _STARTS, blame_of
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import (
    BadOutput,
    BadSink,
    ChunkIsDone,
    DoesNotFit,
    RecordTimeout,
    RemoteError,
    TooLarge,
    WorkerDied,
)

SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS)


def wrapped(error, kind=ValueError):
    """The error as the cause of another one, and an error as which it may be raised in handling it."""
    outer, context = kind("outer"), kind("context")
    outer.__cause__, context.__context__ = error, error
    return [error, outer, context, BaseExceptionGroup("several", [ValueError("other"), error])]


def no_memory():
    return [MemoryError(), OSError(errno.ENOMEM, "no memory"), pa.ArrowMemoryError("no memory")]


def test_a_lack_of_this_process_is_never_the_records_whoever_meets_it():
    for error in [one for number in SCARCE for one in wrapped(OSError(number, "scarce"))]:
        assert blame_of(error, by_function=True) is Blame.PROCESS, error
    for number in SCARCE:
        assert blame_of(OSError(number, "scarce")) is Blame.PROCESS
    for error in [one for lack in no_memory() for one in wrapped(lack)]:
        assert blame_of(error, by_function=True) is Blame.SIZE, error
        assert blame_of(error).passes, error


def test_real_lacks_are_seen(monkeypatch):
    with pytest.raises(MemoryError) as raised:
        np.zeros(2**45)
    assert blame_of(raised.value, by_function=True) is Blame.SIZE

    def refuse(*_args, **_kwargs):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "_start_new_thread", refuse, raising=False)
    monkeypatch.setattr(threading, "_start_joinable_thread", refuse, raising=False)
    with pytest.raises(RuntimeError) as raised:
        threading.Thread(target=int).start()
    assert blame_of(raised.value, by_function=True) is Blame.PROCESS
    assert blame_of(RuntimeError("threads can only be started once"), by_function=True) is Blame.RECORD


def test_no_new_process_is_a_lack_and_a_socket_that_would_block_is_none():
    read, write = os.pipe()
    os.set_blocking(read, False)

    class System:
        fork = staticmethod(functools.partial(os.read, read, 1))  # EAGAIN, raised in C, as by fork.

    def start():
        System.fork()

    with pytest.raises(BlockingIOError) as not_started:
        start()
    with pytest.raises(BlockingIOError) as blocked:
        os.read(read, 1)
    os.close(read)
    os.close(write)
    assert blame_of(not_started.value, by_function=True) is Blame.PROCESS
    assert blame_of(blocked.value, by_function=True) is Blame.RECORD


@pytest.mark.parametrize(
    "starts",
    [subprocess.Popen._execute_child, popen_fork.Popen._launch, util.spawnv_passfds],
    ids=lambda f: f.__qualname__,
)
def test_the_places_in_python_that_start_processes_are_known(starts):
    assert not _STARTS.isdisjoint(starts.__code__.co_names)


def test_what_a_function_raises_otherwise_is_the_records():
    for kind in (
        ConnectionError,
        TimeoutError,
        FileNotFoundError,
        PermissionError,
        KeyError,
        SystemExit,
        RecursionError,
    ):
        assert blame_of(kind("x"), by_function=True) is Blame.RECORD
    for kind in (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, BaseException):
        assert blame_of(kind(), by_function=True) is Blame.RECORD


def test_what_an_end_raises():
    assert blame_of(ConnectionResetError()) is Blame.PASSING
    assert blame_of(TimeoutError()) is Blame.PASSING
    assert blame_of(PermissionError(errno.EACCES, "no")) is Blame.END
    assert blame_of(BadSink("no")) is Blame.END
    assert blame_of(ChunkIsDone()) is Blame.PASSING
    for error in (DoesNotFit("x"), BadOutput("x"), ValueError("x"), RecordTimeout(1.0)):
        error.__context__ = ConnectionResetError()
        assert blame_of(error) is (Blame.PASSING if type(error) is ValueError else Blame.RECORD), error
    for died in (WorkerDied(), WorkerDied(3)):
        died.__context__ = ConnectionResetError()
        assert blame_of(died) is Blame.SIZE
    too_large = TooLarge("no memory")
    too_large.__cause__ = MemoryError()
    assert blame_of(too_large) is Blame.END  # Not tried again by itself: others have to pass first.


@pytest.mark.parametrize("blame", Blame)
def test_blame_survives_the_way_from_a_worker(blame):
    import pickle

    error = pickle.loads(pickle.dumps(RemoteError("ValueError", "x", "", blame)))
    assert blame_of(error) is blame
    assert blame.passes <= blame.fails_chunk


class Hostile(Exception):
    """Raises whatever is asked of it."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __str__(self):
        raise RuntimeError("str")

    def __reduce__(self):
        raise RuntimeError("reduce")

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None


KINDS = (ValueError, Hostile, OSError, SystemExit, ConnectionError)


@given(st.lists(st.sampled_from([*KINDS, *SCARCE]), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_any_chain_has_an_answer_and_loops_end(links, circular, by_function):
    errors = [OSError(link, "scarce") if isinstance(link, int) else link("x") for link in links]
    set_cause = BaseException.__dict__["__cause__"].__set__
    for outer, inner in itertools.pairwise(errors):
        set_cause(outer, inner)
    if circular:
        set_cause(errors[-1], errors[0])
    said = blame_of(errors[0], by_function=by_function)
    assert said in Blame
    if by_function:
        assert said is (Blame.PROCESS if set(links) & set(SCARCE) else Blame.RECORD)


def test_an_error_of_a_store_passes_if_a_lost_connection_caused_it():
    away = OSError("the store cannot be reached")
    away.__cause__ = ConnectionRefusedError()
    assert blame_of(away) is Blame.PASSING
    assert blame_of(OSError(errno.EROFS, "read-only")) is Blame.END
    assert blame_of(away, by_function=True) is Blame.RECORD
