"""Records as JSON text and back, without loss: the reason why a record failed is often the type of a value."""

import json
from collections.abc import Mapping
from typing import Any

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.keys import decode_value, encode_value

__all__ = ["LINE", "RAW", "decode_record", "encode_record"]

# What the letter of a record that could not be read has instead of it: its bytes, and the number of its first line.
RAW, LINE = "__raw__", "__line__"


def encode_record(record: Mapping[str, Any]) -> str:
    """The record as JSON: `decode_record` gives back equal values of the same types."""
    return json.dumps({name: _encode(value) for name, value in record.items()})


def _encode(value: Any) -> Any:
    try:
        return encode_value(value)
    except BadSource:
        pass
    try:
        return {"json": json.dumps(value)}
    except (TypeError, ValueError):
        return {"repr": repr(value)}


def decode_record(text: str) -> dict[str, Any]:
    """The record in this text; a value that could not be saved exactly comes back as its `repr`."""
    return {name: _decode(value) for name, value in json.loads(text).items()}


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and "json" in value:
        return json.loads(value["json"])
    if isinstance(value, dict) and "repr" in value:
        return value["repr"]
    return decode_value(value)
