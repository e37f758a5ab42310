"""Converts values to JSON and back with the same type and all digits, for keys, cursors and dead letters."""

import json
from typing import Any

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.kind import KINDS, Kind
from prefect_batch.blocks.kinds.plain import is_json, plain_value

# Beyond this, JSON readers that hold numbers as doubles (the Prefect UI) would round an integer.
_JSON_INTEGERS = 2**53
_BY_TAG = {kind.tag: kind for kind in KINDS if kind.tag}
# In the table's order, where a subclass comes before its base.
_BY_TYPE: dict[type, Kind] = {}
for _kind in _BY_TAG.values():
    for _type in (*_kind.python, *_kind.takes):
        _BY_TYPE.setdefault(_type, _kind)


def encode_scalar(value: Any) -> Any:
    """Return the value as JSON: itself, or ``{"<tag>": "<text>"}`` where JSON has no such type or would round it.

    Raises:
        DoesNotFit: no kind has a text for it.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and abs(value) < _JSON_INTEGERS:
        return int(value)
    kind = _BY_TYPE.get(type(value)) or next((of for base, of in _BY_TYPE.items() if isinstance(value, base)), None)
    if kind is None or kind.text is None:
        raise DoesNotFit(f"a value of type {type(value).__module__}.{type(value).__qualname__} has no exact text")
    return {kind.tag: kind.text(value)}


def encode_value(value: Any) -> Any:
    """Return the value as JSON, as `encode_scalar` does, with each of its parts.

    Raises:
        DoesNotFit: a part has no exact text.
    """
    value = plain_value(value)
    if type(value) in _BY_TYPE or not isinstance(value, (dict, list, tuple)):
        return encode_scalar(value)
    if is_json(value):
        return {"json": json.dumps(value)}
    if isinstance(value, dict):
        return {"dict": [[encode_value(key), encode_value(each)] for key, each in value.items()]}
    return {"list" if isinstance(value, list) else "tuple": [encode_value(each) for each in value]}


def decode_value(encoded: Any) -> Any:
    """Return the value that `encode_value` wrote, of the same type."""
    if not isinstance(encoded, dict):
        return encoded
    ((tag, text),) = encoded.items()
    if tag == "json":
        return json.loads(text)
    if tag == "dict":
        return {decode_value(key): decode_value(each) for key, each in text}
    if tag in ("list", "tuple"):
        parts = [decode_value(each) for each in text]
        return parts if tag == "list" else tuple(parts)
    parse = _BY_TAG[tag].parse
    assert parse is not None
    return parse(text)
