"""Ctrl-C: once finishes the chunks in flight and stops, twice stops at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["StopRequest", "stop_on_interrupt"]


class StopRequest:
    """Whether, and why, a run was asked to stop after the chunks in flight."""

    reason: str | None = None


@contextlib.contextmanager
def stop_on_interrupt(request: StopRequest) -> Iterator[None]:
    """Turn the first SIGINT into a stop request, and the second into a KeyboardInterrupt.

    Signals can be handled in the main thread only; elsewhere this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        if request.reason is not None:
            raise KeyboardInterrupt
        request.reason = "interrupted by Ctrl-C"

    former = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
