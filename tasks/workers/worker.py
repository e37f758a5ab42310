"""A worker process: works on one chunk after the other, and ends with its parent.

Started as a module, so that it imports neither the user's ``__main__`` nor Prefect:
``python -m prefect_batch.tasks.workers.worker <connection> <shared memory> <parent pid>``, the first two as file
descriptors.
"""

import ctypes
import gc
import logging
import mmap
import os
import pickle
import signal
import sys
import threading
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.credentials import know_url
from prefect_batch.blocks.errors import LostOwnership, RemoteError, SinkRefuses, StopBatch
from prefect_batch.blocks.letters.redaction import know_redaction_key
from prefect_batch.tasks.error_text import own_error, printed, type_name
from prefect_batch.tasks.work.rate_limit import RateLimit, keep_rate_limit
from prefect_batch.tasks.work.record_guard import SHARED_BYTES, RecordGuard
from prefect_batch.tasks.work.work_chunk import work_chunk
from prefect_batch.tasks.workers.messages import LogLine, WorkerSetup, WorkOrder

_PR_SET_PDEATHSIG = 1


class _Parent:
    """The way to the parent, for one message at a time, and each of them whole: else it would understand no more."""

    def __init__(self, connection: "Connection[Any, Any]", guard: RecordGuard) -> None:
        self._connection, self._guard = connection, guard
        self._lock = threading.Lock()  # The user's function may log from threads of its own.

    def send(self, message: Any) -> None:
        """Send it, undisturbed by the time limit of the record in hand."""
        with self._guard.undisturbed(), self._lock:
            self._connection.send(message)


class _ToParent(logging.Handler):
    def __init__(self, parent: _Parent) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        self._parent.send(LogLine(record.levelno, self.format(record)))


def _die_with(parent: int) -> None:
    """End this process when its parent has ended, however busy it is: another run may own the job by then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="batch-parent", daemon=True).start()


def _remote(error: Exception) -> Exception:
    """Return the error in a form that can be sent to another process."""
    if isinstance(error, StopBatch):
        return StopBatch(str(error))
    if isinstance(error, (SinkRefuses, LostOwnership)):
        return error
    text = printed(traceback.format_exception, error)
    return RemoteError(type_name(error), str(own_error(error)), text, blame_of(error))


def _work(
    connection: "Connection[Any, Any]", to_parent: _Parent, setup: WorkerSetup, guard: RecordGuard, parent: int
) -> None:
    job = setup.job
    if setup.function is not None:
        job = replace(job, process=pickle.loads(setup.function))  # noqa: S301 - from our parent

    def check_parent() -> None:
        if os.getppid() != parent:
            os._exit(1)

    while True:
        order: WorkOrder = connection.recv()
        try:
            guard.begin_chunk(order.doomed)
            ordered = replace(job, batch_rows=order.batch_rows, hold_refused=order.hold_refused)
            to_parent.send(work_chunk(ordered, order.chunk, guard=guard, before_commit=check_parent))
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            to_parent.send(_remote(error))


def _main() -> None:
    # Ctrl-C and a signal to the group reach this process, too: it finishes the chunk in hand, the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    descriptor, memory, parent = map(int, sys.argv[1:])
    _die_with(parent)
    connection: Connection[Any, Any] = Connection(descriptor)
    setup: WorkerSetup = connection.recv()
    sys.path[:] = setup.path
    if setup.redaction_key is not None:
        know_redaction_key(setup.redaction_key)
    for name, url in setup.urls.items():
        know_url(name, url)
    shared = mmap.mmap(memory, SHARED_BYTES)
    guard = RecordGuard(shared, setup.timeout_seconds)
    logging.captureWarnings(capture=True)
    to_parent = _Parent(connection, guard)
    logging.basicConfig(handlers=[_ToParent(to_parent)], level=logging.INFO, format="%(message)s")
    keep_rate_limit(setup.job.run_id, RateLimit(memoryview(shared)[8:].cast("d")))
    gc.freeze()
    try:
        _work(connection, to_parent, setup, guard, parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # The parent needs it no longer.


if __name__ == "__main__":
    _main()
