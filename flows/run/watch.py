"""Watching over a run between its chunks, at least once a second: what may stop it, slow it or change it."""

import contextlib
import functools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx

from prefect_batch.blocks.errors import DiskNearlyFull
from prefect_batch.blocks.parameters.run_window import RunWindow, clock_text
from prefect_batch.blocks.state.cursor import RunState
from prefect_batch.blocks.state.ownership import Ownership
from prefect_batch.blocks.state.requests import RunRequest, changes_text, forget_request, read_request
from prefect_batch.blocks.state.samples import Sample
from prefect_batch.flows.run.health_watch import HealthWatch
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.flows.run.resources import Resources, Sampler
from prefect_batch.flows.run.run_limits import RunLimits
from prefect_batch.tasks.plan.chunk_size import TARGET_SECONDS, ChunkSizer
from prefect_batch.tasks.report.progress import duration_text
from prefect_batch.tasks.work.rate_limit import set_rate_limit
from prefect_batch.tasks.workers.pool import pool_of, refuse_waiting, worker_pids

LISTEN_SECONDS = 2.0


class Listener:
    """Reads the requests to the owner of a job while it is entered, and keeps the latest as `heard`.

    A dry run has no owner, and takes no requests.
    """

    def __init__(self, owner: Ownership | None) -> None:
        self.heard: RunRequest | None = None
        self._owner = owner
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(owner,), name="batch-requests", daemon=True)

    def __enter__(self) -> Self:
        if self._owner is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        if self._owner is None:
            return
        self._thread.join()
        if self.heard is not None:
            with contextlib.suppress(httpx.HTTPError):
                forget_request(self._owner.job)

    def _listen(self, owner: Ownership) -> None:
        while not self._ended.wait(LISTEN_SECONDS):
            # A server that is away is asked again; the walk itself notices when it stays away.
            with contextlib.suppress(httpx.HTTPError):
                self.heard = read_request(owner.job, owner.owner.token) or self.heard


