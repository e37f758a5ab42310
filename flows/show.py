"""What a person sees while a run is at work: log lines, a progress artifact, a bar on a terminal."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from prefect_batch.blocks.api import open_client
from prefect_batch.tasks.progress import Progress

__all__ = ["Show", "bar_on_terminal"]

LOG_SECONDS = 10.0
ARTIFACT_SECONDS = 2.0


@contextlib.contextmanager
def bar_on_terminal(total: int | None) -> Iterator[Bar | None]:
    """A bar at the bottom of the terminal, or None where stderr is not a terminal (a file, a worker's pipe)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (BarColumn(bar_width=30), TextColumn("{task.description}"))
    with Bar(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        bar.add_task("starting", total=total)
        yield bar


class Show:
    """Tells of progress: at most one log line in 10 s, and one update of the artifact in 2 s."""

    def __init__(self, progress: Progress, run_id: str, log: Any, bar: Bar | None) -> None:
        self._progress, self._run_id, self._log, self._bar = progress, run_id, log, bar
        self._logged_at = time.monotonic()
        self._drawn_at = 0.0
        self._artifact: UUID | None = None

    def update(self, *, final: bool = False) -> None:
        """Show where the run stands now."""
        now = time.monotonic()
        line = self._progress.line(now)
        if self._bar is not None:
            done = self._progress.whole.read
            self._bar.update(self._bar.task_ids[0], completed=done, description=line.partition(": ")[2])
        if not final and now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            self._log.info(line)
        if final or now - self._drawn_at >= ARTIFACT_SECONDS:
            self._drawn_at = now
            # Progress that cannot be shown is no reason to stop.
            with contextlib.suppress(httpx.HTTPError):
                self._draw(line)

    def _draw(self, line: str) -> None:
        share = self._progress.share()
        percent = 0.0 if share is None else round(100 * share, 2)
        with open_client() as client:
            if self._artifact is None:
                artifact = ArtifactCreate(
                    key=f"batch-{self._progress.job}",
                    type="progress",
                    description=line,
                    data=percent,
                    flow_run_id=UUID(self._run_id),
                )
                self._artifact = client.create_artifact(artifact).id
            else:
                client.update_artifact(self._artifact, ArtifactUpdate(data=percent, description=line))
