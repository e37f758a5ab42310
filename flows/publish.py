"""The report of a run as an artifact and an event; both are extras that never change the outcome of the run."""

from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.events import emit_event

from prefect_batch.blocks.api import open_client
from prefect_batch.tasks.report import Report

__all__ = ["publish_event", "publish_report"]


def publish_report(report: Report) -> None:
    """Write the run's report artifact, or write it anew; a run has one, however often this is called."""
    key = f"batch-report-{report.job}"
    with open_client() as client:
        existing = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(report.run_id)])
            )
        )
        if existing:
            client.update_artifact(existing[0].id, ArtifactUpdate(data=report.markdown()))
        else:
            artifact = ArtifactCreate(
                key=key, type="markdown", data=report.markdown(), flow_run_id=UUID(report.run_id),
                description=f"{report.job}: pass {report.pass_number} {report.status}",
            )
            client.create_artifact(artifact)


def publish_event(report: Report, name: str) -> None:
    """Emit ``prefect-batch.run.<name>`` with the run's counts, for automations."""
    emit_event(
        event=f"prefect-batch.run.{name}",
        resource={"prefect.resource.id": f"prefect-batch.job.{report.job}", "prefect.resource.name": report.job},
        related=[
            {"prefect.resource.id": f"prefect.flow-run.{report.run_id}", "prefect.resource.role": "flow-run"},
        ],
        payload={"status": report.status, "message": report.message, "pass": report.pass_number, **report.run.encode()},
    )
