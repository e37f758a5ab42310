"""A record that failed, and whether it is to blame for what was raised while it was in hand."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, NoReturn

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.dead_letter import Stage
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.tasks.error_text import ErrorText, let_go, remote_error, text_of, trace_text

# What a function may raise to end itself. Whatever else is no Exception, a signal may have raised in the main thread.
_ENDS_A_FUNCTION = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)


# The process in which a thread has begun its chunk.
_work = threading.local()


@dataclass(frozen=True)
class Failure:
    """A record that failed: its index in the batch, the stage, the error, the attempts, and the refused rows if any.

    An exception is kept as text: its traceback would keep the variables of the function alive, of each record that
    failed.
    """

    index: int
    stage: Stage
    error: Any
    attempts: int
    output: Any = None

    def __post_init__(self) -> None:
        if type(self.error) is not ErrorText:
            object.__setattr__(self, "error", _as_text(self.error, in_function=self.stage == "process"))


def _as_text(error: BaseException, *, in_function: bool) -> ErrorText:
    tb: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    # The first frame of a function's error is ours.
    text = text_of(error, tb.tb_next if in_function and tb is not None else None)
    let_go(error)
    return text


def check_blames_record(error: BaseException, records: int = 1) -> None:
    """Return if a record may be to blame for what the function raised when it was called for so many records.

    What is raised for several records may also come of their size, and then they are tried in parts.

    Raises:
        RemoteError: This process lacks something, so that the chunk fails.
        BaseException: The error itself, which a signal to this process has raised.
    """
    if _is_forked():
        _end_forked(error)
    if came_by_signal(error):
        raise error
    blame = blame_of(error, by_function=True)
    if blame.fails_chunk and not (blame is Blame.SIZE and records > 1):
        raise remote_error(error, blame) from None


@contextmanager
def errors_only() -> Iterator[None]:
    """Let what is no Exception out of the block as one, unless a signal raised it: nobody's program may end by it.

    A function's own is its record's. This one comes from elsewhere, such as a task that the function left running.
    """
    _work.pid = os.getpid()
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if came_by_signal(error):
            raise
        raise remote_error(error, Blame.RECORD) from None


def _is_forked() -> bool:
    """Return whether the function has forked this process, in which only its own code has anything to do."""
    return getattr(_work, "pid", os.getpid()) != os.getpid()


def _end_forked(error: BaseException) -> NoReturn:
    """End a forked process as Python ends one with this error, without a touch to what it shares with its parent."""
    if error.__traceback__ is not None and error.__traceback__.tb_next is None:
        # Raised where the function was called, after its end: see `RecordGuard.let_go`.
        error = error.__context__ or SystemExit()
    status = 1
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        status = error.code or 0
    else:
        sys.stderr.write(trace_text(error, error.__traceback__))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def leave_to_parent(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal in a worker process by finishing the chunk in hand: its parent, which has it too, decides."""


def came_by_signal(error: BaseException) -> bool:
    """Return whether the error is one by which a handler ends this process, as Ctrl-C does and a cancelled run."""
    if issubclass(type(error), _ENDS_A_FUNCTION) or signal.getsignal(signal.SIGINT) is leave_to_parent:
        return False
    return threading.current_thread() is threading.main_thread()
