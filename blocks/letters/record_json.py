"""Converts records to JSON text and back without loss, because a value's type is often why the record failed."""

import json
from collections.abc import Mapping
from typing import Any

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.tagged import decode_value, encode_value

# The columns of a letter whose record could not be read: the record's bytes, and the number of its first line.
RAW, LINE = "__raw__", "__line__"
_SHOWN = "repr"


def encode_record(record: Mapping[str, Any]) -> str:
    """Return the record as JSON text, from which `decode_record` restores equal values of the same types."""
    return json.dumps({name: _encode(value) for name, value in record.items()})


def _encode(value: Any) -> Any:
    try:
        return encode_value(value)
    except (DoesNotFit, RecursionError):
        return {_SHOWN: repr(value)}


def decode_record(text: str) -> dict[str, Any]:
    """Return the record in this text, in which a value that could not be saved exactly is its `repr`."""
    return {name: _decode(value) for name, value in json.loads(text).items()}


def _decode(value: Any) -> Any:
    return value[_SHOWN] if _is_shown(value) else decode_value(value)


def _is_shown(value: Any) -> bool:
    return isinstance(value, dict) and _SHOWN in value


def shown_columns(text: str) -> list[str]:
    """Return the columns that this text holds only as the `repr` of their values."""
    return [name for name, value in json.loads(text).items() if _is_shown(value)]
