"""The facts that errors hold: what is to blame, and those of values in modules above them, such as `ChunkRange`."""

from enum import StrEnum
from typing import Any, Protocol


class Blame(StrEnum):
    """What is to blame for an error, which decides what it costs. `blocks.blame.blame_of` finds it."""

    RECORD = "record"
    """The record: it becomes a dead letter, and the chunk continues."""

    END = "end"
    """The source or the sink, which refuses whatever it is asked: the chunk fails, and is not tried again."""

    PASSING = "passing"
    """A passing state of an end, such as a lost connection: the chunk fails, and is tried again."""

    PROCESS = "process"
    """A passing lack of this process, such as descriptors: the chunk fails, and is tried again."""

    SIZE = "size"
    """A lack that the size of the work can cause, such as memory: the chunk fails, is tried again, and may be split."""

    @property
    def fails_chunk(self) -> bool:
        """Whether the chunk fails as a whole, and none of its records becomes a dead letter."""
        return self is not Blame.RECORD

    @property
    def passes(self) -> bool:
        """Whether the same work may succeed when it is tried again."""
        return self in (Blame.PASSING, Blame.PROCESS, Blame.SIZE)


class RangeFacts(Protocol):
    """The facts of a `ChunkRange`: its keys, and its text for people."""

    @property
    def after(self) -> tuple[Any, ...] | None:
        """The key before the range's first, or None at the start of the source."""

    @property
    def upto(self) -> tuple[Any, ...]:
        """The last key of the range."""

    @property
    def text(self) -> str:
        """The range as text for people."""


class TallyFacts(Protocol):
    """The facts of a `Tally`: how many records were read, and how many of them failed."""

    @property
    def read(self) -> int:
        """The number of records read."""

    @property
    def failed(self) -> int:
        """The number of records that failed."""

    @property
    def failure_rate(self) -> float:
        """The share of the records read that failed, from 0 to 1."""


class PolicyFacts(Protocol):
    """The facts of a `FailurePolicy`: how many records may fail."""

    @property
    def max_failure_rate(self) -> float:
        """The share of records that may fail, from 0 to 1."""

    @property
    def max_failures(self) -> int | None:
        """The number of records that may fail, or None for no limit."""


class ErrorCountFacts(Protocol):
    """The facts of an `ErrorCount`: how many records failed with this type of error, and an example."""

    @property
    def error_type(self) -> str:
        """The qualified name of the error's type."""

    @property
    def count(self) -> int:
        """The number of records that failed with it."""

    @property
    def example_key(self) -> str:
        """The key of one of these records."""

    @property
    def example_message(self) -> str:
        """The error message of that record."""
