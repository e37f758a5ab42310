"""Asking a run to stop: by Ctrl-C, once to finish the chunks in flight and twice to stop at once, or otherwise."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class StopRequest:
    """Whether and why a run was asked to stop after its running chunks. The request calls `on_stop`.

    Attributes:
        reason: Completes the sentence "the job was …".
        way_on: How the job is resumed.
        at_once: Whether the running chunks are rolled back.
    """

    reason: str | None = None
    at_once: bool = False

    def __init__(self, on_stop: Callable[[], None], way_on: str = "call it again to go on") -> None:
        self._on_stop = on_stop
        self.way_on = way_on

    def ask(self, reason: str, way_on: str | None = None, *, at_once: bool = False) -> None:
        """Ask the run to stop. The first reason is kept."""
        self.at_once = self.at_once or at_once
        if self.reason is None:
            self.reason, self.way_on = reason, way_on or self.way_on
            self._on_stop()


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
        request.ask("interrupted by Ctrl-C")

    former = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
