"""The work on one chunk: read → process → write, then bury → commit → return, in one transaction."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.capabilities import GivesTables, InPlace
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, Outcome, decode_outcome
from prefect_batch.blocks.contracts import Sink, SinkTransaction, Source
from prefect_batch.blocks.errors import ChunkIsDone, RowSkipped
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.letters.bury import DeadLetters
from prefect_batch.blocks.letters.redaction import Redaction
from prefect_batch.blocks.opening import PinnedFiles, open_sink, open_source
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.blocks.parameters.specs import SinkSpec, SourceSpec
from prefect_batch.blocks.processor import Processor, resolve_processor
from prefect_batch.tasks.work.count import Count
from prefect_batch.tasks.work.failure import Failure, errors_only
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item, Outputs, first_records, known_schema, places, written
from prefect_batch.tasks.work.process_async import process_async
from prefect_batch.tasks.work.process_record import process_batch
from prefect_batch.tasks.work.process_vectorized import process_vectorized
from prefect_batch.tasks.work.rate_limit import forget_rate_limit, rate_limit_of
from prefect_batch.tasks.work.record_guard import RecordGuard
from prefect_batch.tasks.work.redact_errors import hold, open_redaction, redacted_errors
from prefect_batch.tasks.work.refusals import Refusals
from prefect_batch.tasks.work.replayed import settle, unread
from prefect_batch.tasks.work.stop_signals import check_abandoned, forget_signals
from prefect_batch.tasks.work.trial import Trial


@dataclass(frozen=True)
class ChunkJob:
    """Everything that a chunk needs besides its range. It can be pickled and holds no connection.

    `batch_rows` is the number of records in memory at once, `dead_letters` a directory. `hold_refused`: a chunk whose
    records the sink refuses without exception fails, and its records are not buried. `bury_large`: other chunks have
    passed since this one failed for its size, so that a record that does so alone is to blame. `most_rows`: a chunk of
    more records is done in parts. `trial`: how the records of a single key are tried one by one. `in_place`: whether
    the sink writes to what the source reads. `marked`: the place of the dead letters has the job's marker.
    """

    job: str
    pass_number: int
    pass_id: str
    run_id: str
    source: SourceSpec | PinnedFiles | Letters
    sink: SinkSpec
    process: str | Callable[..., Any]
    dead_letters: str
    batch_rows: int = 5_000
    record_retries: int = 0
    record_timeout: float | None = None
    dry_run: bool = False
    redact: tuple[str, ...] = ()
    hold_refused: bool = False
    in_place: InPlace = "no"
    bury_large: bool = False
    most_rows: int | None = None
    trial: Trial = field(default_factory=Trial)
    marked: bool = False

    @property
    def pass_ref(self) -> PassRef:
        """The pass that it works on."""
        return PassRef(self.job, self.pass_number, self.pass_id)


class Ends(NamedTuple):
    """What the chunks of a run share in a process."""

    source: Source
    sink: Sink
    letters: DeadLetters
    processor: Processor
    redaction: Redaction | None


# What this process has opened for a run.
_opened: dict[str, Ends] = {}
_lock = threading.Lock()


def open_ends(job: ChunkJob) -> Ends:
    """Return the job's ends, which are opened once for a run."""
    with _lock:
        if job.run_id not in _opened:
            source = open_source(job.source)
            letters = DeadLetters(job.dead_letters, job.job, job.pass_number, source.schema, marked=job.marked)
            processor = resolve_processor(job.process)
            redaction = open_redaction(job.redact, dry_run=job.dry_run)
            _opened[job.run_id] = Ends(source, open_sink(job.sink, job.in_place), letters, processor, redaction)
        return _opened[job.run_id]


def forget(run_id: str) -> None:
    """Drop what this process keeps of a run that has ended."""
    _opened.pop(run_id, None)
    forget_signals(run_id)
    forget_rate_limit(run_id)


def work_chunk(
    job: ChunkJob,
    chunk: ChunkRange,
    *,
    guard: RecordGuard | None = None,
    before_commit: Callable[[], None] | None = None,
) -> Outcome:
    """Process the chunk's records and write them in one transaction, unless the ledger has the chunk's outcome.

    Failed records are buried before the commit. In a worker process, `guard` watches over single records, and
    `before_commit` checks that the parent is alive.

    Raises:
        StopBatch: The processor raised it.
        RunStopped: The run has to stop at once.
        SinkRefuses: The sink took none of the records, so that the chunk is held back.
        Exception: The chunk failed as a whole, and nothing of it was written.
    """
    ends = open_ends(job)
    with redacted_errors(ends.redaction), errors_only():
        return _work(job, chunk, ends, guard, before_commit)


