"""Decodes values of PostgreSQL that psycopg cannot decode, or alters: months become 30 days there."""

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from prefect_batch.blocks.kinds.undecoded import Undecoded

Decoder = Callable[[Any], Any]
_PARTS = re.compile(r"(-?\+?\d+) (year|mon|day)s?")
_TIME = re.compile(r"([+-]?)(\d+):(\d+):(\d+)(?:\.(\d+))?$")


def register_interval(driver: Any) -> None:
    """Let the connection return intervals with months as `pyarrow.MonthDayNano`, and all others as timedeltas."""
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    plain = driver.adapters.get_loader(driver.adapters.types["interval"].oid, Format.TEXT)

    class IntervalLoader(Loader):
        def load(self, data: Any) -> Any:
            raw = bytes(data)
            if b"mon" in raw or b"year" in raw:
                return _interval(raw.decode())
            return plain(self.oid, self.connection).load(raw)

    driver.adapters.register_loader("interval", IntervalLoader)


def _interval(text: str) -> pa.MonthDayNano:
    parts = {unit: int(number) for number, unit in _PARTS.findall(text)}
    nanoseconds = 0
    if found := _TIME.search(text):
        sign, hours, minutes, seconds, digits = found.groups()
        nanoseconds = ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 10**9 + int((digits or "").ljust(9, "0"))
        nanoseconds = -nanoseconds if sign == "-" else nanoseconds
    return pa.MonthDayNano([12 * parts.get("year", 0) + parts.get("mon", 0), parts.get("day", 0), nanoseconds])


def interval_text(value: pa.MonthDayNano) -> str:
    """Return the interval as PostgreSQL reads it.

    Raises:
        ValueError: it has nanoseconds.
    """
    months, days, nanoseconds = value
    if nanoseconds % 1000:
        raise ValueError
    size = abs(nanoseconds) // 1000
    seconds = f"{'-' if nanoseconds < 0 else ''}{size // 10**6}.{size % 10**6:06}"
    return f"{months} mons {days} days {seconds} secs"


def decoded(result: Any, decoders: list[Decoder]) -> list[tuple[Any, ...]]:
    """Return the rows of a result of the server, with `Undecoded` for what cannot be decoded."""
    places = range(result.nfields)
    return [
        tuple(decode(decoders[place], result.get_value(row, place)) for place in places)
        for row in range(result.ntuples)
    ]


def decoders_of(result: Any, transformer: Any) -> list[Decoder]:
    """Return the function for each column of a result that decodes its text."""
    from psycopg.pq import Format

    return [transformer.get_loader(result.ftype(place), Format.TEXT).load for place in range(result.nfields)]


def decode(decoder: Decoder, raw: bytes | None) -> Any:
    """Return the value of this text, or the text as `Undecoded`."""
    from psycopg import DataError

    if raw is None:
        return None
    try:
        return decoder(raw)
    except (DataError, ValueError, ArithmeticError):
        return Undecoded(raw.decode("utf-8", "backslashreplace"))
