"""The flow `process_records`: a function over every record of a table, restartable."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.states import State
from pydantic import BeforeValidator, Field, WithJsonSchema

from prefect_batch.blocks.table import Query, Table
from prefect_batch.flows.hooks import enforce_threshold, report_cancellation, report_crash, report_failure
from prefect_batch.flows.parameters import Parameters
from prefect_batch.flows.run import run_job
from prefect_batch.tasks.report import Report

# No `from __future__ import annotations` here: Prefect builds the parameters' form from the real types.

__all__ = ["process_records"]


def _check_process(process: Any) -> Any:
    """The parameter as it is: a function in a direct call, an import path in a deployment."""
    if not isinstance(process, str) and not callable(process):
        raise ValueError("process must be a function, or an import path such as 'shop.orders:clean'")
    return process


Process = Annotated[
    Any,
    BeforeValidator(_check_process),
    WithJsonSchema({"type": "string", "title": "Process", "description": "package.module:function, a @processor"}),
]


@flow(
    name="process-records",
    flow_run_name="{job}",
    validate_parameters=True,
    on_completion=[enforce_threshold],
    on_failure=[report_failure],
    on_crashed=[report_crash],
    on_cancellation=[report_cancellation],
)
def process_records(
    job: Annotated[str, Field(description="The job's name: lowercase letters, digits and dashes.")],
    source: Annotated[Table | Query, Field(discriminator="kind", description="Where the records come from.")],
    process: Process,
    sink: Annotated[Table, Field(description="Where the results go.")],
    chunk_size: Annotated[int, Field(description="Records per chunk: one transaction, one checkpoint.")] = 50_000,
    concurrency: Annotated[
        int | None, Field(description="Chunks at work at once; by default 1 with SQLite, else one per core.")
    ] = None,
    retries: Annotated[int, Field(description="How often a chunk is tried again after a passing error.")] = 5,
    retry_delay_seconds: Annotated[float, Field(description="The first delay; each further one is doubled.")] = 1.0,
    max_failure_rate: Annotated[float, Field(description="Share of failed records, 0 to 1, that may not be exceeded.")] = 0.05,
    min_records: Annotated[int, Field(description="Records read before the rate is judged.")] = 1_000,
    max_failures: Annotated[int | None, Field(description="Failed records that may not be exceeded.")] = None,
    record_retries: Annotated[int, Field(description="How often one failing record is tried again.")] = 0,
    limit: Annotated[int | None, Field(description="Stop after about this many records; a later run goes on.")] = None,
    dry_run: Annotated[bool, Field(description="Process and report, but write nothing and save nothing.")] = False,
    restart: Annotated[bool, Field(description="Give up an unfinished pass and start a new one.")] = False,
    mode: Annotated[
        Literal["full", "incremental"],
        Field(description="full: every pass reads everything; incremental: only keys beyond the former pass."),
    ] = "full",
    overlap: Annotated[
        int | timedelta | None,
        Field(description="Incremental: read this many records, or this time, before the former end again."),
    ] = None,
    dead_letters: Annotated[str | None, Field(description="A directory for the failed records.")] = None,
) -> Report | State:
    """Run a function over every record of a table, so that it survives bad records, crashes and restarts.

    Interrupt it in any way and call it again: it goes on where it stood. A record that fails becomes a dead letter; a
    run in which too many fail stops. `source` is read in ranges of its key, (after, upto], each one a task run and a
    transaction of the sink.

    Returns:
        The report of this run.

    Raises:
        Refused: the job cannot start as it is asked for; the message says what to do. Nothing was changed.
        FailureRateExceeded: too many records failed.
        ChunkFailed: a chunk failed as a whole.
        RunStopped: the processor raised `StopBatch`.
        LostOwnership: another run took the job over.
    """
    return run_job(
        Parameters(
            job=job,
            source=source,
            process=process,
            sink=sink,
            chunk_size=chunk_size,
            concurrency=concurrency,
            retries=retries,
            retry_delay_seconds=retry_delay_seconds,
            max_failure_rate=max_failure_rate,
            min_records=min_records,
            max_failures=max_failures,
            record_retries=record_retries,
            limit=limit,
            dry_run=dry_run,
            restart=restart,
            mode=mode,
            overlap=overlap,
            dead_letters=dead_letters,
        )
    )
