"""Hooks on the flow's states: they enforce the failure threshold a second time, and report what has ended badly.

Several of them run in another process than the flow, so they rebuild what they need from the job's cursor.
"""

from dataclasses import replace
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Failed

from prefect_batch.blocks.api import open_client
from prefect_batch.blocks.cursor import Cursor, CursorStore
from prefect_batch.blocks.policy import FailurePolicy
from prefect_batch.flows.publish import publish_event, publish_report
from prefect_batch.tasks.report import report_of

__all__ = ["enforce_threshold", "report_cancellation", "report_crash", "report_failure"]

AnyFlow = Flow[Any, Any]


def _cursor_of(flow_run: FlowRun) -> Cursor | None:
    """The job's cursor, if this flow run is the one that saved it last."""
    job = flow_run.parameters.get("job")
    cursor = CursorStore(str(job)).load() if job else None
    return cursor if cursor and cursor.run.run_id == str(flow_run.id) else None


def enforce_threshold(_flow: AnyFlow, flow_run: FlowRun, _state: State[Any]) -> None:
    """Judge the saved counts again when the run completes, and force it to Failed if it should not have."""
    cursor = _cursor_of(flow_run)
    if cursor is None:
        return
    reason = FailurePolicy(**cursor.run.policy).exceeded(cursor.run.tally, final=True)
    if reason:
        with open_client() as client:
            client.set_flow_run_state(flow_run.id, Failed(message=f"{cursor.job}: {reason}"), force=True)
        cursor = replace(cursor, status="failed", message=reason)
        publish_report(report_of(cursor))
    publish_event(report_of(cursor), "failed" if reason else "completed")


def report_failure(_flow: AnyFlow, flow_run: FlowRun, state: State[Any]) -> None:
    """Write the report of a run that failed."""
    _report(flow_run, state, "failed")


def report_crash(_flow: AnyFlow, flow_run: FlowRun, state: State[Any]) -> None:
    """Write the report of a run whose process died."""
    _report(flow_run, state, "crashed")


def report_cancellation(_flow: AnyFlow, flow_run: FlowRun, state: State[Any]) -> None:
    """Write the report of a run that was cancelled."""
    _report(flow_run, state, "cancelled")


def _report(flow_run: FlowRun, state: State[Any], ending: str) -> None:
    cursor = _cursor_of(flow_run)
    if cursor is None:
        return
    if cursor.status == "running":  # The run could not say so itself.
        cursor = replace(cursor, status="failed", message=f"{ending}: {state.message or 'no reason given'}")
    report = report_of(cursor)
    publish_report(report)
    publish_event(report, ending)
