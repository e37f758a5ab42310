"""Comparing the keys of a range in the source with those in the sink: by sums where databases can, else key by key."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb

from prefect_batch.blocks.capabilities import KeySet, KeySide
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.key_sum import KeySum, sum_of_keys
from prefect_batch.blocks.keys import Key

# Keys of the source in memory at once.
PART_ROWS = 10_000
# Of more surplus keys of text some may be counted twice.
NOTED = 100_000


@dataclass
class Compared:
    """The result of comparing a range, with lists of keys that are cut off."""

    source: int = 0
    sink: int = 0
    missing: KeySum = field(default_factory=KeySum)
    surplus: int = 0
    replayed: int = 0
    missing_keys: list[Key] = field(default_factory=list)
    surplus_keys: list[Key] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """The comparison of source and sink over the ranges of a pass, which names at most `most` keys of a kind.

    If the two databases order text differently, a key may be in another range there. A key that seems to be missing
    or extra is therefore looked up by itself. At most about 10,000 keys of each side are in memory.
    """

    source: KeySide
    sink: KeySide | KeySet
    whole: ChunkRange
    most: int
    _noted: set[Key] = field(default_factory=set)

    def compare(self, chunk: ChunkRange, given_up: set[Key], resolved: set[Key]) -> Compared:
        """Find the keys of the range that only one side has.

        Keys of open and discarded letters (`given_up`) are not missing. `resolved` are keys of letters that a replay
        resolved: it may have filtered their records.
        """
        found, after = Compared(), chunk.after
        while after != chunk.upto:
            (upto,) = self.source.edges(after, chunk.upto, PART_ROWS, 1)
            missing = self._part(found, ChunkRange(after, upto))
            lost = [key for key in missing if key not in given_up]
            found.replayed += sum(key in resolved for key in lost)
            found.missing = found.missing + sum_of_keys(lost)
            found.missing_keys += lost[: max(self.most, PART_ROWS) - len(found.missing_keys)]
            after = upto
        return found

    def _part(self, found: Compared, part: ChunkRange) -> Iterable[Key]:
        """Yield the source's keys that are not in the sink, and add the sink's extra keys to `found`."""
        wanted = {self.source.comparable(key): key for key in self.source.keys(part)}
        if isinstance(self.sink, KeySet):
            there = self.sink.has(wanted)
            found.source, found.sink = found.source + len(wanted), found.sink + len(there)
            return [key for comparable, key in wanted.items() if comparable not in there]
        missing, surplus = dict(wanted), []
        for key in self.sink.keys(part):
            comparable = self.sink.comparable(key)
            if missing.pop(comparable, None) is None and comparable not in wanted:
                surplus.append(key)
            if len(surplus) >= PART_ROWS:
                self._note_surplus(found, surplus)
                surplus = []
        self._note_surplus(found, surplus)
        found.source += len(wanted)
        if missing and self._is_text:
            there = self.sink.has(missing.values(), None, None)
            missing = {comparable: key for comparable, key in missing.items() if comparable not in there}
        found.sink += len(wanted) - len(missing)
        return missing.values()

    @property
    def _is_text(self) -> bool:
        return any(isinstance(value, str) for value in self.whole.upto)

    def _note_surplus(self, found: Compared, keys: list[Key]) -> None:
        assert not isinstance(self.sink, KeySet)
        if keys and self._is_text:
            there = self.source.has(keys, self.whole.after, self.whole.upto)
            # In the sink's order of text the ranges may overlap.
            keys = [key for key in keys if self.sink.comparable(key) not in there and key not in self._noted]
            self._noted.update(keys[: max(0, NOTED - len(self._noted))])
        found.surplus += len(keys)
        found.sink += len(keys)
        found.surplus_keys += keys[: self.most - len(found.surplus_keys)]


MOST_TRIES = 200_000


def pick_out(keys: Sequence[Key], filtered: KeySum) -> list[Key] | None:
    """Return the keys that remain without those whose sum is `filtered`, or None if finding them takes too long."""
    sums = [sum_of_keys([key]) for key in keys]
    whole = sum(sums, KeySum())
    left, wanted = whole.count - filtered.count, (whole.first - filtered.first, whole.second - filtered.second)
    hashes = [(one.first, one.second) for one in sums]
    if left == 2:
        return _pair(keys, hashes, wanted)
    if left < 1 or comb(len(keys), left) > MOST_TRIES:
        return None
    for places in combinations(range(len(keys)), left):
        if (sum(hashes[place][0] for place in places), sum(hashes[place][1] for place in places)) == wanted:
            return [keys[place] for place in places]
    return None


def _pair(keys: Sequence[Key], hashes: list[tuple[int, int]], wanted: tuple[int, int]) -> list[Key] | None:
    seen: dict[tuple[int, int], int] = {}
    for place, (first, second) in enumerate(hashes):
        other = seen.get((wanted[0] - first, wanted[1] - second))
        if other is not None:
            return [keys[other], keys[place]]
        seen[first, second] = place
    return None
