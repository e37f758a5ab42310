"""Ids of dead letters, and sets of ids as JSON. A letter keeps its id through all replays.

An id is ``<pass>.<digest of the chunk's range>.<row in its file>``, where the pass itself buried the letter.
"""

from collections.abc import Iterable, Iterator


class LetterSet:
    """A set of letter ids, in order: by pass, then by the digest of the chunk, then by row."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._rows: dict[str, set[int]] = {}
        for letter in ids:
            self.add(letter)

    def add(self, letter: str) -> None:
        """Add an id to the set."""
        file, _, row = letter.rpartition(".")
        self._rows.setdefault(file, set()).add(int(row))

    @property
    def files(self) -> list[str]:
        """The files in which the pass buried these letters, as the first two parts of the ids."""
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
        """Return the set as JSON: for each file the ``[first, last]`` of each sequence of rows."""
        return {file: _runs(sorted(self._rows[file])) for file in sorted(self._rows, key=_order)}

    @classmethod
    def decode(cls, encoded: dict[str, list[list[int]]]) -> "LetterSet":
        """Return the set that `encode` wrote."""
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
