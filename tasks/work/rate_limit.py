"""How fast the chunks in this process may take records: a debt in rows that is worked off at the permitted rate."""

import threading
import time
from collections.abc import Callable

SLEEP_SECONDS = 0.2
# So much unused time may be made up for: that of a commit, for instance.
CREDIT_SECONDS = 1.0


class RateLimit:
    """Makes the threads of this process wait, in turn, so that they start at most `rate` records a second.

    Within t seconds they start at most rate * (t + 1) records and one batch. `cell` holds the rate, 0 for no limit: a
    single double, which may be in memory that another process writes to.
    """

    def __init__(self, cell: "memoryview[float] | None" = None) -> None:
        self._cell: memoryview[float] = memoryview(bytearray(8)).cast("d") if cell is None else cell
        self._turn = threading.Lock()
        self._owed = 0.0
        self._since = time.monotonic()

    @property
    def rate(self) -> float:
        """Records per second that this process may start now, or 0 for no limit."""
        return float(self._cell[0])

    @rate.setter
    def rate(self, rate: float) -> None:
        self._cell[0] = rate

    def wait(self, rows: int, check: Callable[[], None]) -> None:
        """Wait until so many rows may be started. `check` is called meanwhile, and ends the wait if it raises."""
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


_rate_limits: dict[str, RateLimit] = {}
_lock = threading.Lock()


def rate_limit_of(run_id: str) -> RateLimit:
    """Return this run's rate limit in this process, which is 0 (no limit) until one is set."""
    with _lock:
        return _rate_limits.setdefault(run_id, RateLimit())


def keep_rate_limit(run_id: str, rate_limit: RateLimit) -> None:
    """Let the run's chunks in this process keep to this rate limit."""
    with _lock:
        _rate_limits[run_id] = rate_limit


def set_rate_limit(run_id: str, rate: float) -> None:
    """Limit the run in this process to this many records per second from now on, or not at all if it is 0."""
    rate_limit_of(run_id).rate = rate


def forget_rate_limit(run_id: str) -> None:
    """Drop what this process keeps of a run that has ended."""
    with _lock:
        _rate_limits.pop(run_id, None)
