"""Accounts: what the finished chunks of a pass did, range by range, so that a pass can be reconciled.

They are stored beside the pass's letters in ``<place>/<job>/_accounts/pass-000001.json``, which is written whole before
each save of the cursor. If there are many ranges, neighbours are added up, so that the file stays small.
"""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, Tally
from prefect_batch.blocks.key_sum import KeySum
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.stores.store import Store, put

MOST = 2_000
PASSES_KEPT = 3


@dataclass(frozen=True)
class Account:
    """What was done with the records of a range.

    Attributes:
        filtered: The checksum of the keys of filtered records.
    """

    range: ChunkRange
    tally: Tally
    filtered: KeySum

    def encode(self) -> dict[str, Any]:
        """Return the account as JSON."""
        tally = {name: value for name, value in self.tally.encode().items() if value}
        return {**self.range.encode(), "tally": tally, "filtered": self.filtered.encode()}

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "Account":
        """Return the account that `encode` wrote."""
        return cls(ChunkRange.decode(encoded), Tally(**encoded["tally"]), KeySum.decode(encoded["filtered"]))


def _path(job: str, number: int) -> str:
    return f"{job}/_accounts/pass-{number:06d}.json"


def add_up(accounts: Iterable[Account]) -> list[Account]:
    """Return the accounts with neighbours added up, pair by pair.

    Accounts with failed records stay as they are, because their letters name the range.
    """
    accounts = list(accounts)
    by_start = {account.range.after: account for account in accounts}
    taken: set[Key | None] = set()
    pairs = []
    for one in accounts:
        other = by_start.get(one.range.upto)
        if other is None or one.tally.failed or other.tally.failed or {one.range.after, other.range.after} & taken:
            continue
        taken |= {one.range.after, other.range.after}
        both = ChunkRange(one.range.after, other.range.upto)
        pairs.append(Account(both, one.tally + other.tally, one.filtered + other.filtered))
    return [*pairs, *(account for account in accounts if account.range.after not in taken)]


class Accounts:
    """The accounts of the pass that a run works on, which `save` writes."""

    def __init__(self, place: Store, job: str, number: int) -> None:
        self._place, self._path = place, _path(job, number)
        self._by_start = {account.range.after: account for account in read_accounts(place, job, number)}
        self._most = MOST
        self._changed = False

    def add(self, result: ChunkResult) -> None:
        """Add a finished chunk's account, in place of one of the same range."""
        self._by_start[result.range.after] = Account(result.range, result.tally, result.filtered_keys)
        self._changed = True

    def save(self) -> None:
        """Write the accounts.

        An OSError is ignored, because without accounts the pass cannot be reconciled, but the run can continue.
        """
        if not self._changed:
            return
        if len(self._by_start) > self._most:
            self._by_start = {account.range.after: account for account in add_up(self._by_start.values())}
            self._most = max(MOST, 2 * len(self._by_start))
        with contextlib.suppress(OSError):
            _write(self._place, self._path, self._by_start.values())
            self._changed = False


def _write(place: Store, path: str, accounts: Iterable[Account]) -> None:
    put(place, path, json.dumps([account.encode() for account in accounts]).encode())


def read_accounts(place: Store, job: str, number: int) -> list[Account]:
    """Return the accounts of a pass.

    Returns:
        An empty list if they cannot be read.
    """
    try:
        with place.open(_path(job, number)) as file:
            return [Account.decode(encoded) for encoded in json.loads(file.read())]
    except (OSError, ValueError, TypeError, LookupError):
        return []


def remove_old(place: Store, job: str, number: int) -> None:
    """Remove the accounts of passes, except those of pass `number` and the two before it."""
    for path in place.find(f"{job}/_accounts"):
        stem = path.rpartition("/")[2].removeprefix("pass-").removesuffix(".json")
        if stem.isdigit() and int(stem) <= number - PASSES_KEPT:
            place.remove([path])


def finished(accounts: Iterable[Account], start: Key | None, upto: Key | None) -> tuple[list[Account], Key | None]:
    """Return the consecutive accounts from `start` on, up to `upto` at most, and the key where they end."""
    by_start = {account.range.after: account for account in accounts}
    chain: list[Account] = []
    here = start
    while here != upto and (account := by_start.pop(here, None)):
        chain.append(account)
        here = account.range.upto
    return chain, here
