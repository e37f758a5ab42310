"""Ranges of the key, the counts of the work on them and its result: frozen values, checked at creation."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

from prefect_batch.blocks.key_sum import KeySum
from prefect_batch.blocks.keys import Key, decode_key, encode_key, key_text


@dataclass(frozen=True)
class ChunkRange:
    """The rows whose key is in ``(after, upto]``, where ``after=None`` is the start of the source."""

    after: Key | None
    upto: Key

    @property
    def text(self) -> str:
        """The range as people read it: ``(120000, 180000]``."""
        return f"({'start' if self.after is None else key_text(self.after)}, {key_text(self.upto)}]"

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify this range in file names and cache keys."""
        return hashlib.sha256(json.dumps(self.encode(), sort_keys=True).encode()).hexdigest()[:16]

    def encode(self) -> dict[str, Any]:
        """Return the range as JSON, from which `decode` restores an equal range."""
        return {"after": None if self.after is None else encode_key(self.after), "upto": encode_key(self.upto)}

    @classmethod
    def decode(cls, encoded: Mapping[str, Any]) -> "ChunkRange":
        """Return the range that `encode` wrote."""
        after = encoded["after"]
        return cls(None if after is None else decode_key(after), decode_key(encoded["upto"]))


@dataclass(frozen=True)
class Tally:
    """The counts of a chunk, a run or a pass, where ``read == written + filtered + failed`` always holds.

    Attributes:
        rows_written: Rows written to the sink. One record may write several rows.
        bytes: Roughly how many bytes the source rows took in memory.
        seconds: The durations of the chunks' own work, added up.
    """

    read: int = 0
    written: int = 0
    filtered: int = 0
    failed: int = 0
    rows_written: int = 0
    chunks: int = 0
    retries: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.read != self.written + self.filtered + self.failed:
            raise ValueError(f"a record was lost: read {self.read} is not the sum of {self}")

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def failure_rate(self) -> float:
        """The share of the records read that failed, from 0 to 1, and 0 if none was read."""
        return self.failed / self.read if self.read else 0.0

    def encode(self) -> dict[str, Any]:
        """Return the tally as JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def decode(cls, encoded: Mapping[str, Any]) -> "Tally":
        """Return the tally that `encode` wrote."""
        return cls(**{f.name: encoded[f.name] for f in fields(cls)})


@dataclass(frozen=True)
class ErrorCount:
    """The number of records that failed with one error, with the key and the message of one of them."""

    error_type: str
    count: int
    example_key: str
    example_message: str


@dataclass(frozen=True)
class ChunkResult:
    """The result of a finished chunk.

    Attributes:
        letters: The chunk's dead-letter file. None if no record failed.
        rss_bytes: The memory of the process that worked on the chunk, in bytes, at the chunk's end.
        connections: The open database connections of that process, at the chunk's end.
        filtered_keys: The checksum of the keys of filtered records.
    """

    range: ChunkRange
    tally: Tally
    errors: tuple[ErrorCount, ...] = ()
    letters: str | None = None
    started_at: float = 0.0
    rss_bytes: int = field(default=0, compare=False)
    connections: int = field(default=0, compare=False)
    filtered_keys: KeySum = field(default_factory=KeySum)

    def __post_init__(self) -> None:
        if sum(error.count for error in self.errors) > self.tally.failed:
            raise ValueError(f"{self.range.text}: more errors than failed records")

    def encode(self) -> dict[str, Any]:
        """Return the result as JSON, the form in which Prefect's cache and the ledger store it."""
        return {
            "range": self.range.encode(),
            "tally": self.tally.encode(),
            "errors": [vars(error) for error in self.errors],
            "letters": self.letters,
            "started_at": self.started_at,
            "rss_bytes": self.rss_bytes,
            "connections": self.connections,
            "filtered_keys": self.filtered_keys.encode(),
        }

    @classmethod
    def decode(cls, encoded: Mapping[str, Any]) -> "ChunkResult":
        """Return the result that `encode` wrote."""
        return cls(
            range=ChunkRange.decode(encoded["range"]),
            tally=Tally.decode(encoded["tally"]),
            errors=tuple(ErrorCount(**error) for error in encoded["errors"]),
            letters=encoded["letters"],
            started_at=encoded["started_at"],
            rss_bytes=encoded["rss_bytes"],
            connections=encoded.get("connections", 0),
            filtered_keys=KeySum.decode(encoded.get("filtered_keys", ())),
        )


@dataclass(frozen=True)
class Split:
    """The outcome of a chunk that is done in parts, because it was too large.

    Attributes:
        at: The keys at which all parts but the last end, in order.
    """

    range: ChunkRange
    at: tuple[Key, ...]

    def __post_init__(self) -> None:
        if not self.at or len({*self.at, self.range.after, self.range.upto}) != len(self.at) + 2:
            raise ValueError(f"{self.range.text} is not split at {self.at}")

    @property
    def parts(self) -> list[ChunkRange]:
        """The ranges of the parts, in order, which cover the range of the chunk."""
        ends = [self.range.after, *self.at, self.range.upto]
        return [ChunkRange(after, upto) for after, upto in pairwise(ends) if upto is not None]

    def encode(self) -> dict[str, Any]:
        """Return the split as JSON, in the form and in the places in which a `ChunkResult` is stored."""
        return {"range": self.range.encode(), _AT: [encode_key(key) for key in self.at]}

    @classmethod
    def decode(cls, encoded: Mapping[str, Any]) -> "Split":
        """Return the split that `encode` wrote."""
        return cls(ChunkRange.decode(encoded["range"]), tuple(decode_key(key) for key in encoded[_AT]))


Outcome = ChunkResult | Split
_AT = "split"


def is_split(encoded: Mapping[str, Any] | None) -> bool:
    """Return whether an encoded outcome is that of a chunk that is done in parts."""
    return encoded is not None and _AT in encoded


def decode_outcome(encoded: Mapping[str, Any]) -> Outcome:
    """Return what became of a chunk, from what `ChunkResult.encode` or `Split.encode` wrote."""
    return Split.decode(encoded) if is_split(encoded) else ChunkResult.decode(encoded)
