"""Dead letters grouped by cause: the error's type, and its message without what differs from record to record. Pure."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from prefect_batch.blocks.keys import decode_key, key_text
from prefect_batch.tasks.error_text import MESSAGE_CHARACTERS, normalise

# What grouping needs of a letter.
COLUMNS = ("id", "error_type", "error_message", "traceback", "failed_at", "key", "stage", "attempts")

_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_NOT_THE_USERS = re.compile(r"[\\/](?:site|dist)-packages[\\/]|[\\/]lib[\\/]python3[^\\/]*[\\/]|^<frozen |^<string>")
_OURS = re.compile(r"[\\/](?:blocks|tasks|flows)(?:[\\/]\w+)+\.py$")
_PACKAGE = __file__.replace("\\", "/").rpartition("/tasks/")[0]


def deepest_frame(traceback: str) -> str:
    """Return the place in the user's own code where the error arose, as ``orders.py:17 in clean``.

    Empty without a traceback.
    """
    # A chain of errors has several blocks of frames; the last one is that of the error which was raised.
    last = re.split(r"\n\n(?:During handling|The above exception)[^\n]*\n\n", traceback)[-1]
    frames = list(_FRAME.finditer(last))
    users = [f for f in frames if not _NOT_THE_USERS.search(f["file"]) and not _is_ours(f["file"])]
    if not frames:
        return ""
    frame = (users or frames)[-1]
    file = frame["file"].replace("\\", "/").rpartition("/")[2]
    return f"{file}:{frame['line']} in {frame['function']}"


def _is_ours(file: str) -> bool:
    return file.replace("\\", "/").startswith(_PACKAGE) and _OURS.search(file) is not None


@dataclass(frozen=True)
class FailureGroup:
    """The letters of one cause.

    `number` is the group's rank by count, from 1. `message` is normalised. `first` and `last` are when the earliest and
    the latest of its records failed (UTC). The example is one of its letters, and `where` the deepest frame of the
    user's code in that letter's stack.
    """

    error_type: str
    message: str
    stage: str
    count: int
    first: datetime
    last: datetime
    attempts: int
    example_id: str
    example_key: str
    example_message: str
    where: str
    number: int = field(default=0)

    def encode(self) -> dict[str, Any]:
        """Return the group as JSON."""
        return {**vars(self), "first": self.first.isoformat(), "last": self.last.isoformat()}


@dataclass(slots=True)
class _Cause:
    """The letters seen with one cause: their number, and the one that failed first."""

    first: dict[str, Any]
    last: datetime
    count: int = 0
    attempts: int = 0


def group_letters(letters: Iterable[dict[str, Any]]) -> list[FailureGroup]:
    """Group letters by cause.

    Args:
        letters: Dicts of `COLUMNS`; read once, so that memory does not grow with their number.

    Returns:
        The groups, the largest first.
    """
    causes: dict[tuple[str, str], _Cause] = {}
    for letter in letters:
        named, failed_at = (letter["error_type"], normalise(letter["error_message"])), letter["failed_at"]
        cause = causes.get(named)
        if cause is None:
            cause = causes[named] = _Cause(letter, failed_at)
        # Letters come in whatever order.
        if failed_at < cause.first["failed_at"]:
            cause.first = letter
        cause.last = max(cause.last, failed_at)
        cause.count += 1
        cause.attempts = max(cause.attempts, letter["attempts"])
    groups = [_group(message, cause) for (_, message), cause in causes.items()]
    ordered = sorted(groups, key=lambda group: (-group.count, group.error_type, group.message))
    return [replace(group, number=number) for number, group in enumerate(ordered, 1)]


def _group(message: str, cause: _Cause) -> FailureGroup:
    first = cause.first
    return FailureGroup(
        error_type=first["error_type"],
        message=message,
        stage=first["stage"],
        count=cause.count,
        first=first["failed_at"],
        last=cause.last,
        attempts=cause.attempts,
        example_id=first["id"],
        example_key=key_text(decode_key(json.loads(first["key"]))),
        example_message=first["error_message"][:MESSAGE_CHARACTERS],
        where=deepest_frame(first["traceback"]),
    )
