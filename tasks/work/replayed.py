"""The rules for a chunk of dead letters: letters without a record fail, letters that succeed are resolved."""

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.capabilities import Replays
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.tasks.work.failure import Failure


def settle(source: Source, chunk: ChunkRange, run_id: str) -> None:
    """Resolve the letters of a committed chunk, if the source is dead letters."""
    if isinstance(source, Replays):
        source.settle(chunk, run_id)


def unread(source: Source, batch: Batch) -> list[Failure]:
    """Return the failures of letters whose records the source no longer has, which come in batches of their own."""
    if not isinstance(source, Replays) or source.missing(batch.row(0)) is None:
        return []
    errors = [source.missing(row) for row in batch.rows]
    return [Failure(place, "read", error, 1) for place, error in enumerate(errors) if error is not None]
