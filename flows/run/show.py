"""What a person sees while a run works: log lines, a progress artifact, a bar."""

import contextlib
import time
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_batch.blocks.jobs import pass_title
from prefect_batch.blocks.keys import key_text
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.flows.run.progress_bar import Draw
from prefect_batch.tasks.plan.chunk_size import MANY_CHUNKS
from prefect_batch.tasks.report.progress import Progress

LOG_SECONDS = 10.0
ARTIFACT_SECONDS = 2.0


class Show:
    """Tells of progress: at most one log line in 10 s, and one update of the artifact in 2 s.

    Without a `run_id` there is no artifact, as in a dry run, which leaves no trace.
    """

    def __init__(self, progress: Progress, run_id: str | None, log: Any, bar: Draw | None) -> None:
        self._progress, self._run_id, self._log, self._bar = progress, run_id, log, bar
        self._logged_at = time.monotonic()
        self._drawn_at = 0.0
        self._artifact: UUID | None = None

    def update(self, *, final: bool = False) -> None:
        """Show the progress of the run."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar(self._progress.whole.read, self._progress.text(now))
        if not final and now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            self._log.info(self._progress.line(now))
        if self._run_id is not None and (final or now - self._drawn_at >= ARTIFACT_SECONDS):
            self._drawn_at = now
            # Progress that cannot be shown is no reason to stop.
            with contextlib.suppress(httpx.HTTPError):
                self._draw(self._progress.headline(now), UUID(self._run_id))

    def _draw(self, line: str, run_id: UUID) -> None:
        share = self._progress.share()
        percent = 0.0 if share is None else round(100 * share, 2)
        if self._artifact is None:
            artifact = ArtifactCreate(
                key=f"batch-{self._progress.job}",
                type="progress",
                description=line,
                data=percent,
                flow_run_id=run_id,
            )
            self._artifact = call_api(lambda client: client.create_artifact(artifact), patience_seconds=0).id
        else:
            existing, update = self._artifact, ArtifactUpdate(data=percent, description=line)
            call_api(lambda client: client.update_artifact(existing, update), patience_seconds=0)


def log_start(parameters: Parameters, cursor: Cursor, concurrency: int, log: Any, *, resumed: bool) -> None:
    """Log what the run is about to do, and warn of what will make it slow."""
    chunk_size = parameters.chunks.chunk_size
    prefix = cursor.position.prefix
    left = cursor.estimate - cursor.tally.read
    log.info(
        "%s %s: about %s records to go in chunks of %s, %s at once%s",
        pass_title(cursor.job, cursor.pass_number),
        f"goes on after key {key_text(prefix)}" if resumed and prefix is not None else "starts",
        f"{left:,}",
        f"{chunk_size:,}" if chunk_size else "adaptive size",
        concurrency,
        "; this is a dry run, nothing is written" if parameters.pass_.dry_run else "",
    )
    context = FlowRunContext.get()
    if parameters.run.max_rate and context and not isinstance(context.task_runner, ThreadPoolTaskRunner):
        log.warning("%s: max_rate slows no chunks that another task runner, such as Dask, has at work", cursor.job)
    chunks = left // (chunk_size or left + 1)
    if chunks > MANY_CHUNKS and parameters.pass_.limit is None:
        log.warning(
            "%s: this makes %s chunks; beyond about %s, Prefect's server loses task runs from its pages and spends "
            "longer on them than the work takes: leave chunk_size out, or take %s",
            cursor.job,
            f"{chunks:,}",
            f"{MANY_CHUNKS:,}",
            f"{-(-left // MANY_CHUNKS):_}",
        )
