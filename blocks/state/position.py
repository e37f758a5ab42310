"""The position of a pass: pure values, no clock, no Prefect. Keys are compared for equality only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefect_batch.blocks.chunks import ChunkRange, Split
from prefect_batch.blocks.keys import Key, decode_key, encode_key


def _encode(key: Key | None) -> list[Any] | None:
    return None if key is None else encode_key(key)


def _decode(encoded: Sequence[Any] | None) -> Key | None:
    return None if encoded is None else decode_key(encoded)


@dataclass(frozen=True)
class Planned:
    """The upper edge of a planned chunk.

    Attributes:
        done: Whether the chunk is finished, and so an island.
    """

    upto: Key
    done: bool = False


@dataclass(frozen=True)
class Position:
    """How far a pass is.

    Attributes:
        start: Where the pass began (exclusive). None means at the first row.
        upper: Where the pass ends (inclusive). None means that there was no row.
        prefix: Everything up to this key is finished. None if nothing is and the pass began at the first row.
        planned: The planned chunks beyond the prefix, in order.
    """

    start: Key | None
    upper: Key | None
    prefix: Key | None
    planned: tuple[Planned, ...] = ()

    def __post_init__(self) -> None:
        if self.planned and self.planned[0].done:
            raise ValueError("a finished chunk at the prefix belongs to the prefix")
        if len({edge.upto for edge in self.planned} | {self.prefix}) != len(self.planned) + 1:
            raise ValueError("two planned chunks end at the same key")

    @property
    def planned_upto(self) -> Key | None:
        """The key where the planned chunks end and planning continues."""
        return self.planned[-1].upto if self.planned else self.prefix

    @property
    def fully_planned(self) -> bool:
        """Whether nothing is left to plan."""
        return self.upper is None or self.planned_upto == self.upper

    @property
    def complete(self) -> bool:
        """Whether every chunk of the pass is finished."""
        return self.upper is None or self.prefix == self.upper

    def ranges(self) -> list[tuple[ChunkRange, bool]]:
        """Return the planned chunks in order, each with whether it is finished."""
        lower = [self.prefix, *(edge.upto for edge in self.planned)]
        return [(ChunkRange(after, edge.upto), edge.done) for after, edge in zip(lower, self.planned, strict=False)]

    def plan(self, edges: Sequence[Key]) -> "Position":
        """Return the position with further chunks planned, each up to one of these keys."""
        return replace(self, planned=(*self.planned, *(Planned(key) for key in edges)))

    def finish(self, chunk: ChunkRange) -> "Position":
        """Return the position once this planned chunk is finished. The prefix grows over what is now contiguous.

        Raises:
            ValueError: no such chunk is planned.
        """
        ranges = [planned for planned, _ in self.ranges()]
        if chunk not in ranges:
            raise ValueError(f"chunk {chunk.text} is not planned")
        place = ranges.index(chunk)
        planned = [replace(edge, done=True) if i == place else edge for i, edge in enumerate(self.planned)]
        prefix = self.prefix
        while planned and planned[0].done:
            prefix = planned.pop(0).upto
        return replace(self, prefix=prefix, planned=tuple(planned))

    def split(self, split: Split) -> "Position":
        """Return the position with the parts of this planned chunk in its place.

        Raises:
            ValueError: no such chunk is planned and unfinished.
        """
        if (split.range, False) not in (ranges := self.ranges()):
            raise ValueError(f"chunk {split.range.text} is not planned, or is finished")
        place = ranges.index((split.range, False))
        parts = map(Planned, split.at)
        return replace(self, planned=(*self.planned[:place], *parts, *self.planned[place:]))

    def encode(self) -> dict[str, Any]:
        """Return the position as JSON, from which `decode` restores an equal one."""
        return {
            "start": _encode(self.start),
            "upper": _encode(self.upper),
            "prefix": _encode(self.prefix),
            "planned": [{"upto": encode_key(edge.upto), "done": edge.done} for edge in self.planned],
        }

    @classmethod
    def decode(cls, encoded: Mapping[str, Any]) -> "Position":
        """Return the position that `encode` wrote."""
        return cls(
            start=_decode(encoded["start"]),
            upper=_decode(encoded["upper"]),
            prefix=_decode(encoded["prefix"]),
            planned=tuple(Planned(decode_key(edge["upto"]), bool(edge["done"])) for edge in encoded["planned"]),
        )