@dataclass
class RunWatch:
    """Sets the limits of a run in the main thread, from what other threads measure and read.

    `max_seconds` is how long the run may take, and `min_free_bytes` what must stay free on every disk that it fills.
    """

    job: str
    run_id: str
    limits: RunLimits
    sampler: Sampler
    listener: Listener
    health: HealthWatch
    sizer: ChunkSizer
    window: RunWindow | None
    max_seconds: float | None
    min_free_bytes: int
    log: Any
    began_at: float = field(default_factory=time.monotonic)
    _applied: dict[str, Any] = field(default_factory=dict)

    def look(self, at_work: int) -> None:
        """Set the limits again, while this many chunks are running."""
        self._check_stop()
        self._check_disks()
        if self.listener.heard is not None and self.listener.heard.changes != self._applied:
            self._tune(self.listener.heard)
        self._check_health()
        self._divide_rate(at_work)

    def _check_stop(self) -> None:
        heard, request = self.listener.heard, self.limits.request
        if heard is not None and heard.stop:
            request.ask(f"stopped by {heard.by}", at_once=heard.stop == "now")
        elif self.max_seconds is not None and time.monotonic() - self.began_at >= self.max_seconds:
            request.ask(f"stopped after its max_duration of {duration_text(self.max_seconds)}")
        elif self.window is not None and not self.window.is_open(now := datetime.now(UTC)):
            opens = clock_text(self.window.opens_at(now), now)
            request.ask(
                f"stopped because its run window {self.window.text} closed",
                f"its next run goes on where it stood, once the window has opened again at {opens}",
            )

    def _check_disks(self) -> None:
        for name, free in self.sampler.seen.free_bytes.items():
            if free >= self.min_free_bytes or self.limits.problem:
                continue
            place = str(self.sampler.places[name])
            self.limits.problem = DiskNearlyFull(self.job, name, place, free, self.min_free_bytes)
            refuse_waiting(self.run_id)

    def _tune(self, heard: RunRequest) -> None:
        limits, changes = self.limits, heard.changes
        self._applied = changes
        if "concurrency" in changes:
            limits.concurrency = self.sizer.at_once = changes["concurrency"]
            if pool := pool_of(self.run_id):
                pool.grow(limits.concurrency)
        limits.max_rate = changes.get("max_rate", limits.max_rate)
        limits.policy = replace(limits.policy, **{n: v for n, v in changes.items() if n in asdict(limits.policy)})
        self.log.info("%s: tuned by %s: %s", self.job, heard.by, changes_text(changes))

    def _check_health(self) -> None:
        """Start no further chunks while a health check fails, and log when this begins and ends."""
        reason = self.health.reason()
        if bool(reason) != bool(self.limits.waits_for):
            self.log.info("%s: %s", self.job, f"waits: {reason}" if reason else "goes on")
        self.limits.waits_for = reason

    def _divide_rate(self, at_work: int) -> None:
        """Divide the permitted rate among the running chunks, and keep chunks short."""
        rate = self.limits.max_rate or 0.0
        set_rate_limit(self.run_id, rate)
        if pool := pool_of(self.run_id):
            pool.set_rate_limit(rate / max(1, min(self.limits.concurrency, at_work)))
        self.sizer.bound(self.limits.rows_at_rate(TARGET_SECONDS))

    def note(self, run: RunState, waited_seconds: float, worker_connections: int, *, final: bool) -> RunState:
        """Return the state of the run with its present limits and, if one is due, a sample of its resources.

        Args:
            run: The state so far, which is returned itself if nothing has changed.
            waited_seconds: How long the run has waited, with no chunk running.
            worker_connections: The connections that its worker processes hold.
            final: Whether the run ends, so that its resources are measured and go into its report.
        """
        limits = self.limits
        if final:
            self.sampler.measure()
        policy = asdict(limits.policy)
        if (run.policy, run.waiting) != (policy, limits.waits_for):
            run = replace(run, policy=policy, waiting=limits.waits_for)
        seen = self.sampler.seen
        sample = _sample(run, seen, round(waited_seconds, 1), worker_connections)
        series = run.series.add(sample, final=final)
        if series is run.series:
            return run
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
        now = {"concurrency": limits.concurrency, "max_rate": limits.max_rate}
        return replace(run, series=series, resources=resources, limits=now)


def _sample(run: RunState, seen: Resources, waited_seconds: float, worker_connections: int) -> Sample:
    """Return the present state of the run as a point of its series."""
    since = datetime.now(UTC) - datetime.fromisoformat(run.started_at)
    return Sample(
        at=round(since.total_seconds(), 2),
        read=run.tally.read,
        failed=run.tally.failed,
        chunks=run.tally.chunks,
        chunk_seconds=round(run.tally.seconds, 2),
        cpu_seconds=seen.cpu_seconds,
        rss_bytes=seen.rss_bytes,
        free_bytes=min(seen.free_bytes.values(), default=None),
        connections=seen.connections + worker_connections,
        waited_seconds=waited_seconds,
    )


def _cores(before: Sequence[Sample], now: Sample) -> float:
    """Return how many cores were busy since the last sample, or 0 if no time has passed since then."""
    since = before[-1] if before else Sample(0.0)
    return round((now.cpu_seconds - since.cpu_seconds) / (now.at - since.at), 2) if now.at > since.at else 0.0


@contextlib.contextmanager
def watch_run(
    run_id: str,
    owner: Ownership | None,
    places: Mapping[str, Path],
    parameters: Parameters,
    limits: RunLimits,
    sizer: ChunkSizer,
    log: Any,
) -> Iterator[RunWatch]:
    """Watch over a run for the length of the block. `owner` is None for a dry run."""
    with (
        Sampler(functools.partial(worker_pids, run_id), places) as sampler,
        Listener(owner) as listener,
        HealthWatch(parameters.run.health or ()) as health,
    ):
        yield RunWatch(
            job=parameters.what.job,
            run_id=run_id,
            limits=limits,
            sampler=sampler,
            listener=listener,
            health=health,
            sizer=sizer,
            window=parameters.run.window,
            max_seconds=parameters.run.max_seconds,
            min_free_bytes=parameters.run.min_free_disk_mb * 2**20,
            log=log,
        )
