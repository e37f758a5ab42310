"""The work on one chunk: read → process → write, then bury → commit → return, in one transaction."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from prefect_batch.blocks.errors import RunStopped
from prefect_batch.blocks.letters import DeadLetters
from prefect_batch.blocks.processor import resolve_processor
from prefect_batch.blocks.sink import SinkTransaction, SqlSink
from prefect_batch.blocks.source import SqlSource
from prefect_batch.blocks.table import Query, Table
from prefect_batch.blocks.transient import is_transient
from prefect_batch.blocks.values import ChunkRange, ChunkResult, Item
from prefect_batch.tasks.count import Count
from prefect_batch.tasks.isolate import isolate
from prefect_batch.tasks.process import Failure, Function, process_batch

__all__ = ["ChunkJob", "abandon", "forget", "work_chunk"]


@dataclass(frozen=True)
class ChunkJob:
    """All that a chunk needs besides its range; it can be pickled, and holds no connection.

    `batch_rows` is the number of records in memory at once; `dead_letters` is a directory.
    """

    job: str
    pass_number: int
    pass_id: str
    run_id: str
    source: Table | Query
    sink: Table
    process: str | Callable[..., Any]
    dead_letters: str
    batch_rows: int = 5_000
    record_retries: int = 0
    dry_run: bool = False


class _Ends(NamedTuple):
    source: SqlSource
    sink: SqlSink
    letters: DeadLetters
    function: Function


# What this process has opened for a run, and the runs that were told to stop at once.
_opened: dict[str, _Ends] = {}
_abandoned: set[str] = set()
_lock = threading.Lock()


def _open(job: ChunkJob) -> _Ends:
    with _lock:
        if job.run_id not in _opened:
            source = job.source.open_source()
            letters = DeadLetters(job.dead_letters, job.job, job.pass_number, source.schema)
            function = resolve_processor(job.process).function
            _opened[job.run_id] = _Ends(source, job.sink.open_sink(), letters, function)
        return _opened[job.run_id]


def abandon(run_id: str) -> None:
    """Make the chunks of this run, in this process, give up at their next batch and roll back."""
    _abandoned.add(run_id)


def forget(run_id: str) -> None:
    """Drop what this process keeps of a run that has ended."""
    _opened.pop(run_id, None)
    _abandoned.discard(run_id)


def work_chunk(job: ChunkJob, chunk: ChunkRange) -> ChunkResult:
    """Process the chunk's records and write them, all in one transaction; what failed is buried before the commit.

    Raises:
        StopBatch: the processor said so.
        RunStopped: the run was told to stop at once.
        Exception: the chunk failed as a whole, and nothing of it was written.
    """
    ends = _open(job)
    if job.dry_run:
        return _rehearse(job, chunk, ends)
    if ends.sink.needs_ledger and (done := _find_in_ledger(job, chunk, ends.sink)):
        return done
    with ends.letters.open(chunk, job.run_id) as burial, _Writing(ends) as writing:
        count = Count(chunk)
        for batch in ends.source.read(chunk, job.batch_rows):
            _check_abandoned(job)
            items, failures = process_batch(ends.function, batch, job.record_retries)
            refused = writing.write(items)
            bad = {item.index for item, _ in refused}
            failures += [Failure(item.index, "write", error, 1) for item, error in refused]
            burial.add(count.add(batch, [item for item in items if item.index not in bad], failures, ends.source))
        _check_abandoned(job)
        result = count.result(burial.finish())
        writing.commit(job, result)
    return result


def _find_in_ledger(job: ChunkJob, chunk: ChunkRange, sink: SqlSink) -> ChunkResult | None:
    with sink.transaction() as transaction:
        done = transaction.find_chunk(job.job, job.pass_number, chunk.digest)
    return ChunkResult.decode(done) if done else None


class _Writing:
    """The chunk's transaction, begun at its first output: the sink's table may have to be made from that."""

    def __init__(self, ends: _Ends) -> None:
        self._ends = ends
        self._stack = contextlib.ExitStack()
        self._transaction: SinkTransaction | None = None

    def __enter__(self) -> "_Writing":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()  # Rolls back what is not committed.

    def write(self, items: list[Item]) -> list[tuple[Item, Exception]]:
        """Write the items; those that the sink refuses come back with its error."""
        if not items:
            return []
        if self._transaction is None:
            self._ends.sink.prepare([row for item in items for row in item.rows], self._ends.source.schema)
        transaction = self._begin()
        return isolate(transaction.write, transaction.savepoint, items, is_transient)

    def commit(self, job: ChunkJob, result: ChunkResult) -> None:
        """Make the chunk's writes durable, together with its row in the ledger."""
        if self._ends.sink.needs_ledger:
            self._begin().record_chunk(job.job, job.pass_number, result.range.digest, result.encode())
        if self._transaction is not None:
            self._transaction.commit()

    def _begin(self) -> SinkTransaction:
        if self._transaction is None:
            self._transaction = self._stack.enter_context(self._ends.sink.transaction())
        return self._transaction


def _rehearse(job: ChunkJob, chunk: ChunkRange, ends: _Ends) -> ChunkResult:
    """A dry run: the records are processed and counted, and nothing is written anywhere."""
    count = Count(chunk)
    for batch in ends.source.read(chunk, job.batch_rows):
        _check_abandoned(job)
        items, failures = process_batch(ends.function, batch, job.record_retries)
        count.add(batch, items, failures, ends.source)
    return count.result(None)


def _check_abandoned(job: ChunkJob) -> None:
    if job.run_id in _abandoned:
        raise RunStopped(f"{job.job} was told to stop at once; this chunk was rolled back")
