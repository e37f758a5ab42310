"""The hours of the day in which a job may run, by the clock of a time zone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from prefect_batch.blocks.errors import BadParameter

_HOURS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_MINUTES_OF_DAY = 24 * 60
# No gap between two windows is longer, and no change of the clock.
_FARTHEST = timedelta(days=3)


@dataclass(frozen=True)
class RunWindow:
    """Hours of the day, such as ``22:00-06:00,12:00-13:00 Europe/Berlin``, where each end is excluded.

    They follow local time: an hour that summer time skips or repeats is also skipped or repeated in the window.

    Raises:
        BadParameter: the text is not of this form, or names no known time zone.
    """

    text: str

    def __post_init__(self) -> None:
        _ = self.zone
        for start, end in self.minutes:
            if start == end:
                raise BadParameter(f"run_window={self.text!r} has a window that ends where it starts; leave it out")

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        name = self.text.strip().rpartition(" ")[2]
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError) as error:
            raise BadParameter(
                f"run_window={self.text!r} must end with a time zone, such as UTC or Europe/Berlin: "
                "'22:00-06:00 Europe/Berlin'"
            ) from error

    @cached_property
    def minutes(self) -> list[tuple[int, int]]:
        """The start and the end of each window, in minutes from midnight. One across midnight ends before it starts."""
        found = []
        for hours in self.text.strip().rpartition(" ")[0].split(","):
            match = _HOURS.fullmatch(hours.strip())
            parts = [int(part) for part in match.groups()] if match else [99, 0, 0, 0]
            start, end = 60 * parts[0] + parts[1], 60 * parts[2] + parts[3]
            if start >= _MINUTES_OF_DAY or end > _MINUTES_OF_DAY or max(parts[1], parts[3]) > 59:
                raise BadParameter(
                    f"run_window={self.text!r} must be hours and a time zone, such as '22:00-06:00 Europe/Berlin' or "
                    "'22:00-24:00,12:00-13:30 UTC'"
                )
            found.append((start, end))
        return found

    def is_open(self, now: datetime) -> bool:
        """Return whether a run is allowed at this moment."""
        clock = now.astimezone(self.zone).time()
        minute = 60 * clock.hour + clock.minute
        return any(
            start <= minute < end if start < end else minute >= start or minute < end for start, end in self.minutes
        )

    def opens_at(self, now: datetime) -> datetime:
        """Return the first moment from `now` on at which a run is allowed, in the window's time zone."""
        # Minute by minute, in UTC, so that no change of the local time is missed.
        return next(filter(self.is_open, _minutes(now))).astimezone(self.zone)


def _minutes(now: datetime) -> Iterator[datetime]:
    now = now.astimezone(UTC)
    yield now
    whole = now.replace(second=0, microsecond=0)
    for minute in range(1, int(_FARTHEST.total_seconds()) // 60):
        yield whole + timedelta(minutes=minute)


def clock_text(moment: datetime, now: datetime) -> str:
    """Return the moment as people say it: ``06:00 UTC``, with its date unless that is today."""
    same_day = moment.date() == now.astimezone(moment.tzinfo).date()
    zone = getattr(moment.tzinfo, "key", None) or moment.tzname() or ""
    text = f"{moment:%H:%M} {zone}".strip()
    return text if same_day and moment.time() != time() else f"{moment:%A} {moment:%Y-%m-%d} at {text}"
