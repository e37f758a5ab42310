"""Keys as JSON and back, to the last digit: a cursor that was rounded would lose rows or repeat them."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from prefect_batch.blocks.errors import BadSource

__all__ = ["Key", "decode_key", "decode_value", "encode_key", "encode_value", "key_text", "plain_key"]

Key = tuple[Any, ...]

# Beyond this, JSON readers that hold numbers as doubles (the Prefect UI) would round an integer.
_JSON_INTEGERS = 2**53

# A subclass stands before its base: a datetime is a date, too.
_ENCODERS: tuple[tuple[type | tuple[type, ...], str, Callable[[Any], str]], ...] = (
    (int, "int", str),
    (float, "float", float.__repr__),
    (Decimal, "decimal", str),
    (datetime, "datetime", datetime.isoformat),
    (date, "date", date.isoformat),
    (time, "time", time.isoformat),
    (timedelta, "microseconds", lambda value: str(value // timedelta(microseconds=1))),
    (UUID, "uuid", str),
    ((bytes, bytearray, memoryview), "bytes", lambda value: bytes(value).hex()),
)
_DECODERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "microseconds": lambda text: timedelta(microseconds=int(text)),
    "uuid": UUID,
    "bytes": bytes.fromhex,
}


def encode_value(value: Any) -> Any:
    """The value as JSON: itself, or ``{"<tag>": "<text>"}`` where JSON has no such type or would round it.

    Raises:
        BadSource: the value's type has no exact text.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and abs(value) < _JSON_INTEGERS:
        return int(value)
    for kind, tag, text in _ENCODERS:
        if isinstance(value, kind):
            return {tag: text(value)}
    raise BadSource(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be part of a key; "
        "use an integer, text, Decimal, date, datetime, UUID or bytes column"
    )


def decode_value(encoded: Any) -> Any:
    """The value that `encode_value` wrote: same type, same value."""
    if not isinstance(encoded, dict):
        return encoded
    ((tag, text),) = encoded.items()
    return _DECODERS[tag](text)


def plain_key(values: Sequence[Any]) -> Key:
    """The values as a key whose equality can be relied on.

    In the hour that a zone with summer time has twice, Python takes different moments for equal, and equal ones for
    different as soon as their zones differ: a moment is held in UTC.
    """
    return tuple(
        value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value for value in values
    )


def encode_key(key: Key) -> list[Any]:
    """The key as a JSON list; `decode_key` gives back an equal key of the same types."""
    return [encode_value(value) for value in key]


def decode_key(encoded: Sequence[Any]) -> Key:
    """The key that `encode_key` wrote."""
    return tuple(decode_value(value) for value in encoded)


def _value_text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    return str(value)


def key_text(key: Key) -> str:
    """The key as people read it: ``120000``, or ``(1, 'a')`` for a composite one."""
    if len(key) == 1:
        return _value_text(key[0])
    return "(" + ", ".join(repr(v) if isinstance(v, str) else _value_text(v) for v in key) + ")"
