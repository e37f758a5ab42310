"""One worker process, seen from its parent: started, watched, asked to end or killed, with all that it has started."""

import contextlib
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import psutil

from prefect_batch.tasks.work.rate_limit import RateLimit
from prefect_batch.tasks.work.record_guard import IDLE, SHARED_BYTES

# How long a worker may take to close what its function has opened, and how long what it left behind may take after it
# was asked to end.
CLOSING_SECONDS, LEFT_BEHIND_SECONDS = 10.0, 3.0
LOOK_SECONDS = 0.02


class WorkerProcess:
    """One worker process. `hung` is the record for which it was killed.

    It leads a process group of its own: a terminal's Ctrl-C reaches only the parent, which decides, and what its
    function starts is found by the group.
    """

    hung: int | None = None

    def __init__(self, setup: bytes) -> None:
        with contextlib.ExitStack() as undo, _shared_file() as file:
            self.connection, theirs = multiprocessing.Pipe()
            undo.enter_context(self.connection)
            with theirs:
                self._shared = mmap.mmap(file, SHARED_BYTES)
                descriptors = (theirs.fileno(), file)
                command = [sys.executable, "-m", "prefect_batch.tasks.workers.worker", *map(str, descriptors)]
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [*command, str(os.getpid())], pass_fds=descriptors, process_group=0
                )
            undo.callback(self.kill)
            self._in_hand = memoryview(self._shared).cast("q")
            self._in_hand[0] = IDLE
            self.rate_limit = RateLimit(memoryview(self._shared)[8:].cast("d"))
            self.connection.send_bytes(setup)
            undo.pop_all()

    @property
    def in_hand(self) -> int:
        """The number, in its chunk, of the record that is being processed, or IDLE."""
        return int(self._in_hand[0])

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended.

        Its id is kept from being used again, and with it the id of its group, until `end_workers` has seen to that.
        """
        if self._process.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True  # The program around the run has waited for all its children.

    def wait_for_answer(self, seconds: float) -> bool:
        """Wait so long for something to receive.

        Raises:
            EOFError: The process has ended, and has sent nothing more. Its pipe alone does not show that, if something
                that it has started holds the other end.
        """
        if self.connection.poll(seconds):
            return True
        if self.has_ended and not self.connection.poll(0):
            raise EOFError
        return False

    def ask_to_end(self) -> None:
        """Let it end after its chunk, and close what its function has opened."""
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def kill(self) -> None:
        """End it at once, whatever it does. The database rolls its transaction back."""
        with contextlib.suppress(ProcessLookupError):
            if not self.has_ended:
                os.kill(self.pid, signal.SIGKILL)

    def family(self) -> list[psutil.Process]:
        """Return the processes that its function has started, as far as they are its children or in its group."""
        found = {one for one in psutil.process_iter() if _group(one.pid) == self.pid and one.pid != self.pid}
        with contextlib.suppress(psutil.Error):
            found.update(psutil.Process(self.pid).children(recursive=True))
        return list(found)

    def forget(self) -> None:
        """Release what this process keeps of one that has ended."""
        self._process.wait()
        self.connection.close()


@contextlib.contextmanager
def _shared_file() -> Iterator[int]:
    """Open a file that has no name and the size of the shared memory, and yield its descriptor."""
    if hasattr(os, "memfd_create"):  # A full disk would end whoever writes to the memory of a file there.
        file = os.memfd_create("prefect-batch")
        try:
            os.truncate(file, SHARED_BYTES)
            yield file
        finally:
            os.close(file)
        return
    with tempfile.TemporaryFile() as named:
        named.truncate(SHARED_BYTES)
        yield named.fileno()


def _group(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.getpgid(pid)
    return None


def end_workers(workers: Iterable[WorkerProcess], *, at_once: bool) -> None:
    """End these workers, and then what they have started and left behind, which is asked to end before it is killed.

    Args:
        workers: Each may have ended already.
        at_once: Whether they are killed, instead of being asked to end and to close what their function has opened.
    """
    ending = list(workers)
    families = {worker: worker.family() for worker in ending}
    for worker in ending:
        worker.kill() if at_once else worker.ask_to_end()
    _wait(lambda: all(worker.has_ended for worker in ending), CLOSING_SECONDS)
    for worker in ending:
        worker.kill()
    left = {one for worker in ending for one in (*families[worker], *worker.family())}
    _end(list(left))
    for worker in ending:
        worker.forget()


def _end(processes: list[psutil.Process]) -> None:
    """Ask these processes to end, and kill those that do not."""
    for act in (psutil.Process.terminate, psutil.Process.kill):
        for one in processes:
            with contextlib.suppress(psutil.Error):
                act(one)
        _wait(lambda: not any(map(_runs, processes)), LEFT_BEHIND_SECONDS)  # noqa: B023 - called within the loop
        processes = list(filter(_runs, processes))


def _runs(process: psutil.Process) -> bool:
    """Return whether it has not ended, though nobody may ever ask how it did, as in a container without an init."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _wait(ended: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ended() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
