"""Timestamps, times and durations with nanoseconds, which Python's own types do not have."""

from datetime import datetime, time, timedelta
from typing import Any

# Before the text that a timestamp keeps.
_KEPT = "="
_MICROSECOND = timedelta(microseconds=1)


class NanoTime(time):
    """A time of day with 1 to 999 nanoseconds beyond its microsecond, which pandas has only for timestamps."""

    nanosecond: int

    @classmethod
    def of_day(cls, nanoseconds: int) -> time:
        """Return the time this many nanoseconds after midnight, as a plain one if its microseconds are whole."""
        seconds, rest = divmod(nanoseconds, 10**9)
        found = time(seconds // 3600, seconds // 60 % 60, seconds % 60, rest // 1000)
        return cls.beyond(found, rest % 1000) if rest % 1000 else found

    @classmethod
    def beyond(cls, value: time, nanosecond: int) -> "NanoTime":
        """Return the time this many nanoseconds later, less than a microsecond."""
        new = cls(value.hour, value.minute, value.second, value.microsecond)
        new.nanosecond = nanosecond
        return new

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NanoTime) and time_text(self) == time_text(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(time_text(self))

    def __repr__(self) -> str:
        return f"NanoTime({time_text(self)})"

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return parse_time, (time_text(self),)


class TextMoment(datetime):
    """A timestamp that was read from a text other than the one that would be written for it, which it keeps."""

    # What is computed from one has no text.
    text: str | None = None

    @classmethod
    def of(cls, text: str) -> "TextMoment":
        """Return the timestamp of this text.

        Raises:
            ValueError: the text is no timestamp.
        """
        found = cls.fromisoformat(text)
        found.text = text
        return found

    @property
    def plain(self) -> datetime:
        """The same timestamp, without the text."""
        parts = self.year, self.month, self.day, self.hour, self.minute, self.second, self.microsecond
        return datetime(*parts, tzinfo=self.tzinfo, fold=self.fold)

    def __repr__(self) -> str:
        return repr(self.plain)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (TextMoment.of, (self.text,)) if self.text else self.plain.__reduce_ex__(protocol)


def nanoseconds_of(value: Any) -> int:
    """Return the nanoseconds beyond the value's last whole microsecond, which is 0 for Python's own types."""
    if isinstance(value, timedelta):
        return int(getattr(value, "nanoseconds", 0))
    return int(getattr(value, "nanosecond", 0)) if isinstance(value, (datetime, time)) else 0


def moment_text(value: datetime) -> str:
    """Return the timestamp in ISO 8601, with nine digits if it has nanoseconds, or the text that it keeps."""
    if isinstance(value, TextMoment) and value.text:
        return _KEPT + value.text
    return value.isoformat() if nanoseconds_of(value) else datetime.isoformat(value)


def parse_moment(text: str) -> datetime:
    """Return the timestamp that `moment_text` wrote, as one of pandas if it has nanoseconds, or with its text."""
    if text.startswith(_KEPT):
        return TextMoment.of(text[1:])
    if len(text.partition(".")[2].partition("+")[0].partition("-")[0]) <= 6:
        return datetime.fromisoformat(text)
    import pandas as pd

    found: datetime = pd.Timestamp(text)
    return found


def time_text(value: time) -> str:
    """Return the time in ISO 8601, with nine digits if it has nanoseconds."""
    nanosecond = nanoseconds_of(value)
    return f"{time.isoformat(value, 'microseconds')}{nanosecond:03}" if nanosecond else time.isoformat(value)


def parse_time(text: str) -> time:
    """Return the time that `time_text`, or Arrow, wrote."""
    whole, _, digits = text.partition(".")
    if not digits.isdigit() or len(digits) <= 6:
        return time.fromisoformat(text)
    found, nanosecond = time.fromisoformat(f"{whole}.{digits[:6]}"), int(digits[6:9].ljust(3, "0"))
    return NanoTime.beyond(found, nanosecond) if nanosecond else found


def duration_text(value: timedelta) -> str:
    """Return the duration as a number of microseconds, with a fraction if it has nanoseconds."""
    nanosecond = nanoseconds_of(value)
    whole = timedelta(value.days, value.seconds, value.microseconds) // _MICROSECOND
    return f"{whole}.{nanosecond:03}" if nanosecond else str(whole)


def parse_duration(text: str) -> timedelta:
    """Return the duration that `duration_text` wrote, as one of pandas if it has nanoseconds."""
    whole, _, nanosecond = text.partition(".")
    if not nanosecond:
        return timedelta(microseconds=int(whole))
    import pandas as pd

    found: timedelta = pd.Timedelta(int(whole) * 1000 + int(nanosecond), "ns")
    return found


def whole_duration(value: timedelta) -> int | None:
    """Return the duration in microseconds, or None if it is not a whole number of them."""
    return None if nanoseconds_of(value) else value // _MICROSECOND
