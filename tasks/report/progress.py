"""Progress as numbers and as a line of text. The clock is an argument."""

import time
from collections import deque
from dataclasses import dataclass, field

from prefect_batch.blocks.chunks import Tally

WINDOW_SECONDS = 60.0


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: ``8 s``, ``1 min 39 s``, ``3 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass
class Progress:
    """Records of the pass that are done, out of an estimated total, and the recent rate of this run.

    `total` is an estimate in records; None when unknown. Times are seconds of a monotonic clock. `waiting` is why the
    run waits, and the time in which it did nothing else counts in no rate.
    """

    job: str
    total: int | None
    before: Tally = Tally()
    started_at: float = field(default_factory=time.monotonic)
    run: Tally = Tally()
    waiting: str = ""
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _waited: float = 0.0
    _idle_since: float | None = None

    def wait(self, reason: str, now: float, *, idle: bool) -> None:
        """Note why the run waits now, or that it does not if the reason is empty. `idle`: no chunk is running."""
        self._waited, self._idle_since = self.waited(now), now if reason and idle else None
        self.waiting = reason

    def waited(self, now: float) -> float:
        """Return the seconds for which the run waited and no chunk was running."""
        return self._waited + (0.0 if self._idle_since is None else max(0.0, now - self._idle_since))

    def add(self, tally: Tally, now: float) -> None:
        """Count a finished chunk."""
        now -= self.waited(now)
        self.run = self.run + tally
        self._recent.append((now, self.run.read))
        while len(self._recent) > 2 and now - self._recent[0][0] > WINDOW_SECONDS:
            self._recent.popleft()

    @property
    def whole(self) -> Tally:
        """The counts of the pass, earlier runs included."""
        return self.before + self.run

    def rate(self, now: float) -> float | None:
        """Records per second over the last minute of this run, or None before the first chunk."""
        if not self._recent:
            return None
        now -= self.waited(now)
        since, read = self._recent[0] if now - self.started_at > WINDOW_SECONDS else (self.started_at, 0)
        return (self.run.read - read) / (now - since) if now > since else None

    def share(self) -> float | None:
        """Return the finished share of the pass, from 0 to 1, or None when the total is unknown."""
        return min(1.0, self.whole.read / self.total) if self.total else None

    def seconds_left(self, now: float) -> float | None:
        """Return the estimated seconds left, or None while they are unknown."""
        rate = self.rate(now)
        if not self.total or not rate:
            return None
        return max(0, self.total - self.whole.read) / rate

    def line(self, now: float) -> str:
        """Return the progress as one line of text, with the job's name."""
        return f"{self.job}: {self.text(now)}"

    def text(self, now: float) -> str:
        """Return the progress as text, without the job's name."""
        whole, share, rate = self.whole, self.share(), self.rate(now)
        done = f"{whole.read:,} records"
        if self.total is not None and share is not None:
            done = f"{whole.read:,} of {max(self.total, whole.read):,} records ({share:.1%})"
        speed = "" if rate is None else f", {rate:,.0f}/s"
        return f"{done}{speed}, {self._ahead(now)}, {whole.failed:,} failed ({whole.failure_rate:.2%})"

    def headline(self, now: float) -> str:
        """Return the progress for a card that shows only about the first forty characters."""
        whole, share, rate = self.whole, self.share(), self.rate(now)
        done = "" if share is None else f"{share:.1%}, "
        of = "" if self.total is None else f" of {max(self.total, whole.read):,}"
        speed = "" if rate is None else f", {rate:,.0f}/s"
        failed = f"{whole.failed:,} failed ({whole.failure_rate:.2%})"
        return f"{done}{self._ahead(now)}: {whole.read:,}{of} records{speed}, {failed}"

    def _ahead(self, now: float) -> str:
        if self.waiting:
            return f"waits: {self.waiting}"
        left = self.seconds_left(now)
        return "time left unknown" if left is None else f"about {duration_text(left)} left"
