"""What a run and its worker processes say to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.tasks.work.trial import Trial
from prefect_batch.tasks.work.work_chunk import ChunkJob


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker gets at its start: the run's job, its function in bytes, and where to import from.

    `urls` are the URLs behind ``secret/…`` and ``env/…``, which the worker would need Prefect to look up, as it would
    the `redaction_key`.
    """

    job: ChunkJob
    function: bytes | None
    path: list[str]
    urls: dict[str, str]
    timeout_seconds: float | None
    redaction_key: bytes | None = None


@dataclass(frozen=True)
class WorkOrder:
    """A chunk to work on in such batches, and the records in it that are not to be tried again.

    `hold_refused`: the chunk is held back if the sink takes none of its records. `trial`: its records are tried alone.
    """

    chunk: ChunkRange
    batch_rows: int
    doomed: Mapping[int, Exception]
    hold_refused: bool
    trial: Trial = field(default_factory=Trial)


@dataclass(frozen=True)
class LogLine:
    """A line of the worker's log."""

    level: int
    text: str
