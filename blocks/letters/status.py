"""The statuses of dead letters: decisions beside the letters' files, which resolve or discard some of them.

They are whole files ``<place>/<job>/_status/<decision>.json``. Letter files never change for a decision: a letter's
status is the join of both. Other programs that read Parquet skip names with an underscore.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from prefect_batch.blocks.errors import BadPlace
from prefect_batch.blocks.letters.ids import LetterSet
from prefect_batch.blocks.stores.store import Store, full_name, put

LetterStatus = Literal["open", "resolved", "discarded"]


@dataclass(frozen=True)
class Decision:
    """A decision to resolve or discard some letters.

    Attributes:
        by: Who decided.
        at: When, in UTC.
        reason: Why.
        run_id: The flow run that replayed the letters. Empty if a person decided.
    """

    status: Literal["resolved", "discarded"]
    letters: LetterSet
    by: str
    at: str
    reason: str = ""
    run_id: str = ""

    def encode(self) -> dict[str, Any]:
        """Return the decision as JSON."""
        return {**vars(self), "letters": self.letters.encode()}

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "Decision":
        """Return the decision that `encode` wrote."""
        return cls(**{**encoded, "letters": LetterSet.decode(encoded["letters"])})


class LetterState(NamedTuple):
    """The status of one letter, with the decision behind it: when (UTC), by whom and why. Empty while it is open."""

    status: LetterStatus
    at: str = ""
    by: str = ""
    reason: str = ""


_OPEN = LetterState("open")


class Statuses:
    """The statuses of a job's letters at one moment.

    Resolved counts before discarded, because such a record is in the sink.
    """

    def __init__(self, decisions: Iterable[Decision]) -> None:
        resolved_first = sorted(decisions, key=lambda one: (one.status != "resolved", one.at))
        self._decisions = [(one.letters, LetterState(one.status, one.at, one.by, one.reason)) for one in resolved_first]
        self._by_file: dict[str, list[tuple[LetterSet, LetterState]]] = {}
        for letters, state in self._decisions:
            for file in letters.files:
                self._by_file.setdefault(file, []).append((letters, state))

    def of(self, letter: str) -> LetterState:
        """Return the decision on this letter, which is open if there is none."""
        file = letter.rpartition(".")[0]
        return next((state for letters, state in self._by_file.get(file, ()) if letter in letters), _OPEN)


def _folder(job: str) -> str:
    return f"{job}/_status"


def save_decision(place: Store, job: str, name: str, decision: Decision) -> None:
    """Write the decision under this name, replacing an earlier one of the same name."""
    put(place, f"{_folder(job)}/{name}.json", json.dumps(decision.encode()).encode())


def _decisions(place: Store, job: str) -> Iterator[tuple[str, Decision]]:
    for path in place.find(_folder(job)):
        if path.endswith(".json") and "/." not in path:
            with place.open(path) as file:
                text = file.read()
            try:
                yield path, Decision.decode(json.loads(text))
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                raise BadPlace(
                    f"{full_name(place, path)} is not what prefect-batch wrote there ({error!r}): without it nobody "
                    "knows which dead letters are resolved; restore it"
                ) from error


def read_statuses(place: Store, job: str) -> Statuses:
    """Return the current statuses of the job's letters.

    Raises:
        BadPlace: the file of an act cannot be read.
    """
    return Statuses(decision for _, decision in _decisions(place, job))


def remove_decisions(place: Store, job: str, kept: LetterSet) -> int:
    """Remove the decisions of which no letter is left among these, and return how many they were."""
    idle = [path for path, decision in _decisions(place, job) if not any(letter in kept for letter in decision.letters)]
    place.remove(idle)
    return len(idle)
