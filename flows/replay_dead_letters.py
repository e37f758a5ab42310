"""The flow `replay_dead_letters`, which runs a job's function over its dead letters once the cause is fixed."""

from datetime import datetime
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from prefect_batch.blocks.errors import BatchError
from prefect_batch.blocks.parameters.form import Tabs
from prefect_batch.flows.process_records import Process
from prefect_batch.flows.reporting.hooks import enforce_threshold, report_cancellation, report_crash, report_failure
from prefect_batch.flows.run.ending import failed
from prefect_batch.flows.run.parameters import ChunkParameters, FailureParameters, RunParameters, part_of
from prefect_batch.flows.run.replay import Replay, replay
from prefect_batch.flows.run.secret_parameters import keep_secrets_out
from prefect_batch.tasks.letters.choose import Selection
from prefect_batch.tasks.report.report import Report

# No `from __future__ import annotations` here: Prefect builds the parameters' form from the real types.


@keep_secrets_out
@flow(
    name="replay-dead-letters",
    flow_run_name="{job} replay",
    validate_parameters=True,
    on_completion=[enforce_threshold],
    on_failure=[report_failure],
    on_crashed=[report_crash],
    on_cancellation=[report_cancellation],
)
def replay_dead_letters(
    job: str,
    process: Process | None = None,
    from_: Annotated[Literal["letter", "source"] | None, Tabs(("choose", "by itself"))] = None,
    pass_number: Annotated[int | None, Tabs(("pass", "latest"))] = None,
    error_type: Annotated[str | None, Tabs(("type", "any"))] = None,
    message: Annotated[str | None, Tabs(("text", "any"))] = None,
    key: Annotated[str | list[str] | None, Tabs(("one", "several", "any"))] = None,
    since: Annotated[datetime | None, Tabs(("time", "any"))] = None,
    until: Annotated[datetime | None, Tabs(("time", "any"))] = None,
    where: Annotated[str | None, Tabs(("condition", "any"))] = None,
    limit: Annotated[int | None, Tabs(("letters", "all"))] = None,
    dry_run: bool = False,
    restart: bool = False,
    max_failure_rate: float = 0.99,
    max_failures: Annotated[int | None, Tabs(("records", "no limit"))] = None,
    min_records: int = 1_000,
    chunk_size: Annotated[int | None, Tabs(("records", "adaptive"))] = None,
    concurrency: Annotated[int | None, Tabs(("chunks", "by itself"))] = None,
    retries: int = 5,
    retry_delay_seconds: float = 1.0,
    record_retries: int = 0,
    record_timeout: Annotated[float | None, Tabs(("seconds", "no limit"))] = None,
    workers: Annotated[Literal["processes", "threads"] | None, Tabs(("choose", "by itself"))] = None,
    max_memory_mb: Annotated[int | None, Tabs(("MB", "half of the memory"))] = None,
) -> Report | State:
    """Run a job's function over its open dead letters again, and write what succeeds to the job's sink.

    A record that succeeds resolves its letter. A record that fails stays an open letter, with one more attempt. The
    letters are chosen when the replay begins. Interrupt it in any way and call it again: it resumes where it left off.

    Args:
        job: The job whose letters are replayed.
        process: The function: package.module:function, marked with @processor; the job's own if empty.
        from_: letter takes the records as they failed; source reads them again by their keys. If empty, letter, but
            source where columns of the letters are redacted, or where the job writes to the table that it reads.
        pass_number: Letters of this pass; if empty, of the latest, and of an incremental job of all.
        error_type: Letters with this type of error, with or without its module.
        message: Letters with this text in their message, or the whole message of a group of failures.
        key: Letters of the records with this key, or with one of these keys, as failures shows them.
        since: Letters of records that failed then or later; UTC if no zone is given.
        until: Letters of records that failed before; UTC if no zone is given.
        where: An SQL condition on the letters, such as error_type = 'ValueError' AND record.qty < 0.
        limit: Stop after about this many letters; a later replay resumes there.
        dry_run: Process and report, but write and resolve nothing.
        restart: Abandon an interrupted replay, and select letters again.
        max_failure_rate: The share of letters, from 0 to 1, that may fail again: by default it stops if hardly any
            succeeds.
        max_failures: The number of letters that may fail again; no limit if empty.
        min_records: Letters that must have been read before the rate is checked.
        chunk_size: Letters per chunk: one transaction, one checkpoint. If empty, as many as take 5 seconds.
        concurrency: Chunks that run at the same time. By default one per core, at most 4; with threads and SQLite, 1.
        retries: How often a chunk is tried again after a passing error, such as a lost connection.
        retry_delay_seconds: Seconds before the first retry; doubled before each further one, up to 15.
        record_retries: How often a record that fails is tried again.
        record_timeout: Seconds that one record may take before it fails; no limit if empty.
        workers: processes or threads; if empty, processes for many records on more than one core.
        max_memory_mb: Beyond this, batches get smaller, then fewer chunks run. By default half of the memory.

    Returns:
        The report of this replay.

    Raises:
        Refused: It cannot start as it is asked for, or the job is running; the message says what to do.
        FailureRateExceeded: too many letters failed again; they stay open letters.
        ChunkFailed: a chunk failed as a whole.
        RunStopped: the processor raised `StopBatch`.
    """
    given = locals()
    try:
        failures, chunks, run = (part_of(part, given) for part in (FailureParameters, ChunkParameters, RunParameters))
        selection = part_of(Selection, given)
        return replay(Replay(job, process, from_, selection, limit, dry_run, restart, failures, chunks, run))
    except BatchError as error:
        # Returned as a state, so that its message is the run's and the log has no traceback. A caller gets it raised.
        return failed(error)
