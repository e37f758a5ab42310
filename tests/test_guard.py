"""The time limit of a record, in the process that works on it."""

import ctypes
import mmap
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from prefect_batch.blocks.errors import RecordTimeout
from prefect_batch.tasks.work.record_guard import ALARM, IDLE, SHARED_BYTES, RecordGuard


@contextmanager
def record_in_hand(limit):
    """A guard with a record in hand from now on, beside a thread that would take the signal of a deaf main thread."""
    former, ended = signal.getsignal(ALARM), threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    guard = RecordGuard(mmap.mmap(-1, SHARED_BYTES), limit)
    try:
        with guard.batch(1) as first:
            guard.begun[0], guard.in_hand[0] = time.monotonic(), first
            yield guard
    finally:
        guard.in_hand[0] = IDLE
        ended.set()
        other.join()
        signal.signal(ALARM, former)


def busy(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass


def test_a_record_is_ended_at_its_limit():
    with record_in_hand(0.1), pytest.raises(RecordTimeout, match=r"took longer than 0\.1 s"):
        busy(60)


def test_what_must_not_be_disturbed_is_finished_first():
    finished = False
    with record_in_hand(0.1) as guard, pytest.raises(RecordTimeout):  # noqa: PT012 - the block is what is tested
        with guard.undisturbed():
            busy(0.3)
            finished = True
        busy(60)
    assert finished


def test_a_record_within_its_limit_goes_on_after_it():
    with record_in_hand(60) as guard, guard.undisturbed():
        signal.raise_signal(ALARM)
        busy(0.01)
    with record_in_hand(10) as guard:
        with guard.undisturbed():
            busy(0.05)
        busy(0.05)


def test_other_threads_leave_the_limit_alone():
    with record_in_hand(0.2) as guard, pytest.raises(RecordTimeout):  # noqa: PT012

        def hold():
            with guard.undisturbed():
                time.sleep(1)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            busy(60)
        finally:
            thread.join()


def test_the_limit_leaves_alarms_to_the_function_and_interrupts_no_compiled_code_before():
    libc = ctypes.CDLL(None)
    rung = []
    former = signal.signal(signal.SIGALRM, lambda number, _frame: rung.append(number))
    try:
        with record_in_hand(0.4) as guard:
            guard.begun[0] += 0.2  # The record began after the guard was made.
            assert libc.usleep(250_000) == 0  # Else -1: interrupted.
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            busy(0.03)
        assert rung == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, former)
