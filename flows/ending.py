"""How a run ends: the last judgement, the last save, the report."""

import contextlib
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import httpx
import psutil
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, State

from prefect_batch.blocks.connections import redact
from prefect_batch.blocks.cursor import Status
from prefect_batch.blocks.errors import FailureRateExceeded, LostOwnership
from prefect_batch.blocks.sink import SqlSink
from prefect_batch.flows.publish import publish_report
from prefect_batch.flows.walk import Walk
from prefect_batch.tasks.chunk import forget_cache
from prefect_batch.tasks.progress import duration_text
from prefect_batch.tasks.report import Report, explain, report_of

__all__ = ["finish", "give_up", "judge"]


def judge(walk: Walk) -> tuple[Status, str]:
    """The status, and why, of a walk that came to its end by itself.

    Raises:
        FailureRateExceeded: too many of this run's records failed, however few they were.
    """
    if walk.request.reason:
        return "stopped", walk.request.reason
    if reason := walk.policy.exceeded(walk.cursor.run.tally, final=True):
        raise FailureRateExceeded(explain(walk.cursor, reason, dry_run=walk.job.dry_run))
    if walk.cursor.position.complete:
        return "complete", ""
    return "stopped", "the limit of this run is reached"


def give_up(walk: Walk, error: BaseException, log: Any) -> None:
    """Save and report that the run ended with this error; a failure in here must not hide the error itself."""
    if isinstance(error, LostOwnership):
        return
    status: Status = "failed" if isinstance(error, Exception) else "stopped"
    try:
        _close(walk, status, _reason(error), log)
    except Exception as second:  # noqa: BLE001 - the first error is the one to show
        log.warning("%s: the end of the run could not be saved: %s", walk.cursor.job, redact(str(second)))


def _reason(error: BaseException) -> str:
    if isinstance(error, TerminationSignal):
        return "ended by a cancellation or SIGTERM"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted twice by Ctrl-C"
    if isinstance(error, Exception):
        return redact(str(error)) or type(error).__name__
    return f"ended by {type(error).__name__}"


def finish(walk: Walk, status: Status, message: str, log: Any, sink: SqlSink) -> Report | State[Any]:
    """Save and report the end of a run; the report, or the state Stopped when it was interrupted."""
    report = _close(walk, status, message, log)
    if status == "complete" and not walk.job.dry_run:
        forget_cache(walk.job.job, walk.job.pass_number, walk.job.pass_id)
        if sink.needs_ledger:
            sink.forget_chunks(walk.job.job, walk.job.pass_number)
    if walk.request.reason:
        return Cancelled(name="Stopped", message=f"{walk.job.job} was {message}; call it again to go on")
    return report


def _close(walk: Walk, status: Status, message: str, log: Any) -> Report:
    run = walk.cursor.run
    process = psutil.Process()
    with process.oneshot():
        cpu = process.cpu_times()
        resources = {**run.resources, "cpu_seconds": round(cpu.user + cpu.system - walk.cpu_seconds_before, 1)}
    run = replace(run, finished_at=datetime.now(timezone.utc).isoformat(), resources=resources)
    walk.cursor = walk.save(replace(walk.cursor, status=status, message=message, run=run))
    report = report_of(walk.cursor)
    if walk.job.dry_run:
        report = replace(report, status="dry run")
    tally = report.run
    log.info(
        "%s: pass %s %s%s: %s read, %s written, %s filtered, %s failed (%s) in %s",
        report.job,
        report.pass_number,
        report.status,
        f", {message.splitlines()[0]}" if message else "",
        f"{tally.read:,}",
        f"{tally.written:,}",
        f"{tally.filtered:,}",
        f"{tally.failed:,}",
        f"{tally.failure_rate:.2%}",
        duration_text(report.seconds),
    )
    with contextlib.suppress(httpx.HTTPError):  # A report that cannot be shown changes nothing.
        publish_report(report)
    return report
