"""Where jobs stand, and what failed, read from outside."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_batch.blocks.cursor import Cursor, CursorStore, check_job, load_all
from prefect_batch.blocks.errors import BatchError
from prefect_batch.blocks.keys import key_text
from prefect_batch.blocks.letters import read_letters
from prefect_batch.blocks.values import Tally
from prefect_batch.tasks.progress import duration_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["JobStatus", "UnknownJob", "dead_letters", "status", "status_of_all"]


class UnknownJob(BatchError, KeyError):
    """The job has no cursor: it never ran against this Prefect API, or was reset and deleted."""

    def __str__(self) -> str:
        """The message, without the quotes of a KeyError."""
        return str(self.args[0])


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands; `tally` counts its pass, `total` is the estimated number of the pass's records.

    `status` is ``running``, ``stopped``, ``failed``, ``complete`` or ``reset``; `rate` is records per second.
    """

    job: str
    status: str
    message: str
    pass_number: int
    mode: str
    tally: Tally
    total: int
    rate: float | None
    finished_upto: str | None
    run_id: str
    updated_at: str
    dead_letters: str

    @property
    def seconds_left(self) -> float | None:
        """An estimate of the seconds to go; None when it does not run, or cannot be known."""
        if self.status != "running" or not self.rate:
            return None
        return max(0, self.total - self.tally.read) / self.rate

    def encode(self) -> dict[str, Any]:
        """The status as JSON."""
        return {**vars(self), "tally": self.tally.encode(), "seconds_left": self.seconds_left}

    def __str__(self) -> str:
        total = max(self.total, self.tally.read)
        share = f" ({self.tally.read / total:.1%})" if total else ""
        left = self.seconds_left
        lines = [
            f"{self.job}: pass {self.pass_number} ({self.mode}) {self.status}",
            f"  {self.tally.read:,} of about {total:,} records{share}"
            + (f", {self.rate:,.0f}/s" if self.rate and self.status == "running" else "")
            + (f", about {duration_text(left)} left" if left is not None else ""),
            f"  {self.tally.written:,} written, {self.tally.filtered:,} filtered, {self.tally.failed:,} failed "
            f"({self.tally.failure_rate:.2%})",
            f"  finished up to key {self.finished_upto or '(none)'}",
            f"  last change {self.updated_at[:19].replace('T', ' ')} UTC by flow run {self.run_id}",
        ]
        if self.message:
            lines.insert(1, f"  {self.message}")
        return "\n".join(lines)


def _status(cursor: Cursor) -> JobStatus:
    prefix = cursor.position.prefix
    return JobStatus(
        job=cursor.job,
        status=cursor.status,
        message=cursor.message,
        pass_number=cursor.pass_number,
        mode=cursor.mode,
        tally=cursor.tally,
        total=cursor.estimate,
        rate=cursor.run.rate,
        finished_upto=None if prefix is None else key_text(prefix),
        run_id=cursor.run.run_id,
        updated_at=cursor.updated_at,
        dead_letters=cursor.dead_letters,
    )


def _load(job: str) -> Cursor:
    cursor = CursorStore(check_job(job)).load()
    if cursor is None:
        raise UnknownJob(f"no job {job} has run against this Prefect API; prefect-batch status lists those that have")
    return cursor


def status(job: str) -> JobStatus:
    """Where the job stands, as its latest run saved it: at most one chunk ago.

    Raises:
        UnknownJob: it never ran here.
        BadCursor: its cursor cannot be read.
    """
    return _status(_load(job))


def status_of_all() -> list[JobStatus]:
    """Where every job of this Prefect API stands, by name."""
    return [_status(Cursor.decode(fields)) for fields in load_all()]


def dead_letters(job: str, pass_number: int | None = None) -> "pd.DataFrame":
    """The failed records of the job's latest pass, or of the pass named: one row each, with key, error and record.

    Raises:
        UnknownJob: it never ran here.
    """
    cursor = _load(job)
    return read_letters(cursor.dead_letters, job, cursor.pass_number if pass_number is None else pass_number)
