"""What a run takes of its machine, measured every few seconds by a thread of its own."""

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
from prefect.filesystems import LocalFileSystem
from prefect.results import get_result_store

from prefect_batch.blocks.contracts import Sink
from prefect_batch.blocks.databases.connections import open_connections

SAMPLE_SECONDS = 2.0


@dataclass(frozen=True)
class Resources:
    """The resources that this process and the run's workers use together, without those of Dask or Ray.

    Attributes:
        cpu_seconds: Since the run began.
        free_bytes: By what the directory is for.
        connections: Of this process alone.
    """

    cpu_seconds: float = 0.0
    rss_bytes: int = 0
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    connections: int = 0


class Sampler:
    """Measures while it is entered, and keeps the latest measurement as `seen`.

    `workers` returns the ids of the worker processes, and `places` are the directories whose disks must not fill up.
    """

    def __init__(self, workers: Callable[[], Iterable[int]], places: Mapping[str, Path]) -> None:
        self.places = places
        self.peak_rss_bytes = 0
        self._workers = workers
        self._processes: dict[int, psutil.Process] = {}
        self._cpu: dict[int, float] = {}
        self._self = psutil.Process()
        self._before = _cpu_seconds(self._self)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure_on, name="batch-resources", daemon=True)
        self.seen = Resources()

    def __enter__(self) -> Self:
        self.measure()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()

    def _measure_on(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.measure()

    def measure(self) -> Resources:
        """Measure now."""
        rss = self._self.memory_info().rss
        for pid in self._workers():
            # A worker may have ended: what it took before then stays in the sum.
            with contextlib.suppress(psutil.Error):
                process = self._processes.setdefault(pid, psutil.Process(pid))
                with process.oneshot():
                    self._cpu[pid] = _cpu_seconds(process)
                    rss += process.memory_info().rss
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
        spent = _cpu_seconds(self._self) - self._before + sum(self._cpu.values())
        free = {}
        for name, place in self.places.items():
            with contextlib.suppress(OSError):
                free[name] = shutil.disk_usage(nearest_directory(place)).free
        self.seen = Resources(round(spent, 2), rss, free, open_connections())
        return self.seen


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def places_of(dead_letters: str, sink: Sink) -> dict[str, Path]:
    """Return the local directories that a run fills: with dead letters, Prefect's results and the sink's rows.

    They have the names that messages use. Remote places, such as an object store, are not among them.
    """
    places = {"dead letters": Path(dead_letters)} if dead_letters and "://" not in dead_letters else {}
    storage = get_result_store().result_storage
    if isinstance(storage, LocalFileSystem) and storage.basepath:
        places["results"] = Path(storage.basepath).expanduser()
    if sink.fills is not None:
        places["rows of the sink"] = sink.fills
    return places


def nearest_directory(place: Path) -> Path:
    """Return the directory itself, or the nearest one above it that exists."""
    return next(directory for directory in (place, *place.absolute().parents) if directory.is_dir())