def _work(
    job: ChunkJob, chunk: ChunkRange, ends: Ends, guard: RecordGuard | None, before_commit: Callable[[], None] | None
) -> Outcome:
    if job.dry_run:
        return _rehearse(job, chunk, ends, guard)
    if ends.sink.needs_ledger and (done := _find_in_ledger(job, chunk, ends.sink)):
        if isinstance(done, ChunkResult):
            settle(ends.source, chunk, job.run_id)
        return done
    with ends.letters.open(chunk, job.run_id) as burial, _Writing(job, chunk, ends) as writing:
        count = Count(chunk, ends.redaction)
        if job.trial.unread is not None:
            burial.add([count.add_unread(ends.source, job.trial.unread)])
        for processed in _held(_process(job, chunk, ends, guard), ends.sink.held_rows):
            for batch, outputs, failures in processed:
                refused = writing.write(outputs)
                failures += [
                    Failure(places(one)[0], "write", error, 1, one) for one, error in refused if not _is_filtered(error)
                ]
                skipped = [places(one)[0] for one, error in refused if _is_filtered(error)]
                burial.add(count.add(batch, outputs, written(outputs, refused), failures, ends.source, skipped))
        check_abandoned(job.run_id)
        if not job.trial.commits:
            return count.result(None)
        writing.end()
        result = count.result(burial.name)
        writing.record(result)  # First: where another run has committed the chunk, the letters are to stay its own.
        burial.finish()
        if before_commit is not None:
            before_commit()
        if not ends.sink.needs_ledger and ends.letters.split_of(chunk):
            raise ChunkIsDone("the chunk was split while this attempt was at work, and is done in parts")
        writing.commit()
    settle(ends.source, chunk, job.run_id)
    return result


def _is_filtered(error: BaseException) -> bool:
    return isinstance(error, RowSkipped) and error.on_purpose


_Processed = tuple[Batch, list[Outputs], list[Failure]]


def _process(job: ChunkJob, chunk: ChunkRange, ends: Ends, guard: RecordGuard | None) -> Iterator[_Processed]:
    """Yield the chunk's batches, each with its outputs and its failures."""
    source, tables = ends.source, ends.processor.vectorized
    read = source.read_tables if tables and isinstance(source, GivesTables) else source.read
    check, rate_limit = functools.partial(check_abandoned, job.run_id), rate_limit_of(job.run_id)
    for batch, known in job.trial.divide(() if job.trial.unread else read(chunk, job.batch_rows)):
        check()
        rate_limit.wait(len(batch), check)
        hold(ends.redaction, batch)
        failures = unread(source, batch) if known is None else known
        done = known is not None or bool(failures)
        yield (batch, [], failures) if done else (batch, *_process_batch(job, batch, ends, guard))


def _process_batch(
    job: ChunkJob, batch: Batch, ends: Ends, guard: RecordGuard | None
) -> tuple[list[Outputs], list[Failure]]:
    processor = ends.processor
    if processor.vectorized:
        return process_vectorized(processor, batch, ends.source.schema, job.record_retries)
    items: Sequence[Item]
    if processor.form == "async":
        watch = functools.partial(check_abandoned, job.run_id)
        items, failures = process_async(processor, batch, job.record_retries, job.record_timeout, watch)
    else:
        items, failures = process_batch(processor.function, batch, job.record_retries, guard)
    return [items] if items else [], failures


def _held(batches: Iterator[_Processed], rows: int) -> Iterator[list[_Processed]]:
    """Yield the first batches, up to about this many rows, together, and the others one by one.

    Where a sink has a single writer, its transaction then begins when most of the work is done already.
    """
    held: list[_Processed] = []
    for batch in batches:
        held.append(batch)
        rows -= len(batch[0])
        if rows <= 0:
            yield held
            held = []
    if held:
        yield held


def _find_in_ledger(job: ChunkJob, chunk: ChunkRange, sink: Sink) -> Outcome | None:
    with sink.transaction(job.pass_ref, chunk) as transaction:
        done = transaction.find()
    return decode_outcome(done) if done else None


class _Writing:
    """The chunk's transaction, begun at its first output: the sink's table may have to be made from that."""

    def __init__(self, job: ChunkJob, chunk: ChunkRange, ends: Ends) -> None:
        self._job, self._chunk, self._ends = job, chunk, ends
        self._refusals = Refusals(hold=job.hold_refused)
        self._stack = contextlib.ExitStack()
        self._transaction: SinkTransaction | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()  # Rolls back what is not committed.

    def write(self, outputs: list[Outputs]) -> list[tuple[Outputs, BaseException]]:
        """Write the outputs, and return the records that the sink refuses, each alone with its error.

        Raises:
            SinkRefuses: The sink has taken none of the chunk's records so far, and these were enough.
        """
        if outputs and self._transaction is None:
            first = outputs[0]
            self._ends.sink.prepare(first_records(first), known_schema(first, self._ends.source.schema))
        return [refused for part in outputs for refused in isolate(self._begin(), part, self._refusals)]

    def end(self) -> None:
        """All records were offered.

        Raises:
            SinkRefuses: the sink took none of them.
        """
        self._refusals.end()

    def record(self, result: ChunkResult) -> None:
        """Write the chunk's row in the ledger, if there is one."""
        transaction = self._begin()  # Also without outputs: an earlier attempt of the chunk may have had some.
        if self._ends.sink.needs_ledger:
            transaction.record(result.encode())

    def commit(self) -> None:
        """Make the chunk's writes durable, together with its row in the ledger."""
        self._begin().commit()

    def _begin(self) -> SinkTransaction:
        if self._transaction is None:
            self._transaction = self._stack.enter_context(self._ends.sink.transaction(self._job.pass_ref, self._chunk))
        return self._transaction


def _rehearse(job: ChunkJob, chunk: ChunkRange, ends: Ends, guard: RecordGuard | None) -> ChunkResult:
    """Process and count the records for a dry run, without writing anything."""
    count = Count(chunk, ends.redaction)
    if job.trial.unread is not None:
        count.add_unread(ends.source, job.trial.unread)
    for batch, outputs, failures in _process(job, chunk, ends, guard):
        count.add(batch, outputs, written(outputs, []), failures, ends.source)
    return count.result(None)
