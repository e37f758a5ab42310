"""The list of the letters that a replay works on, fixed when the replay begins and numbered from 1.

It is stored in ``<place>/<job>/_replays/000002.json`` and names rows of letter files, which do not change. The numbers
are the keys of the replay's chunks.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.stores.store import Store, full_name, put

Run = tuple[int, int]


def list_path(job: str, replay: int) -> str:
    """Return the path of a replay's list, relative to the place."""
    return f"{job}/_replays/{replay:06d}.json"


@dataclass(frozen=True)
class ReplayList:
    """The letters of a replay, in order: rows of letter files, as ``(first, last)`` from 0."""

    files: tuple[tuple[str, tuple[Run, ...]], ...]
    _upto: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = (sum(last - first + 1 for first, last in runs) for _, runs in self.files)
        object.__setattr__(self, "_upto", tuple(accumulate(counts)))

    @classmethod
    def of(cls, rows: Iterable[tuple[str, int]]) -> "ReplayList":
        """Return the list of these rows, each given with its file.

        The rows of a file must come together, in ascending order.
        """
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
        """The number of letters, which is also the number of the last one."""
        return self._upto[-1] if self._upto else 0

    def part(self, after: int, upto: int) -> Iterator[tuple[str, list[Run]]]:
        """Yield the rows of the letters with the numbers ``(after, upto]``, by file."""
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
        """Return the list as JSON."""
        return {"files": [[path, [list(run) for run in runs]] for path, runs in self.files]}

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "ReplayList":
        """Return the list that `encode` wrote."""
        return cls(tuple((path, tuple((a, b) for a, b in runs)) for path, runs in encoded["files"]))


def write_replay_list(place: Store, path: str, replay_list: ReplayList) -> None:
    """Write the list, whole."""
    put(place, path, json.dumps(replay_list.encode()).encode())


def read_replay_list(place: Store, path: str) -> ReplayList:
    """Return the list in this file.

    Raises:
        BadSource: the file is gone, or is not a list.
    """
    try:
        with place.open(path) as file:
            return ReplayList.decode(json.loads(file.read()))
    except (FileNotFoundError, ValueError, TypeError, LookupError) as error:
        raise BadSource(
            f"{full_name(place, path)}, the list of the letters of this replay, cannot be read ({error!r}); give the "
            "replay up and start another one with restart=True"
        ) from error
