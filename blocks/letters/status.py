"""What became of dead letters: acts beside their files, each written whole, which resolve or discard some of them.

``<place>/<job>/_status/<act>.json``. Letter files never change for it; a letter's status is the join of both. Other
programs that read Parquet skip names with an underscore.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from prefect_batch.blocks.errors import BadPlace
from prefect_batch.blocks.letters.ids import LetterSet
from prefect_batch.blocks.stores.store import Store, full_name, put

__all__ = ["Act", "Decision", "LetterStatus", "Statuses", "read_statuses", "record_act", "remove_acts"]

LetterStatus = Literal["open", "resolved", "discarded"]


@dataclass(frozen=True)
class Act:
    """A decision on some letters: `status`, who and when (UTC), why, and the flow run that replayed them."""

    status: Literal["resolved", "discarded"]
    letters: LetterSet
    by: str
    at: str
    reason: str = ""
    run_id: str = ""

    def encode(self) -> dict[str, Any]:
        """The act as JSON."""
        return {**vars(self), "letters": self.letters.encode()}

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "Act":
        """The act that `encode` wrote."""
        return cls(**{**encoded, "letters": LetterSet.decode(encoded["letters"])})


class Decision(NamedTuple):
    """The status of one letter, and of the act behind it: when (UTC), by whom and why; empty while it is open."""

    status: LetterStatus
    at: str = ""
    by: str = ""
    reason: str = ""


_OPEN = Decision("open")


class Statuses:
    """The statuses of a job's letters at one moment. Resolved counts before discarded: such a record is in the sink."""

    def __init__(self, acts: Iterable[Act]) -> None:
        resolved_first = sorted(acts, key=lambda act: (act.status != "resolved", act.at))
        self._acts = [(act.letters, Decision(act.status, act.at, act.by, act.reason)) for act in resolved_first]
        self._by_file: dict[str, list[tuple[LetterSet, Decision]]] = {}
        for letters, decision in self._acts:
            for file in letters.files:
                self._by_file.setdefault(file, []).append((letters, decision))

    def of(self, letter: str) -> Decision:
        """What became of this letter."""
        file = letter.rpartition(".")[0]
        return next((decision for letters, decision in self._by_file.get(file, ()) if letter in letters), _OPEN)


def _folder(job: str) -> str:
    return f"{job}/_status"


def record_act(place: Store, job: str, name: str, act: Act) -> None:
    """Write the act under this name, whole; one of the same name is replaced by it."""
    put(place, f"{_folder(job)}/{name}.json", json.dumps(act.encode()).encode())


def _acts(place: Store, job: str) -> Iterator[tuple[str, Act]]:
    for path in place.find(_folder(job)):
        if path.endswith(".json") and "/." not in path:
            with place.open(path) as file:
                text = file.read()
            try:
                yield path, Act.decode(json.loads(text))
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                raise BadPlace(
                    f"{full_name(place, path)} is not what prefect-batch wrote there ({error!r}): without it nobody "
                    "knows which dead letters are resolved; restore it"
                ) from error


def read_statuses(place: Store, job: str) -> Statuses:
    """The statuses of the job's letters now.

    Raises:
        BadPlace: a file of them cannot be read.
    """
    return Statuses(act for _, act in _acts(place, job))


def remove_acts(place: Store, job: str, kept: LetterSet) -> int:
    """Remove the acts of which no letter is left among these; how many they were."""
    idle = [path for path, act in _acts(place, job) if not any(letter in kept for letter in act.letters)]
    place.remove(idle)
    return len(idle)
