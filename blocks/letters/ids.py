"""Letter ids, and sets of them as JSON: a letter keeps its id through all replays.

An id is ``<pass>.<digest of the chunk's range>.<row in its file>``: the place where the pass itself buried it.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["LetterSet", "Origin", "main_job", "of_replay", "pass_title", "replay_job"]

_REPLAY = "--replay"


def replay_job(job: str) -> str:
    """The name under which a job's replays keep their cursor, their cache and their chunks in the ledger.

    No job can have it: a job's name has single dashes only.
    """
    return job + _REPLAY


def main_job(name: str) -> str:
    """The job whose replays have this name; a job's own name as it is."""
    return name.removesuffix(_REPLAY)


def of_replay(name: str) -> bool:
    """Whether this is the name of a job's replays."""
    return name.endswith(_REPLAY)


def pass_title(name: str, number: int) -> str:
    """What people call a pass, or a replay: ``clean-orders: pass 1``."""
    return f"{main_job(name)}: {'replay' if of_replay(name) else 'pass'} {number}"


class Origin(NamedTuple):
    """What a letter takes along when it fails again: its id, its pass and its chunk there, and its attempts so far."""

    id: str
    pass_number: int
    chunk: str
    attempts: int


class LetterSet:
    """A set of letter ids, in order: by pass, then by the digest of the chunk, then by row."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._rows: dict[str, set[int]] = {}
        for letter in ids:
            self.add(letter)

    def add(self, letter: str) -> None:
        """Put an id into the set."""
        file, _, row = letter.rpartition(".")
        self._rows.setdefault(file, set()).add(int(row))

    @property
    def files(self) -> list[str]:
        """The first two parts of the ids: the files in which the pass buried these letters."""
        return list(self._rows)

    def __contains__(self, letter: str) -> bool:
        file, _, row = letter.rpartition(".")
        rows = self._rows.get(file)
        return rows is not None and int(row) in rows

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def __iter__(self) -> Iterator[str]:
        for file in sorted(self._rows, key=_order):
            yield from (f"{file}.{row}" for row in sorted(self._rows[file]))

    def encode(self) -> dict[str, list[list[int]]]:
        """The set as JSON: for each file the runs ``[first, last]`` of its rows."""
        return {file: _runs(sorted(self._rows[file])) for file in sorted(self._rows, key=_order)}

    @classmethod
    def decode(cls, encoded: dict[str, list[list[int]]]) -> "LetterSet":
        """The set that `encode` wrote."""
        found = cls()
        found._rows = {file: {row for a, b in runs for row in range(a, b + 1)} for file, runs in encoded.items()}
        return found


def _order(file: str) -> tuple[int, str]:
    number, _, digest = file.partition(".")
    return int(number), digest


def _runs(rows: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    return runs
