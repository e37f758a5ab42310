"""The report of a run as artifacts and an event. They never change the outcome of the run."""

import itertools
import json
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.events import emit_event
from prefect.settings import PREFECT_UI_URL
from prefect.utilities.urls import url_for

from prefect_batch.blocks.errors import BatchError
from prefect_batch.blocks.jobs import main_job, of_replay, pass_title
from prefect_batch.blocks.keys import decode_key, key_text
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.read import letter_tables
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.tasks.letters.group import COLUMNS, group_letters
from prefect_batch.tasks.report.report import Report

SHOWN_LETTERS = 20


def publish_report(report: Report) -> None:
    """Write the run's report, and tables of its failures and of some dead letters, or write them anew."""
    links = {"the flow run": url_for("flow-run", obj_id=report.run_id)}
    if report.has_letters and (groups := _groups(report)):
        job = main_job(report.job)
        title = f"Open failures of {job} by cause (of {MOST_LETTERS:,} letters at most): prefect-batch failures {job}"
        made = _put(report, f"batch-failures-{report.job}", "table", json.dumps(groups), title)
        links["the failures by cause"] = _artifact_url(made)
    if report.has_letters and not of_replay(report.job) and (letters := _some_letters(report)):
        title = f"{len(letters)} of the dead letters of pass {report.pass_number}; all of them: {report.letters_place}"
        made = _put(report, f"batch-letters-{report.job}", "table", json.dumps(letters), title)
        links["some dead letters"] = _artifact_url(made)
    title = f"{pass_title(report.job, report.pass_number)} {report.status}"
    found = {name: url for name, url in links.items() if url}
    _put(report, f"batch-report-{report.job}", "markdown", report.markdown(found), title)


def _put(report: Report, key: str, kind: str, content: str, title: str) -> UUID:
    """Create the run's artifact of this key, or replace it.

    Returns:
        The artifact's id.
    """
    run_id = UUID(report.run_id)
    mine = ArtifactFilter(key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))

    def put(client: SyncPrefectClient) -> UUID:
        if existing := client.read_artifacts(artifact_filter=mine):
            client.update_artifact(existing[0].id, ArtifactUpdate(data=content, description=title))
            return existing[0].id
        artifact = ArtifactCreate(key=key, type=kind, data=content, flow_run_id=run_id, description=title)
        return client.create_artifact(artifact).id

    return call_api(put, patience_seconds=20)


def _artifact_url(artifact: UUID) -> str | None:
    base = PREFECT_UI_URL.value()
    return f"{base.rstrip('/')}/artifacts/artifact/{artifact}" if base else None


def _groups(report: Report) -> list[dict[str, Any]]:
    """Return the failures by cause, or none if the letters cannot be read now."""
    try:
        return failure_rows(report)
    except (OSError, ValueError, BatchError):
        return []


def _some_letters(report: Report) -> list[dict[str, Any]]:
    """Return a few of the pass's dead letters as rows of a table, or none if they cannot be read now."""
    columns = ("key", "error_type", "error_message", "stage", "attempts", "failed_at")
    try:
        tables = letter_tables(open_place(report.dead_letters), report.job, columns, report.pass_number)
        letters = [
            row for table in itertools.islice(tables, SHOWN_LETTERS) for row in table[:SHOWN_LETTERS].to_pylist()
        ]
    except (OSError, ValueError, BatchError):
        return []
    return [
        {
            "key": key_text(decode_key(json.loads(letter["key"]))),
            "error": letter["error_type"],
            "message": hide_passwords(letter["error_message"])[:300],
            "stage": letter["stage"],
            "attempts": letter["attempts"],
            "failed at": f"{letter['failed_at']:%Y-%m-%d %H:%M:%S}",
            "status": letter["status"],
        }
        for letter in letters[:SHOWN_LETTERS]
    ]


def publish_event(job: str, run_id: str, name: str, payload: dict[str, Any]) -> None:
    """Emit ``prefect-batch.<name>`` about this job, for Automations."""
    emit_event(
        event=f"prefect-batch.{name}",
        resource={"prefect.resource.id": f"prefect-batch.job.{job}", "prefect.resource.name": job},
        related=[{"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"}],
        payload={"job": job, **payload},
    )


def numbers_of(report: Report) -> dict[str, Any]:
    """Return the payload of an event: the counts of this run, and its status."""
    return {
        "status": report.status,
        "message": report.message,
        "pass": report.pass_number,
        **report.run.encode(),
        "failure_rate": report.run.failure_rate,
        "wall_seconds": report.seconds,
        "read_in_pass": report.whole.read,
        "dead_letters": report.dead_letters,
    }


# More letters than this are grouped by the command line only: the end of a run must not take minutes.
MOST_LETTERS = 50_000


MOST_GROUPS = 100


def failure_rows(report: Report) -> list[dict[str, Any]]:
    """Return the groups of open letters of the run's pass, or of the job for a replay, the largest first."""
    number = None if of_replay(report.job) else report.pass_number
    tables = letter_tables(open_place(report.dead_letters), main_job(report.job), COLUMNS, number, "open")
    letters = (letter for table in tables for letter in table.to_pylist())
    groups = group_letters(itertools.islice(letters, MOST_LETTERS))
    return [
        {
            "group": group.number,
            "records": group.count,
            "error": group.error_type,
            "message": hide_passwords(group.message),
            "example": hide_passwords(group.example_message),
            "its key": group.example_key,
            "in": group.where,
            "first": f"{group.first:%Y-%m-%d %H:%M:%S}",
            "last": f"{group.last:%Y-%m-%d %H:%M:%S}",
        }
        for group in groups[:MOST_GROUPS]
    ]
