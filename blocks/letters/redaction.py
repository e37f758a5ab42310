"""Redacts columns: their values become keyed hashes in letters, and in every text about a record.

Equal values have equal hashes, so that failures can still be counted. Without the key, nobody can try out which value a
hash belongs to. What a function derives from a value is recognised only as far as it contains the value, or a word
of it.
"""

import contextlib
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.letters.record_json import RAW, encode_record

# What replaces a value.
TOKEN = re.compile(r"redacted:[0-9a-f]{16}")
# A word of a value that is shorter is too common to be replaced.
LEAST_WORD = 4
# A shorter value is replaced only where it is a word of its own.
LEAST_INSIDE = 6
_WORDS = re.compile(r"[\s@,;:/|<>()\[\]{}'\"]+")


class Redaction:
    """Replaces the values of these columns by hashes, which are made with `key`."""

    def __init__(self, columns: Sequence[str], key: bytes) -> None:
        self.columns = tuple(columns)
        self._key = key

    def token(self, value: Any) -> Any:
        """Return the token that replaces the value. NULL stays NULL, and a token stays as it is."""
        if value is None or (isinstance(value, str) and TOKEN.fullmatch(value)):
            return value
        text = encode_record({"": value})
        return "redacted:" + hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:16]

    def letter(self, letter: DeadLetter, outputs: Iterable[Mapping[str, Any]] = ()) -> DeadLetter:
        """Return the letter with the values replaced.

        `outputs` are the rows that the record became, because an error of the sink may show their values.
        """
        columns = [name for name in (*self.columns, RAW) if name in letter.record]
        if not columns:
            return letter
        values = [record.get(name) for record in (letter.record, *outputs) for name in columns]
        return replace(
            letter,
            record={name: self.token(v) if name in columns else v for name, v in letter.record.items()},
            error_message=self.text(letter.error_message, values),
            traceback=self.text(letter.traceback, values),
            redacted=tuple(columns),
        )

    def text(self, text: str, values: Iterable[Any]) -> str:
        """Return the text with these values, and the longer words of them, replaced."""
        low = text.lower()
        found: dict[str, Any] = {}
        for value in values:
            for form, meant in _forms(value):
                if form.lower() in low:
                    found.setdefault(form.lower(), meant)
        if not found:
            return text
        # The longest first, so that a whole value is replaced before its words.
        pattern = "|".join(map(_pattern, sorted(found, key=lambda form: (-len(form), form))))
        return re.sub(pattern, lambda match: str(self.token(found[match[0].lower()])), text, flags=re.IGNORECASE)


def _pattern(form: str) -> str:
    inside = len(form) >= LEAST_INSIDE and not form.replace(",", "").replace(".", "").isdigit()
    return re.escape(form) if inside else rf"(?<![\w.]){re.escape(form)}(?!\w|\.\w)"


def _forms(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each form that the value may have in a text, with what it stands for: the value, or a word of it."""
    if value is None or isinstance(value, bool) or (isinstance(value, str) and TOKEN.fullmatch(value)):
        return
    if isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _forms(part)
        return
    forms = {str(value), repr(value).strip("'\"")}
    if isinstance(value, str):
        forms |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], ascii(value)[1:-1]}
    elif isinstance(value, (int, float)):
        forms |= {f"{value:,}"}
    elif isinstance(value, (datetime, date, time)):
        forms |= {value.isoformat()}
    elif isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        forms |= {repr(raw)[2:-1], raw.hex(), raw.decode("utf-8", "replace")}
    yield from ((form, value) for form in forms if form.strip())
    if isinstance(value, str):
        yield from ((word, word) for word in _WORDS.split(value) if len(word) >= LEAST_WORD and word != value)


# To use a key of your own, create this block before the first run.
BLOCK = "prefect-batch-redaction-key"


_known: list[bytes] = []


def know_redaction_key(key: bytes) -> None:
    """Use this key instead of asking Prefect, as in a worker process."""
    _known[:] = [key]


def redaction_key(*, create: bool = True) -> bytes:
    """Return the redaction key of this Prefect API, which is made at random on first use.

    Without `create`, nothing is saved: where there is no key yet, one is returned that nobody will know again.
    """
    if not _known:
        try:
            know_redaction_key(_saved().encode())
        except ValueError:
            if not create:
                return secrets.token_bytes(32)
            know_redaction_key(_create().encode())
    return _known[0]


def _create() -> str:
    from prefect.blocks.system import Secret
    from pydantic import SecretStr

    with contextlib.suppress(ValueError):  # Another run may create it at this moment.
        Secret(value=SecretStr(secrets.token_hex(32))).save(BLOCK, _sync=True)  # type: ignore[call-arg]
    return _saved()


def _saved() -> str:
    from prefect.blocks.system import Secret

    return str(Secret.load(BLOCK, _sync=True).get())  # type: ignore[call-arg,union-attr]
