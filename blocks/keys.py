"""Converts keys to JSON and back exactly, because a rounded cursor would lose rows or repeat them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect_batch.blocks.errors import BadSource, DoesNotFit
from prefect_batch.blocks.kinds.tagged import decode_value, encode_scalar

Key = tuple[Any, ...]


def plain_key(values: Sequence[Any]) -> Key:
    """Return the values as a key whose equality is reliable.

    A datetime with a zone is converted to UTC. In the hour that summer time repeats, Python treats different moments as
    equal, and equal moments in different zones as different.
    """
    return tuple(
        value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value for value in values
    )


def encode_key(key: Key) -> list[Any]:
    """Return the key as a JSON list, from which `decode_key` restores an equal key of the same types.

    Raises:
        BadSource: the type of a value has no exact text.
    """
    return [_encode(value) for value in key]


def _encode(value: Any) -> Any:
    try:
        return encode_scalar(value)
    except DoesNotFit as error:
        raise BadSource(
            f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be part of a key; "
            "use an integer, text, Decimal, date, datetime, UUID or bytes column"
        ) from error


def decode_key(encoded: Sequence[Any]) -> Key:
    """Return the key that `encode_key` wrote."""
    return tuple(decode_value(value) for value in encoded)


def _value_text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    return str(value)


def key_text(key: Key) -> str:
    """Return the key as people read it: ``120000``, or ``(1, 'a')`` for a composite one."""
    if len(key) == 1:
        return _value_text(key[0])
    return "(" + ", ".join(repr(v) if isinstance(v, str) else _value_text(v) for v in key) + ")"
