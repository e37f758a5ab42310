"""The runs of a job, from its cursor."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect_batch.blocks.state.cursor import past_run
from prefect_batch.blocks.state.cursor_store import load_cursor
from prefect_batch.blocks.state.ownership import living_owner
from prefect_batch.blocks.state.past_runs import PastRun
from prefect_batch.tasks.report.progress import duration_text

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
