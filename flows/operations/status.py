"""The state of jobs and their runs, read from outside."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prefect_batch.blocks.chunks import Tally
from prefect_batch.blocks.jobs import main_job, of_replay, pass_title
from prefect_batch.blocks.keys import key_text
from prefect_batch.blocks.state.cursor import Cursor, PastRun, past_run
from prefect_batch.blocks.state.cursor_store import load_all, load_cursor
from prefect_batch.blocks.state.ownership import last_owner, living_owner
from prefect_batch.blocks.state.statuses import PastStatus
from prefect_batch.tasks.report.progress import duration_text


@dataclass(frozen=True)
class JobStatus:
    """The state of a job. `tally` counts its pass, `total` is the estimated number of the pass's records.

    `status` is ``running``, ``stopped``, ``failed``, ``complete``, ``reset`` or ``died``. `rate` is records per second.
    While the job runs, `waiting` is why it starts no further chunk, if so. `limits` and `resources` are those of the
    run.
    """

    job: str
    status: PastStatus
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
    waiting: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds left, or None when the job does not run or they are unknown."""
        if self.status != "running" or not self.rate:
            return None
        return max(0, self.total - self.tally.read) / self.rate

    def encode(self) -> dict[str, Any]:
        """Return the status as JSON."""
        return {**vars(self), "tally": self.tally.encode(), "seconds_left": self.seconds_left}

    def __str__(self) -> str:
        tally, left = self.tally, self.seconds_left
        total = max(self.total, tally.read)
        speed = f", {self.rate:,.0f}/s" if self.rate and self.status == "running" else ""
        ahead = f", about {duration_text(left)} left" if left is not None else ""
        mode = "" if of_replay(self.job) else f" ({self.mode})"
        counts = f"{tally.written:,} written, {tally.filtered:,} filtered, {tally.failed:,} failed"
        lines = [
            f"{pass_title(self.job, self.pass_number)}{mode} {self.status}",
            *([f"  {self.message}"] if self.message else []),
            *([f"  waits: {self.waiting}"] if self.waiting else []),
            f"  {tally.read:,} of about {total:,} records"
            + (f" ({tally.read / total:.1%})" if total else "")
            + speed
            + ahead,
            f"  {counts} ({tally.failure_rate:.2%})",
            *([f"  {used}"] if (used := self._used()) else []),
            f"  finished up to key {self.finished_upto or '(none)'}",
            f"  last change {self.updated_at[:19].replace('T', ' ')} UTC by flow run {self.run_id}",
        ]
        return "\n".join(lines)

    def _used(self) -> str:
        """Return what the run takes and may take, while it is running, as one line."""
        used, rate = self.resources, self.limits.get("max_rate")
        if self.status != "running" or "cores" not in used:
            return ""
        free = ", ".join(f"{size / 2**30:,.1f} GB free for {name}" for name, size in used["free_bytes"].items())
        return (
            f"{self.limits['concurrency']} chunks at once{f', at most {rate:,g}/s' if rate else ''}; "
            f"{used['cores']:.1f} cores, {used['rss_bytes'] / 2**20:,.0f} MB, {used['connections']} connections"
            + (f"; {free}" if free else "")
        )


def _status(cursor: Cursor) -> JobStatus:
    prefix = cursor.position.prefix
    found, message = _now(cursor)
    return JobStatus(
        job=cursor.job,
        status=found,
        message=message,
        pass_number=cursor.pass_number,
        mode=cursor.mode,
        tally=cursor.tally,
        total=cursor.estimate,
        rate=cursor.run.rate,
        finished_upto=None if prefix is None else key_text(prefix),
        run_id=cursor.run.run_id,
        updated_at=cursor.updated_at,
        dead_letters=cursor.dead_letters,
        waiting=cursor.run.waiting,
        limits=cursor.run.limits,
        resources=cursor.run.resources,
    )


def _now(cursor: Cursor) -> tuple[PastStatus, str]:
    """Return the status and its message, after a look whether the run of a cursor that says running still runs."""
    if cursor.status != "running":
        return cursor.status, cursor.message
    owner, lives = last_owner(main_job(cursor.job)) or (None, False)
    if lives:
        return "running", cursor.message
    seen = (
        f"gave its last sign of life at {owner.heartbeat[:19].replace('T', ' ')} UTC"
        if owner
        else "ended without saving how"
    )
    return "died", f"the run {seen}; the next run resumes the pass"


def status(job: str) -> JobStatus:
    """Return the state of the job as its latest run saved it, at most one chunk ago.

    Raises:
        UnknownJob: The job never ran against this Prefect API.
        BadCursor: Its cursor cannot be read.
    """
    return _status(load_cursor(job))


def status_of_all() -> list[JobStatus]:
    """Return the state of every job of this Prefect API, by name."""
    return [_status(Cursor.decode(fields)) for fields in load_all()]


_HEADS = ("started (UTC)", "took", "pass", "ended as", "read", "written", "filtered", "failed")


@dataclass(frozen=True)
class History:
    """The latest runs of a job, newest first: up to 50 past runs, and the present or last one."""

    job: str
    runs: tuple[PastRun, ...]

    def encode(self) -> dict[str, Any]:
        """Return the runs as JSON, with the seconds that each took."""
        return {"job": self.job, "runs": [{**run._asdict(), "seconds": _seconds(run)} for run in self.runs]}

    def __str__(self) -> str:
        rows = [_HEADS, *map(_cells, self.runs)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if n < 4 else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        told = [
            line + (f"  {run.message}" if run.message else "") for line, run in zip(lines[1:], self.runs, strict=True)
        ]
        return "\n".join([f"{self.job}: {len(self.runs)} runs, the latest first", lines[0].rstrip(), *told])


def history(job: str) -> History:
    """Return the latest runs of the job.

    Raises:
        UnknownJob: The job never ran against this Prefect API.
    """
    cursor = load_cursor(job)
    latest = past_run(cursor, over=cursor.status == "running" and living_owner(job) is None)
    return History(job, (latest, *reversed(cursor.history)))


def _seconds(run: PastRun) -> float:
    return (datetime.fromisoformat(run.ended_at) - datetime.fromisoformat(run.started_at)).total_seconds()


def _cells(run: PastRun) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (run.read, run.written, run.filtered, run.failed))
    return (
        run.started_at[:19].replace("T", " "),
        duration_text(_seconds(run)),
        str(run.pass_number),
        run.status,
        *counts,
    )
