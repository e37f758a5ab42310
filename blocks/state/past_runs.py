"""The former runs of a job, in short; the latest ones are kept in its cursor."""

from typing import Any, NamedTuple

__all__ = ["PastRun", "decode_history"]


class PastRun(NamedTuple):
    """A run that is over, or was the latest one: its counts are of this run alone, its times in UTC.

    `status` is how it ended: ``complete``, ``stopped``, ``failed``, or ``died`` if it could not say so itself.
    """

    run_id: str
    pass_number: int
    status: str
    message: str
    started_at: str
    ended_at: str
    read: int
    written: int
    filtered: int
    failed: int


def decode_history(encoded: list[list[Any]] | None) -> tuple[PastRun, ...]:
    """The history from its JSON, which older cursors have not."""
    return tuple(PastRun(*values) for values in encoded or ())
