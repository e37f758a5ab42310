"""Looking after a run between its chunks, at least once a second: what may stop it, slow it or change it."""

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_batch.blocks.errors import DiskNearlyFull
from prefect_batch.blocks.parameters.run_window import RunWindow, clock_text
from prefect_batch.blocks.state.ownership import Ownership
from prefect_batch.blocks.state.requests import RunRequest, changes_text
from prefect_batch.blocks.state.samples import Sample
from prefect_batch.flows.run.health_watch import HealthWatch
from prefect_batch.flows.run.listening import Listener
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.flows.run.resources import Sampler
from prefect_batch.tasks.plan.chunk_size import TARGET_SECONDS, ChunkSizer
from prefect_batch.tasks.report.progress import duration_text
from prefect_batch.tasks.work.rate_limit import set_pace
from prefect_batch.tasks.workers.pool import pool_of, refuse_waiting, worker_pids

if TYPE_CHECKING:
    from prefect_batch.flows.run.walk import Walk

__all__ = ["Attendant", "attendance"]


@dataclass
class Attendant:
    """What a walk asks to look after it, in the main thread; looking at the world itself goes on in other threads.

    `max_seconds` is how long the run may take, and `min_free_bytes` what must stay free on every disk that it fills.
    """

    sampler: Sampler
    listener: Listener
    health: HealthWatch
    sizer: ChunkSizer
    window: RunWindow | None
    max_seconds: float | None
    min_free_bytes: int
    max_rate: float | None
    log: Any
    began_at: float = field(default_factory=time.monotonic)
    _applied: dict[str, Any] = field(default_factory=dict)

    def __call__(self, walk: "Walk") -> None:
        """Look after the walk now."""
        self._mind_stop(walk)
        self._mind_disks(walk)
        if self.listener.heard is not None and self.listener.heard.changes != self._applied:
            self._tune(walk, self.listener.heard)
        self._mind_health(walk)
        self._pace(walk)
        self._note(walk, final=False)

    def end(self, walk: "Walk") -> None:
        """Look for the last time: what the run took goes into its report."""
        self.sampler.measure()
        self._note(walk, final=True)

    def _mind_stop(self, walk: "Walk") -> None:
        heard = self.listener.heard
        if heard is not None and heard.stop:
            walk.request.ask(f"stopped by {heard.by}", at_once=heard.stop == "now")
        elif self.max_seconds is not None and time.monotonic() - self.began_at >= self.max_seconds:
            walk.request.ask(f"stopped after its max_duration of {duration_text(self.max_seconds)}")
        elif self.window is not None and not self.window.is_open(now := datetime.now(timezone.utc)):
            opens = clock_text(self.window.opens_at(now), now)
            walk.request.ask(
                f"stopped because its run window {self.window.text} closed",
                f"its next run goes on where it stood, once the window has opened again at {opens}",
            )

        if walk.request.reason and not walk.cursor.message:
            walk.cursor = replace(walk.cursor, message=f"stopping: {walk.request.reason}")

    def _mind_disks(self, walk: "Walk") -> None:
        for name, free in self.sampler.seen.free_bytes.items():
            if free >= self.min_free_bytes or walk.problem:
                continue
            least = self.min_free_bytes // 2**20
            walk.problem = DiskNearlyFull(
                f"{walk.job.job}: only {free // 2**20:,} MB are free where the {name} lie "
                f"({self.sampler.places[name]}), less than min_free_disk_mb={least}; the run stopped before that disk "
                "is full. Free some space, or allow less, and call the job again: it goes on where it stopped."
            )
            refuse_waiting(walk.job.run_id)

    def _tune(self, walk: "Walk", heard: RunRequest) -> None:
        self._applied = changes = heard.changes
        if "concurrency" in changes:
            walk.concurrency = self.sizer.at_once = changes["concurrency"]
            if pool := pool_of(walk.job.run_id):
                pool.grow(walk.concurrency)
        if "max_rate" in changes:
            self.max_rate = changes["max_rate"]
        walk.policy = replace(walk.policy, **{n: v for n, v in changes.items() if n in asdict(walk.policy)})
        walk.cursor = replace(walk.cursor, run=replace(walk.cursor.run, policy=asdict(walk.policy)))
        walk.judge()
        self.log.info("%s: tuned by %s: %s", walk.job.job, heard.by, changes_text(changes))

    def _mind_health(self, walk: "Walk") -> None:
        """Hold further chunks back while a check says so; told once in the log, and always in progress and cursor."""
        reason = self.health.reason()
        walk.progress.wait(reason, time.monotonic(), idle=not walk.in_flight)
        if bool(reason) != bool(walk.waiting):
            self.log.info("%s: %s", walk.job.job, f"waits: {reason}" if reason else "goes on")
        if reason != walk.waiting:
            walk.waiting = reason
            walk.cursor = replace(walk.cursor, run=replace(walk.cursor.run, waiting=reason))

    def _pace(self, walk: "Walk") -> None:
        """Share the permitted rate out over the chunks at work, and keep chunks and batches as short as ever."""
        rate, at_work = self.max_rate or 0.0, max(1, min(walk.concurrency, len(walk.in_flight)))
        set_pace(walk.job.run_id, rate)
        if pool := pool_of(walk.job.run_id):
            pool.set_pace(rate / at_work)
        walk.most_batch_rows = max(1, int(rate / walk.concurrency)) if rate else None
        self.sizer.bound(max(1, int(rate / walk.concurrency * TARGET_SECONDS)) if rate else None)

    def _note(self, walk: "Walk", *, final: bool) -> None:
        """Put a sample into the run's series, if it is time for one, and with it the latest measurement."""
        run, seen = walk.cursor.run, self.sampler.seen
        since = datetime.now(timezone.utc) - datetime.fromisoformat(run.started_at)
        sample = Sample(
            at=round(since.total_seconds(), 2),
            read=run.tally.read,
            failed=run.tally.failed,
            chunks=run.tally.chunks,
            chunk_seconds=round(run.tally.seconds, 2),
            cpu_seconds=seen.cpu_seconds,
            rss_bytes=seen.rss_bytes,
            free_bytes=min(seen.free_bytes.values(), default=None),
            connections=seen.connections + walk.worker_connections,
            waited_seconds=round(walk.progress.waited(time.monotonic()), 1),
        )
        series = run.series.add(sample, final=final)
        if series is run.series:
            return
        resources = {
            **run.resources,
            "cpu_seconds": round(seen.cpu_seconds, 1),
            "cores": _cores(run.series.samples[-1:], sample),
            "rss_bytes": seen.rss_bytes,
            "peak_rss_bytes": max(self.sampler.peak_rss_bytes, run.resources.get("peak_rss_bytes", 0)),
            "free_bytes": dict(seen.free_bytes),
            "connections": sample.connections,
            "waited_seconds": sample.waited_seconds,
        }
        limits = {"concurrency": walk.concurrency, "max_rate": self.max_rate}
        walk.cursor = replace(walk.cursor, run=replace(run, series=series, resources=resources, limits=limits))


def _cores(before: Sequence[Sample], now: Sample) -> float:
    """How many cores were busy since the last sample; 0 where that was just now."""
    since = before[-1] if before else Sample(0.0)
    return round((now.cpu_seconds - since.cpu_seconds) / (now.at - since.at), 2) if now.at > since.at else 0.0


@contextlib.contextmanager
def attendance(
    parameters: Parameters,
    run_id: str,
    owner: Ownership | None,
    places: Mapping[str, Path],
    sizer: ChunkSizer,
    log: Any,
) -> Iterator[Attendant]:
    """Somebody to look after the run for the length of the block; `owner` is None for a dry run."""
    with (
        Sampler(functools.partial(worker_pids, run_id), places) as sampler,
        Listener(owner) as listener,
        HealthWatch(parameters.health) as health,
    ):
        yield Attendant(
            sampler=sampler,
            listener=listener,
            health=health,
            sizer=sizer,
            window=parameters.window,
            max_seconds=parameters.max_seconds,
            min_free_bytes=parameters.min_free_disk_mb * 2**20,
            max_rate=parameters.max_rate,
            log=log,
        )
