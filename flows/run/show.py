"""What a person sees while a run is at work: log lines, a progress artifact, a bar."""

import contextlib
import time
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.flows.run.progress_bar import Draw
from prefect_batch.tasks.report.progress import Progress

__all__ = ["Show"]

LOG_SECONDS = 10.0
ARTIFACT_SECONDS = 2.0


class Show:
    """Tells of progress: at most one log line in 10 s, and one update of the artifact in 2 s."""

    def __init__(self, progress: Progress, run_id: str, log: Any, bar: Draw | None) -> None:
        self._progress, self._run_id, self._log, self._bar = progress, run_id, log, bar
        self._logged_at = time.monotonic()
        self._drawn_at = 0.0
        self._artifact: UUID | None = None

    def update(self, *, final: bool = False) -> None:
        """Show where the run stands now."""
        now = time.monotonic()
        line = self._progress.line(now)
        if self._bar is not None:
            self._bar(self._progress.whole.read, line.partition(": ")[2])
        if not final and now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            self._log.info(line)
        if final or now - self._drawn_at >= ARTIFACT_SECONDS:
            self._drawn_at = now
            # Progress that cannot be shown is no reason to stop.
            with contextlib.suppress(httpx.HTTPError):
                self._draw(self._progress.headline(now))

    def _draw(self, line: str) -> None:
        share = self._progress.share()
        percent = 0.0 if share is None else round(100 * share, 2)
        if self._artifact is None:
            artifact = ArtifactCreate(
                key=f"batch-{self._progress.job}",
                type="progress",
                description=line,
                data=percent,
                flow_run_id=UUID(self._run_id),
            )
            self._artifact = call_api(lambda client: client.create_artifact(artifact), patience_seconds=0).id
        else:
            existing, update = self._artifact, ArtifactUpdate(data=percent, description=line)
            call_api(lambda client: client.update_artifact(existing, update), patience_seconds=0)
