"""Telling the lost keys from the filtered ones beside them, of which only the sum is known, where they are few."""

from collections.abc import Sequence
from itertools import combinations
from math import comb

from prefect_batch.blocks.key_sum import KeySum, sum_of_keys
from prefect_batch.blocks.keys import Key

__all__ = ["pick_out"]

MOST_TRIES = 200_000


def pick_out(keys: Sequence[Key], filtered: KeySum) -> list[Key] | None:
    """Which of the keys are left when those with the sum `filtered` are taken away; None if that takes too long."""
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
