"""How fast the chunks in this process may take records: a debt in rows that is worked off at the permitted rate."""

import threading
import time
from collections.abc import Callable

__all__ = ["Pace", "forget_pace", "keep_pace", "pace_of", "set_pace"]

SLEEP_SECONDS = 0.2
# So much unused time may be made up for: that of a commit, for instance.
CREDIT_SECONDS = 1.0


class Pace:
    """Makes the threads of this process wait, in their turn, so that they take no more than `rate` records a second.

    In a time of t seconds they start on at most rate * (t + 1) records, and one batch. `cell` holds the rate, 0 for no
    limit: a single double, which may lie in memory that another process writes to.
    """

    def __init__(self, cell: "memoryview[float] | None" = None) -> None:
        self._cell: memoryview[float] = memoryview(bytearray(8)).cast("d") if cell is None else cell
        self._turn = threading.Lock()
        self._owed = 0.0
        self._since = time.monotonic()

    @property
    def rate(self) -> float:
        """Records per second that this process may take now; 0 for no limit."""
        return float(self._cell[0])

    @rate.setter
    def rate(self, rate: float) -> None:
        self._cell[0] = rate

    def wait(self, rows: int, check: Callable[[], None]) -> None:
        """Wait until so many rows may be taken; `check` may raise in between, so that the waiting ends."""
        if not self.rate:
            return
        with self._turn:
            # The rate may be changed while we wait.
            while (rate := self.rate) and (owed := self._work_off(rate)) > 0:
                check()
                time.sleep(min(owed / rate, SLEEP_SECONDS))
            self._owed += rows

    def _work_off(self, rate: float) -> float:
        now = time.monotonic()
        self._owed = max(self._owed - rate * (now - self._since), -CREDIT_SECONDS * rate)
        self._since = now
        return self._owed


_paces: dict[str, Pace] = {}
_lock = threading.Lock()


def pace_of(run_id: str) -> Pace:
    """The pace of this run in this process; without a limit until one is set."""
    with _lock:
        return _paces.setdefault(run_id, Pace())


def keep_pace(run_id: str, pace: Pace) -> None:
    """Let the run's chunks in this process keep to this pace."""
    with _lock:
        _paces[run_id] = pace


def set_pace(run_id: str, rate: float) -> None:
    """Let the run, in this process, take so many records per second from now on; 0 for no limit."""
    pace_of(run_id).rate = rate


def forget_pace(run_id: str) -> None:
    """Drop what this process keeps of a run that has ended."""
    with _lock:
        _paces.pop(run_id, None)
