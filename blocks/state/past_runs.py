"""The former runs of a job, in short; the latest ones are kept in its cursor."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from prefect_batch.blocks.state.cursor import Cursor

__all__ = ["PastRun", "decode_history", "past_run", "remember"]

MOST_RUNS = 50
MESSAGE_CHARACTERS = 120


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


def past_run(cursor: "Cursor", *, over: bool) -> PastRun:
    """The cursor's latest run; `over`: another one has followed, or nobody is at work."""
    run, tally = cursor.run, cursor.run.tally
    status = "died" if over and cursor.status == "running" else cursor.status
    message = cursor.message.partition("\n")[0][:MESSAGE_CHARACTERS]
    ended_at = run.finished_at or cursor.updated_at
    counts = (tally.read, tally.written, tally.filtered, tally.failed)
    return PastRun(run.run_id, cursor.pass_number, status, message, run.started_at, ended_at, *counts)


def remember(saved: "Cursor | None") -> tuple[PastRun, ...]:
    """The history for the cursor of the next run: the saved one's, and its latest run."""
    return () if saved is None else (*saved.history, past_run(saved, over=True))[-MOST_RUNS:]


def decode_history(encoded: list[list[Any]] | None) -> tuple[PastRun, ...]:
    """The history from its JSON, which older cursors have not."""
    return tuple(PastRun(*values) for values in encoded or ())
