"""Progress as numbers and as a line of text; the clock comes in as an argument."""

import time
from collections import deque
from dataclasses import dataclass, field

from prefect_batch.blocks.values import Tally

__all__ = ["Progress", "duration_text"]

WINDOW_SECONDS = 60.0


def duration_text(seconds: float) -> str:
    """A duration as people say it: ``8 s``, ``1 min 39 s``, ``3 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass
class Progress:
    """Records of the pass that are done, out of an estimated total, and the recent rate of this run.

    `total` is an estimate in records; None when unknown. Times are seconds of a monotonic clock.
    """

    job: str
    total: int | None
    before: Tally = Tally()
    started_at: float = field(default_factory=time.monotonic)
    run: Tally = Tally()
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, tally: Tally, now: float) -> None:
        """Count a finished chunk."""
        self.run = self.run + tally
        self._recent.append((now, self.run.read))
        while len(self._recent) > 2 and now - self._recent[0][0] > WINDOW_SECONDS:
            self._recent.popleft()

    @property
    def whole(self) -> Tally:
        """The counts of the pass, earlier runs included."""
        return self.before + self.run

    def rate(self, now: float) -> float | None:
        """Records per second over the last minute of this run; None before the first chunk."""
        if not self._recent:
            return None
        since, read = self._recent[0] if now - self.started_at > WINDOW_SECONDS else (self.started_at, 0)
        return (self.run.read - read) / (now - since) if now > since else None

    def share(self) -> float | None:
        """How much of the pass is done, from 0 to 1; None when the total is unknown."""
        return min(1.0, self.whole.read / self.total) if self.total else None

    def seconds_left(self, now: float) -> float | None:
        """An estimate of the seconds to go; None while it cannot be known."""
        rate = self.rate(now)
        if not self.total or not rate:
            return None
        return max(0, self.total - self.whole.read) / rate

    def line(self, now: float) -> str:
        """The progress as one line of text."""
        whole, share, rate, left = self.whole, self.share(), self.rate(now), self.seconds_left(now)
        done = f"{self.job}: {whole.read:,} records"
        if self.total is not None and share is not None:
            done = f"{self.job}: {whole.read:,} of {max(self.total, whole.read):,} records ({share:.1%})"
        speed = "" if rate is None else f", {rate:,.0f}/s"
        ahead = "time left unknown" if left is None else f"about {duration_text(left)} left"
        return f"{done}{speed}, {ahead}, {whole.failed:,} failed ({whole.failure_rate:.2%})"
