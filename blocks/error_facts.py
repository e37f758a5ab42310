"""What errors know of values whose modules stand above theirs: `ChunkRange`, `Tally`, `FailurePolicy`, `ErrorCount`."""

from typing import Any, Protocol

__all__ = ["ErrorCountFacts", "PolicyFacts", "RangeFacts", "TallyFacts"]


class RangeFacts(Protocol):
    """Of a `ChunkRange`: the keys between which it lies, and the same as people read it."""

    @property
    def after(self) -> tuple[Any, ...] | None:
        """The key before its first; None at the start of the source."""

    @property
    def upto(self) -> tuple[Any, ...]:
        """Its last key."""

    @property
    def text(self) -> str:
        """The range as people read it."""


class TallyFacts(Protocol):
    """Of a `Tally`: how many records failed, of how many."""

    @property
    def read(self) -> int:
        """Records read."""

    @property
    def failed(self) -> int:
        """Records failed."""

    @property
    def failure_rate(self) -> float:
        """Failed records as a share of those read, from 0 to 1."""


class PolicyFacts(Protocol):
    """Of a `FailurePolicy`: how many records may fail."""

    @property
    def max_failure_rate(self) -> float:
        """A share from 0 to 1."""

    @property
    def max_failures(self) -> int | None:
        """A number of records; None for no limit."""


class ErrorCountFacts(Protocol):
    """Of an `ErrorCount`: how many records failed with an error of this type, and one of them."""

    @property
    def error_type(self) -> str:
        """The qualified name of the type."""

    @property
    def count(self) -> int:
        """How many records."""

    @property
    def example_key(self) -> str:
        """The key of one of them."""

    @property
    def example_message(self) -> str:
        """Its message."""
