"""Which dead letters are meant: those of a pass, an error, a message, a key, a time, or for which a condition holds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.keys import decode_key, key_text
from prefect_batch.blocks.letters.bury import letters_folder
from prefect_batch.blocks.letters.read import FoundLetters, find_letters
from prefect_batch.blocks.letters.replay_list import ReplayList
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.blocks.stores.store import Store
from prefect_batch.tasks.error_text import normalise
from prefect_batch.tasks.letters.condition import LETTER_COLUMNS, check_condition, letters_where


@dataclass(frozen=True)
class Selection:
    """A selection of letters, where None means any.

    Attributes:
        pass_number: None means all passes.
        error_type: A type of error, with or without its module.
        message: A part of the message, or the whole message of a group with its placeholders.
        key: The text of a key, or of several.
        since: UTC if no zone is given.
        until: UTC if no zone is given.
    """

    pass_number: int | None = None
    error_type: str | None = None
    message: str | None = None
    key: str | Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        if self.key is not None:
            object.__setattr__(self, "key", (self.key,) if isinstance(self.key, str) else tuple(self.key))
        for name in ("since", "until"):
            value = getattr(self, name)
            if value is not None and value.tzinfo is None:
                object.__setattr__(self, name, value.replace(tzinfo=UTC))
        if self.since and self.until and self.since >= self.until:
            raise BadParameter(f"since={self.since} must be before until={self.until}")
        if self.where is not None:
            check_condition(self.where)

    def of_latest(self, cursor: Cursor) -> "Selection":
        """Return the same selection, restricted to the latest pass unless it names one.

        The passes of an incremental job belong together. A full pass reads everything again, so the letters of earlier
        full passes are history.
        """
        full = self.pass_number is None and cursor.mode == "full"
        return replace(self, pass_number=cursor.pass_number) if full else self

    def encode(self) -> dict[str, Any]:
        """Return the selection as JSON, without the fields that are None."""
        texts = {
            **vars(self),
            "since": _iso(self.since),
            "until": _iso(self.until),
            "key": list(self.key or ()) or None,
        }
        return {name: value for name, value in texts.items() if value is not None}

    def matching(self, letters: list[dict[str, Any]]) -> set[int]:
        """Return the places of the letters that match the selection."""
        places = {place for place, letter in enumerate(letters) if self._matches(letter)}
        return places & letters_where(self.where, letters) if self.where and places else places

    def _matches(self, letter: dict[str, Any]) -> bool:
        kind, message, failed_at = letter["error_type"], letter["error_message"], letter["failed_at"]
        return (
            (self.error_type is None or kind == self.error_type or kind.endswith("." + self.error_type))
            and (self.message is None or self.message in message or self.message == normalise(message))
            and (self.key is None or key_text(decode_key(json.loads(letter["key"]))) in self.key)
            and (self.since is None or failed_at >= self.since)
            and (self.until is None or failed_at < self.until)
        )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


@dataclass(frozen=True)
class Unfinished:
    """Letters of chunks that an interrupted pass, or replay, will do again: nothing may be decided on them yet."""

    files: frozenset[str] = frozenset()
    rows: Mapping[str, set[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, cursor: Cursor | None, replay_list: ReplayList | None = None) -> "Unfinished":
        """Return the unfinished letters of this cursor's pass or replay. `replay_list` is the replay's."""
        if cursor is None or cursor.status in ("complete", "reset"):
            return cls()
        folder = letters_folder(cursor.job, cursor.pass_number)
        ranges = [chunk for chunk, done in cursor.position.ranges() if not done]
        rows: dict[str, set[int]] = {}
        for chunk in ranges if replay_list is not None else ():
            after = 0 if chunk.after is None else chunk.after[0]
            for path, runs in replay_list.part(after, chunk.upto[0]) if replay_list else ():
                rows.setdefault(path, set()).update(row for first, last in runs for row in range(first, last + 1))
        return cls(frozenset(f"{folder}/{chunk.digest}.parquet" for chunk in ranges), rows)

    def __or__(self, other: "Unfinished") -> "Unfinished":
        return Unfinished(self.files | other.files, {**self.rows, **other.rows})

    def holds(self, path: str, row: int) -> bool:
        """Return whether this row of a letter file is among them."""
        return path in self.files or row in self.rows.get(path, ())


@dataclass(frozen=True)
class Choice:
    """The letters that are meant and open: their rows and their ids.

    `unfinished` counts those left out, because nothing may be decided on them yet; `redacted` names the columns that
    are redacted in some of them.
    """

    replay_list: ReplayList
    ids: list[str]
    unfinished: int
    redacted: frozenset[str]


def choose(place: Store, job: str, selection: Selection, unfinished: Unfinished) -> Choice:
    """Return the job's open letters that match the selection, without those that cannot be decided on yet."""
    rows: list[tuple[str, int]] = []
    ids: list[str] = []
    left_out, redacted = 0, set[str]()
    for found, letters in _open_letters(place, job, selection):
        for at in sorted(selection.matching(letters)):
            if unfinished.holds(found.path, found.rows[at]):
                left_out += 1
                continue
            rows.append((found.path, found.rows[at]))
            ids.append(letters[at]["id"])
            redacted.update(letters[at]["redacted"] or ())
    return Choice(ReplayList.of(rows), ids, left_out, frozenset(redacted))


def _open_letters(place: Store, job: str, selection: Selection) -> Iterator[tuple[FoundLetters, list[dict[str, Any]]]]:
    columns = [*LETTER_COLUMNS, "redacted", *(["record_json"] if selection.where else [])]
    for found in find_letters(place, job, columns, selection.pass_number, "open"):
        yield found, found.table.to_pylist()
