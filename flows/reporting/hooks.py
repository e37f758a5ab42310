"""Hooks on the flow's states: they enforce the failure threshold a second time, and report runs that ended badly.

Several of them run in another process than the flow, so they rebuild what they need from the job's cursor.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger
from prefect.states import Failed

from prefect_batch.blocks.errors import (
    BadCursor,
    ChunkFailed,
    CircuitOpen,
    FailureRateExceeded,
    JobIsOwned,
    LostOwnership,
    Refused,
    RunStopped,
)
from prefect_batch.blocks.jobs import replay_job
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.flows.reporting.alerts import send_alerts
from prefect_batch.flows.reporting.publish import numbers_of, publish_event, publish_report
from prefect_batch.tasks.report.report import Report, report_of

AnyFlow = Flow[Any, Any]
_CAUSES: dict[type, str] = {
    FailureRateExceeded: "threshold",
    CircuitOpen: "circuit",
    ChunkFailed: "chunk",
    RunStopped: "processor",
}
_EVENTS = {"threshold": "threshold.exceeded", "circuit": "circuit.open"}
_SUBJECTS = {
    "threshold": "stopped: too many records failed",
    "circuit": "stopped: the sink takes nothing",
    "chunk": "failed: a chunk could not be written",
    "processor": "was stopped by its processor",
    "crash": "crashed",
    "refused": "could not start",
}
_NONE: Mapping[str, Any] = {}


def _cursor_of(flow_run: FlowRun) -> Cursor | None:
    """Return the job's cursor, or None unless this flow run is the last that saved it."""
    job = str(flow_run.parameters.get("job"))
    for name in (job, replay_job(job)):
        try:
            cursor = CursorStore(name).load()
        except BadCursor:
            continue  # The run says so itself.
        if cursor and cursor.run.run_id == str(flow_run.id):
            return cursor
    return None


def enforce_threshold(flow: AnyFlow, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Judge the saved counts again when the run completes, and force it to Failed if it should not have."""
    cursor = _cursor_of(flow_run)
    if cursor is None:
        return
    reason = FailurePolicy(**cursor.run.policy).exceeded(cursor.run.tally, final=True)
    if not reason:
        publish_event(str(flow_run.parameters["job"]), str(flow_run.id), "run.completed", numbers_of(report_of(cursor)))
        return
    failed: State[Any] = Failed(message=f"{cursor.job}: {reason}")
    call_api(lambda client: client.set_flow_run_state(flow_run.id, failed, force=True))
    _tell(flow_run, replace(report_of(cursor), status="failed", message=reason), reason, "threshold")


def report_failure(flow: AnyFlow, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Publish the report of a run that failed, and send its alerts."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, JobIsOwned) or (isinstance(error, LostOwnership) and _cursor_of(flow_run)):
        return  # The run that owns the job, or another start of this one, reports its own end.
    cause = _CAUSES.get(type(error), "refused" if isinstance(error, Refused) else "error")
    numbers = {"refused_chunks": error.chunks, "refused_records": error.records} if type(error) is CircuitOpen else {}
    _tell(flow_run, _ended(flow_run, state, "failed"), state.message or "", cause, numbers)


def report_crash(flow: AnyFlow, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Publish the report of a run whose process died, and send its alerts."""
    _tell(flow_run, _ended(flow_run, state, "crashed"), state.message or "", "crash")


def report_cancellation(flow: AnyFlow, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Write the report of a run that was cancelled."""
    if report := _ended(flow_run, state, "cancelled"):
        publish_report(report)
        publish_event(str(flow_run.parameters["job"]), str(flow_run.id), "run.cancelled", numbers_of(report))


def _ended(flow_run: FlowRun, state: State[Any], ending: str) -> Report | None:
    cursor = _cursor_of(flow_run)
    if cursor is None:
        return None
    report = report_of(cursor)
    if cursor.status == "running":  # The run could not say so itself.
        return replace(report, status="failed", message=f"{ending}: {state.message or 'no reason given'}")
    return report


def _tell(
    flow_run: FlowRun, report: Report | None, message: str, cause: str, numbers: Mapping[str, Any] = _NONE
) -> None:
    """Publish the report and events of a run that ended badly, and send its alerts.

    Without a report, the run was refused before it began.
    """
    job, run_id = str(flow_run.parameters.get("job")), str(flow_run.id)
    if flow_run.parameters.get("dry_run"):
        return
    body, payload = message, {"cause": cause, "message": message}
    if report is not None:
        publish_report(report)
        body, payload = str(report), {"cause": cause, **report.policy, **numbers_of(report), **numbers}
    for name in (_EVENTS.get(cause), "run.failed"):
        if name is not None:
            publish_event(job, run_id, name, payload)
    subject = f"{job} {_SUBJECTS.get(cause, 'failed')}"
    send_alerts(flow_run.parameters.get("alert") or (), subject, body, flow_run_logger(flow_run))
