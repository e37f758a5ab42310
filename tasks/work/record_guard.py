"""Watching over single records in a worker process: which one is in hand, and for how long."""

import contextlib
import mmap
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from prefect_batch.blocks.errors import RecordTimeout
from prefect_batch.blocks.kinds.record import Record

# No record is in hand: the worker reads, writes or waits.
IDLE = -1
# The record in hand, and the rate limit.
SHARED_BYTES = 16
# A signal that functions do not use for limits of their own, where there is one: macOS has none to spare.
ALARM = int(getattr(signal, "SIGRTMAX", signal.SIGALRM + 1)) - 1


class RecordGuard:
    """Shows the parent, through shared memory, which record is being processed, and ends it at its time limit.

    Whatever processes a batch sets ``in_hand[0]`` to the number of each record in its chunk, and to `IDLE` after it.
    With a time limit, it sets ``begun[0]`` to the start of the record, by `time.monotonic`. `timeout_seconds` is the
    limit of one record.
    """

    def __init__(self, shared: mmap.mmap, timeout_seconds: float | None) -> None:
        self.in_hand = memoryview(shared)[:8].cast("q")
        self.in_hand[0] = IDLE
        self.begun = [0.0]
        self.timeout = timeout_seconds
        self._next = 0
        self._doomed: Mapping[int, Exception] = {}
        self._deaf = self._missed = False
        if timeout_seconds is not None:
            signal.signal(ALARM, self._ring)
            threading.Thread(target=self._watch, args=(timeout_seconds,), name="batch-limit", daemon=True).start()

    def begin_chunk(self, doomed: Mapping[int, Exception]) -> None:
        """Count a chunk's records from its first. Those in `doomed`, by their number, fail with the error there."""
        self._next = 0
        self._doomed = doomed

    @contextlib.contextmanager
    def batch(self, rows: int) -> Iterator[int]:
        """Watch over the chunk's next records in the block.

        Yields:
            The number of the first of them.
        """
        first = self._next
        self._next += rows
        try:
            yield first
        finally:
            self.in_hand[0] = IDLE  # An alarm at the very end of a record may have come before that.

    def let_go(self) -> None:
        """In a forked process: leave the shared memory to the one that works on the record.

        Should the function return there, its caller fails at ``in_hand``, and the process ends.
        """
        self.in_hand.release()

    def spared(self, function: Callable[[Record], Any]) -> Callable[[Record], Any]:
        """Return the function, except that doomed records fail before it is called."""
        if not self._doomed:
            return function

        def refuse(record: Record) -> Any:
            if error := self._doomed.get(self.in_hand[0]):
                raise error
            return function(record)

        return refuse

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let no time limit interrupt the block. A limit that expires in it ends the record after the block.

        Blocking the signal does not suffice: another thread receives it, and Python calls the handler in the main
        thread all the same.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._deaf = True
        try:
            yield
        finally:
            self._deaf = False
            if self._missed:
                self._missed = False
                self._ring()

    def _watch(self, timeout: float) -> None:
        """Ring when a record is over its limit, and again if that did not end it.

        No record that keeps to its limit is disturbed: a signal would end waiting in compiled code.
        """
        main = threading.main_thread().ident
        assert main is not None
        while True:
            left = self._left() if self.in_hand[0] != IDLE else timeout
            if left > 0:
                time.sleep(left)
            else:
                signal.pthread_kill(main, ALARM)
                time.sleep(timeout)

    def _left(self) -> float:
        """Return the seconds that the record in hand may still take."""
        assert self.timeout is not None
        return self.timeout - (time.monotonic() - self.begun[0])

    def _ring(self, _number: int = ALARM, _frame: FrameType | None = None) -> None:
        if self._deaf:
            self._missed = True
        elif self.in_hand[0] != IDLE and self._left() <= 0:
            assert self.timeout is not None
            raise RecordTimeout(self.timeout)
