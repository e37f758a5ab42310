"""Summaries of a job's former runs, the latest of which are kept in its cursor."""

from typing import Any, NamedTuple

from prefect_batch.blocks.state.statuses import PastStatus


class PastRun(NamedTuple):
    """A past run, or the latest one, with the counts of this run alone and its times in UTC.

    `status` is how it ended: ``complete``, ``stopped``, ``failed``, or ``died`` if it could not save its end. It is
    ``running`` for a run that has not ended, and ``reset`` for one whose pass was abandoned since.
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
