"""A worker process: works on one chunk after the other, and ends with its parent.

Started as a module, so that it imports neither the user's ``__main__`` nor Prefect:
``python -m prefect_batch.tasks.workers.worker <connection> <shared memory> <parent pid>``, the first two as file
descriptors.
"""

import contextlib
import ctypes
import gc
import logging
import mmap
import os
import signal
import sys
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.credentials import know_url
from prefect_batch.blocks.errors import LostOwnership, SinkRefuses, StopBatch
from prefect_batch.blocks.letters.redaction import know_redaction_key
from prefect_batch.tasks.error_text import message_of, remote_error, storable
from prefect_batch.tasks.work.failure import leave_to_parent
from prefect_batch.tasks.work.rate_limit import RateLimit, keep_rate_limit
from prefect_batch.tasks.work.record_guard import SHARED_BYTES, RecordGuard
from prefect_batch.tasks.work.work_chunk import ChunkJob, work_chunk
from prefect_batch.tasks.workers.messages import LogLine, WorkerSetup, WorkOrder
from prefect_batch.tasks.workers.send_function import load_function

_PR_SET_PDEATHSIG = 1
MOST_LINE_CHARACTERS = 1_000_000
# The signals that end a chunk's work only by way of the parent, and what they do in a plain script.
_SIGNALS: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


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
        try:
            line = LogLine(record.levelno, storable(self.format(record), MOST_LINE_CHARACTERS))
        except Exception:  # noqa: BLE001 - as logging itself does: a wrong format fails nothing
            self.handleError(record)
            return
        self._parent.send(line)


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


def _remote(error: BaseException) -> Exception:
    """Return the error in a form that can be sent to another process."""
    if isinstance(error, StopBatch):
        return StopBatch(message_of(error))
    if isinstance(error, (SinkRefuses, LostOwnership)):
        return error
    return remote_error(error, blame_of(error))


class _Worker:
    """The work of this process: on the chunks that its parent orders, until it asks for the end."""

    def __init__(self, connection: "Connection[Any, Any]", setup: WorkerSetup, guard: RecordGuard, parent: int) -> None:
        self._connection, self._setup, self._guard, self._parent = connection, setup, guard, parent
        self._to_parent = _Parent(connection, guard)
        self._log = _ToParent(self._to_parent)
        self._job: ChunkJob | None = None

    def run(self) -> None:
        """Work on chunks until the parent asks for the end, or has ended."""
        logging.captureWarnings(capture=True)
        logging.basicConfig(handlers=[self._log], level=logging.INFO, format="%(message)s")
        os.register_at_fork(after_in_child=self._become_a_child)
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while (order := self._connection.recv()) is not None:
                self._to_parent.send(self._answer(order))
        # What the function registered for the end may log, and take its time: now any signal means what it means.
        self._as_a_plain_script()

    def _answer(self, order: WorkOrder) -> Any:
        try:
            if self._job is None:
                self._job = _with_function(self._setup)
            self._guard.begin_chunk(order.doomed)
            job = replace(self._job, batch_rows=order.batch_rows, hold_refused=order.hold_refused, trial=order.trial)
            return work_chunk(job, order.chunk, guard=self._guard, before_commit=self._check_parent)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            return _remote(error)

    def _check_parent(self) -> None:
        if os.getppid() != self._parent:
            os._exit(1)

    def _become_a_child(self) -> None:
        """In a process that the function has forked: let go of what is between this process and its parent."""
        self._connection.close()
        self._guard.let_go()
        self._as_a_plain_script()

    def _as_a_plain_script(self) -> None:
        """Let signals and log lines do what they do in a script that is not ours."""
        logging.getLogger().removeHandler(self._log)
        for number, usual in _SIGNALS.items():
            if signal.getsignal(number) is leave_to_parent:
                signal.signal(number, usual)


def _with_function(setup: WorkerSetup) -> ChunkJob:
    """Return the job with its function, which has to be imported or loaded."""
    return setup.job if setup.function is None else replace(setup.job, process=load_function(setup.function))


def _main() -> None:
    # They come to a whole service at its stop, for instance: the chunk in hand is finished, and the parent decides.
    # By handlers, because what the function starts would inherit that a signal is ignored.
    for number in _SIGNALS:
        signal.signal(number, leave_to_parent)
    descriptor, memory, parent = map(int, sys.argv[1:])
    for inherited in (descriptor, memory):
        os.set_inheritable(inherited, False)
    _die_with(parent)
    connection: Connection[Any, Any] = Connection(descriptor)
    setup: WorkerSetup = connection.recv()
    sys.path[:] = setup.path
    if setup.redaction_key is not None:
        know_redaction_key(setup.redaction_key)
    for name, url in setup.urls.items():
        know_url(name, url)
    shared = mmap.mmap(memory, SHARED_BYTES)
    keep_rate_limit(setup.job.run_id, RateLimit(memoryview(shared)[8:].cast("d")))
    worker = _Worker(connection, setup, RecordGuard(shared, setup.timeout_seconds), parent)
    gc.freeze()
    worker.run()


if __name__ == "__main__":
    _main()
