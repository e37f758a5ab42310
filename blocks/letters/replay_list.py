"""The letters that a replay works on: a list that is fixed when the replay begins, numbered from 1 in its order.

``<place>/<job>/_replays/000002.json``; the numbers are the keys of the replay's chunks. It names rows of letter files,
which do not change.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.stores.store import Store, full_name, put

__all__ = ["ReplayList", "Run", "list_path", "read_replay_list", "write_replay_list"]

Run = tuple[int, int]


def list_path(job: str, replay: int) -> str:
    """Where, below the place, a replay's list is."""
    return f"{job}/_replays/{replay:06d}.json"


@dataclass(frozen=True)
class ReplayList:
    """Runs of rows, ``(first, last)`` from 0, of letter files, in order."""

    files: tuple[tuple[str, tuple[Run, ...]], ...]
    _upto: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = (sum(last - first + 1 for first, last in runs) for _, runs in self.files)
        object.__setattr__(self, "_upto", tuple(accumulate(counts)))

    @classmethod
    def of(cls, rows: Iterable[tuple[str, int]]) -> "ReplayList":
        """The list of these rows, each with its file; those of a file stand together, in ascending order."""
        files: list[tuple[str, list[Run]]] = []
        for path, row in rows:
            if not files or files[-1][0] != path:
                files.append((path, []))
            runs = files[-1][1]
            if runs and runs[-1][1] + 1 == row:
                runs[-1] = (runs[-1][0], row)
            else:
                runs.append((row, row))
        return cls(tuple((path, tuple(runs)) for path, runs in files))

    @property
    def count(self) -> int:
        """How many letters there are; the last one's number."""
        return self._upto[-1] if self._upto else 0

    def part(self, after: int, upto: int) -> Iterator[tuple[str, list[Run]]]:
        """The runs of the letters with the numbers ``(after, upto]``, by file."""
        for (path, runs), last_number in zip(self.files, self._upto, strict=True):
            if last_number <= after:
                continue
            number = last_number - sum(last - first + 1 for first, last in runs)
            if number >= upto:
                return
            found = []
            for first, last in runs:
                low, high = max(first, first + after - number), min(last, first + upto - number - 1)
                if low <= high:
                    found.append((low, high))
                number += last - first + 1
            yield path, found

    def encode(self) -> dict[str, Any]:
        """The list as JSON."""
        return {"files": [[path, [list(run) for run in runs]] for path, runs in self.files]}

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "ReplayList":
        """The list that `encode` wrote."""
        return cls(tuple((path, tuple((a, b) for a, b in runs)) for path, runs in encoded["files"]))


def write_replay_list(place: Store, path: str, replay_list: ReplayList) -> None:
    """Write the list, whole."""
    put(place, path, json.dumps(replay_list.encode()).encode())


def read_replay_list(place: Store, path: str) -> ReplayList:
    """The list in this file.

    Raises:
        BadSource: it is gone, or not what was written.
    """
    try:
        with place.open(path) as file:
            return ReplayList.decode(json.loads(file.read()))
    except (FileNotFoundError, ValueError, TypeError, LookupError) as error:
        raise BadSource(
            f"{full_name(place, path)}, the list of the letters of this replay, cannot be read ({error!r}); give the "
            "replay up and start another one with restart=True"
        ) from error
