"""The keys of a pass's dead letters by the chunks that buried them: their number, their sums, or themselves."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prefect_batch.blocks.key_sum import KeySum, sum_of_keys
from prefect_batch.blocks.keys import Key, decode_key
from prefect_batch.blocks.letters.read import letter_tables
from prefect_batch.blocks.stores.store import Store


@dataclass
class LetterSums:
    """Counts of letters by status, and for each chunk the sum of the keys of its unresolved letters."""

    by_status: Counter[str] = field(default_factory=Counter)
    unresolved: dict[str, KeySum] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)


@dataclass
class LetterKeys:
    """The keys of some chunks' letters: of open and discarded ones, and of resolved ones."""

    given_up: set[Key] = field(default_factory=set)
    resolved: set[Key] = field(default_factory=set)


def _rows(place: Store, job: str, pass_number: int) -> Iterator[tuple[str, Key, str]]:
    """Yield the chunk's digest, the key and the status of each letter of the pass."""
    for table in letter_tables(place, job, ["id", "key"], pass_number):
        for letter, key, status in zip(*(table[name].to_pylist() for name in ("id", "key", "status")), strict=True):
            yield letter.split(".")[1], decode_key(json.loads(key)), status


def sum_letters(place: Store, job: str, pass_number: int) -> LetterSums:
    """Return the sums over all letters of the pass."""
    sums = LetterSums()
    for digest, key, status in _rows(place, job, pass_number):
        sums.by_status[status] += 1
        if status != "open":
            sums.decided.add(digest)
        if status != "resolved":
            sums.unresolved[digest] = sums.unresolved.get(digest, KeySum()) + sum_of_keys([key])
    return sums


def letter_keys(place: Store, job: str, pass_number: int, known: Mapping[str, bool]) -> dict[str, LetterKeys]:
    """Read the keys of the letters of some chunks.

    Args:
        place: The store with the letters.
        job: The job's name.
        pass_number: The pass.
        known: The digests of the known chunks, each with whether its letters are wanted.

    Returns:
        The keys by the digest of their chunk; under an empty digest those of unknown chunks.
    """
    found = {digest: LetterKeys() for digest, wanted in known.items() if wanted}
    found[""] = LetterKeys()
    for digest, key, status in _rows(place, job, pass_number):
        if known.get(digest, True):
            keys = found[digest if digest in known else ""]
            (keys.resolved if status == "resolved" else keys.given_up).add(key)
    return found
