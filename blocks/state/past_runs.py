"""Summaries of a job's former runs, the latest of which are kept in its cursor."""

from typing import Any, NamedTuple

from prefect_batch.blocks.state.statuses import PastStatus

__all__ = ["PastRun", "decode_history"]


class PastRun(NamedTuple):
    """A run that is over, or was the latest one: its counts are of this run alone, its times in UTC.

    `status` is how it ended: ``complete``, ``stopped``, ``failed``, or ``died`` if it could not say so itself; of one
    that has not ended, ``running``, and of one whose pass was given up since, ``reset``.
    """

    run_id: str
    pass_number: int
    status: PastStatus
    message: str
    started_at: str
    ended_at: str
    read: int
    written: int
    filtered: int
    failed: int


def decode_history(encoded: list[list[Any]] | None) -> tuple[PastRun, ...]:
    """Return the history from its JSON, which is None in older cursors."""
    return tuple(PastRun(*values) for values in encoded or ())
