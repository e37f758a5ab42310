"""The facts that errors hold of values in modules above them: `ChunkRange`, `Tally`, `FailurePolicy`, `ErrorCount`."""

from typing import Any, Protocol


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
