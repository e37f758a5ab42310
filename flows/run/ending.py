"""How a run ends: the last judgement, the last save, the report."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
from prefect.client.schemas.objects import FlowRunPolicy, State
from prefect.context import get_run_context
from prefect.exceptions import Pause, TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from prefect_batch.blocks.errors import BatchError, JobIsOwned, LostOwnership
from prefect_batch.blocks.jobs import pass_title
from prefect_batch.blocks.parameters.run_window import RunWindow, clock_text
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.statuses import Status
from prefect_batch.flows.reporting.publish import publish_report
from prefect_batch.flows.run.walk import Walk
from prefect_batch.tasks.report.progress import duration_text
from prefect_batch.tasks.report.report import Report, failures_exceeded, report_of
from prefect_batch.tasks.run_chunk import forget_cache


def judge(walk: Walk) -> tuple[Status, str]:
    """Return the status of a walk that ended by itself, and the reason for it.

    Raises:
        FailureRateExceeded: too many of this run's records failed, however few they were.
    """
    if walk.limits.request.reason:
        return "stopped", walk.limits.request.reason
    if exceeded := failures_exceeded(walk.cursor, walk.limits.policy, dry_run=walk.job.dry_run, final=True):
        raise exceeded
    if walk.cursor.position.complete:
        return "complete", ""
    return "stopped", "the limit of this run is reached"


def deployed() -> bool:
    """Return whether this run belongs to a deployment, and was not called by a program."""
    return get_run_context().flow_run.deployment_id is not None  # type: ignore[union-attr]


def outside_window(job: str, window: RunWindow, now: datetime) -> State[Any]:
    """Return the state of a run outside the job's hours: it has not failed, and no alert is sent."""
    opens = clock_text(window.opens_at(now), now)
    return Cancelled(
        name="OutsideRunWindow",
        message=f"{job} did not run: its run window {window.text} opens at {opens}; a run after that goes on",
    )


def failed(error: BatchError) -> State[Any]:
    """Return the state of a run that ended with this error, which Prefect must not retry blindly.

    A retry would start a new run with a new count of failures, so that there would be no limit. A deployment's run that
    finds the job running has not failed, and sends no alert.
    """
    if isinstance(error, JobIsOwned) and deployed():
        return Cancelled(name="AlreadyRunning", message=f"{error}; this run did nothing")
    run_id = get_run_context().flow_run.id  # type: ignore[union-attr]
    with contextlib.suppress(httpx.HTTPError):
        once = FlowRunPolicy(retries=0)
        call_api(lambda client: client.update_flow_run(run_id, empirical_policy=once), patience_seconds=20)
    message = hide_passwords(str(error))
    state: State[Any] = Failed(message=message, data=error)
    return state


def give_up(walk: Walk, error: BaseException, log: Any) -> None:
    """Save and report that the run ended with this error. A failure in here does not hide the error itself."""
    if isinstance(error, LostOwnership):
        return
    status: Status = "failed" if isinstance(error, Exception) else "stopped"
    try:
        _close(walk, status, _reason(error), log)
    except Exception as second:  # noqa: BLE001 - the first error is the one to show
        log.warning("%s: the end of the run could not be saved: %s", walk.cursor.job, hide_passwords(str(second)))


def _reason(error: BaseException) -> str:
    if isinstance(error, TerminationSignal):
        return "ended by a cancellation or SIGTERM"
    if isinstance(error, Pause):
        return "paused or suspended in Prefect"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted twice by Ctrl-C"
    if isinstance(error, Exception):
        return hide_passwords(str(error)) or type(error).__name__
    return f"ended by {type(error).__name__}"


def finish(walk: Walk, status: Status, message: str, log: Any) -> State[Any]:
    """Save and report the end of a run.

    Returns:
        A state with the report, or the state Stopped when the run was interrupted.
    """
    report = _close(walk, status, message, log)
    if status == "complete" and not walk.job.dry_run:
        forget_cache(walk.job.job, walk.job.pass_number, walk.job.pass_id)
    if walk.limits.request.reason:
        return Cancelled(name="Stopped", message=f"{walk.job.job} was {message}; {walk.limits.request.way_on}")
    state: State[Any] = Completed(message=_summary(report, message), data=report)
    return state


def _close(walk: Walk, status: Status, message: str, log: Any) -> Report:
    walk.note(final=True)
    run = replace(walk.cursor.run, finished_at=datetime.now(UTC).isoformat(), waiting="")
    walk.cursor = walk.save(replace(walk.cursor.become(status, message), run=run))
    report = report_of(walk.cursor)
    if walk.job.dry_run:
        report = replace(report, status="dry run")
    log.info("%s", _summary(report, message))
    if walk.job.dry_run:
        return report  # It leaves no trace, and the job's latest report is that of a real run.
    with contextlib.suppress(httpx.HTTPError):  # A report that cannot be shown changes nothing.
        publish_report(report)
    return report


def _summary(report: Report, message: str) -> str:
    """Return a line that says how the run ended."""
    tally = report.run
    return (
        f"{pass_title(report.job, report.pass_number)} {report.status}"
        f"{f', {message.splitlines()[0]}' if message else ''}: {tally.read:,} read, {tally.written:,} written, "
        f"{tally.filtered:,} filtered, {tally.failed:,} failed ({tally.failure_rate:.2%}) "
        f"in {duration_text(report.seconds)}"
    )
