"""The flow `process_records`: a function over every record of a table or of files, restartable."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import BeforeValidator, Field, WithJsonSchema

from prefect_batch.blocks.errors import BatchError
from prefect_batch.blocks.parameters.form import Tabs
from prefect_batch.blocks.parameters.health_check import HealthCheck
from prefect_batch.blocks.parameters.specs import SinkSpec, SourceSpec
from prefect_batch.flows.reporting.hooks import enforce_threshold, report_cancellation, report_crash, report_failure
from prefect_batch.flows.run.ending import failed
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.flows.run.run_job import run_job
from prefect_batch.flows.run.secret_parameters import keep_secrets_out
from prefect_batch.tasks.report.report import Report

# No `from __future__ import annotations` here: Prefect builds the parameters' form from the real types.


def check_process(process: Any) -> Any:
    """Return the parameter as it is: a function in a direct call, an import path in a deployment."""
    if not isinstance(process, str) and not callable(process):
        raise ValueError(  # noqa: TRY004 - pydantic takes it as the parameter's fault
            "process must be a function, or an import path such as 'shop.orders:clean'"
        )
    return process


def _name_kind(end: Any) -> Any:
    """Return the source or sink with its kind, which people who type JSON may leave out."""
    if isinstance(end, dict) and "kind" not in end:
        return {**end, "kind": "files" if "path" in end else "query" if "sql" in end else "table"}
    return end


Source = Annotated[
    SourceSpec,
    Field(discriminator="kind"),
    BeforeValidator(_name_kind),
    Tabs(),
]
Sink = Annotated[
    SinkSpec,
    Field(discriminator="kind"),
    BeforeValidator(_name_kind),
    Tabs(),
]
Process = Annotated[
    Any,
    BeforeValidator(check_process),
    WithJsonSchema({"type": "string"}),
]


@keep_secrets_out
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
    job: str,
    source: Source,
    process: Process,
    sink: Sink,
    mode: Literal["full", "incremental"] = "full",
    overlap: Annotated[int | timedelta | None, Tabs(("records", "time", "none"))] = None,
    limit: Annotated[int | None, Tabs(("records", "all"))] = None,
    dry_run: bool = False,
    restart: bool = False,
    write_again: bool = False,
    max_failure_rate: float = 0.05,
    max_failures: Annotated[int | None, Tabs(("records", "no limit"))] = None,
    min_records: int = 1_000,
    circuit_breaker: Annotated[int | None, Tabs(("chunks", "never"))] = 3,
    alert: Annotated[list[str] | None, Tabs(("blocks", "nobody"))] = None,
    dead_letters: Annotated[str | None, Tabs(("directory", "below Prefect's home"))] = None,
    run_window: Annotated[str | None, Tabs(("hours", "always"))] = None,
    max_duration: Annotated[float | timedelta | None, Tabs(("seconds", "time", "no limit"))] = None,
    max_rate: Annotated[float | None, Tabs(("records per second", "no limit"))] = None,
    health: Annotated[list[HealthCheck] | None, Tabs(("checks", "none"))] = None,
    min_free_disk_mb: int = 500,
    redact: Annotated[list[str] | None, Tabs(("columns", "none"))] = None,
    record_timeout: Annotated[float | None, Tabs(("seconds", "no limit"))] = None,
    record_retries: int = 0,
    chunk_size: Annotated[int | None, Tabs(("records", "adaptive"))] = None,
    concurrency: Annotated[int | None, Tabs(("chunks", "by itself"))] = None,
    workers: Annotated[Literal["processes", "threads"] | None, Tabs(("choose", "by itself"))] = None,
    max_memory_mb: Annotated[int | None, Tabs(("MB", "half of the memory"))] = None,
    retries: int = 5,
    retry_delay_seconds: float = 1.0,
) -> Report | State:
    """Run a function over every record of a table or of files, so that it survives bad records, crashes and restarts.

    Interrupt it in any way and call it again: it resumes where it left off. A record that fails becomes a dead letter;
    a run in which too many fail stops. The source is read in ranges of its key, (after, upto], each one a task run and
    a transaction of the sink.

    Args:
        job: The job's name: lowercase letters, digits and dashes.
        source: Where the records come from: a table, a query, or files.
        process: The function: package.module:function, marked with @processor. A call from Python may give the
            function itself. It takes a record as a dict and returns a dict, a list of dicts, or None to filter it.
        sink: Where the results go: a table, or files.
        mode: full reads everything in every pass; incremental only keys beyond the end of the former pass.
        overlap: Incremental: read this many records, or this span of time, before the former end again.
        limit: Stop after about this many records; a later run resumes there.
        dry_run: Process and report, but write nothing and save nothing.
        restart: Abandon an unfinished pass, and start a new one from the beginning.
        write_again: Do so even where the abandoned pass has committed rows that are then written a second time: where
            rows are only added, or records changed in the table that they are read from.
        max_failure_rate: The share of failed records, from 0 to 1, that may not be exceeded: 0.05 is 5 %.
        max_failures: The number of failed records that may not be exceeded; no limit if empty.
        min_records: Records of this run that must have been read before the rate is checked.
        circuit_breaker: After so many chunks in a row of which the sink took no record, stop and bury nothing of them;
            never if empty.
        alert: Notification blocks that alert when a run fails or crashes, such as slack-webhook/data-team.
        dead_letters: The directory for failed records; below Prefect's home if empty.
        run_window: The hours in which it may run, with their time zone: 22:00-06:00 Europe/Berlin, or several, with
            commas between them. Outside of them a run ends at once; when they end, it stops, and the next run resumes.
        max_duration: Stop after so many seconds, or after a duration such as PT2H; the next run resumes.
        max_rate: Records per second that may be read, over all running chunks; no limit if empty.
        health: Checks of databases, or of Prefect's limits, that make the run wait while a number is too high.
        min_free_disk_mb: Stop before a disk that the run fills has less than so many MB left; 0 to let it run full.
        redact: Columns of the source, such as email, that no dead letter, log line, message or artifact may show.
        record_timeout: Seconds that one record may take before it fails; no limit if empty.
        record_retries: How often a record that fails is tried again.
        chunk_size: Records per chunk: one transaction, one checkpoint. If empty, as many as take 5 seconds.
        concurrency: Chunks that run at the same time. By default one per core, at most 4; with threads and SQLite, 1.
        workers: processes or threads; if empty, processes for many records on more than one core.
        max_memory_mb: Beyond this, batches get smaller, then fewer chunks run. By default half of the memory.
        retries: How often a chunk is tried again after a passing error, such as a lost connection.
        retry_delay_seconds: Seconds before the first retry; doubled before each further one, up to 15.

    Returns:
        The report of this run.

    Raises:
        Refused: The job cannot start as it is asked for; the message says what to do. Nothing was changed.
        FailureRateExceeded: Too many records failed.
        ChunkFailed: A chunk failed as a whole.
        CircuitOpen: The sink took not one record of several chunks in a row.
        RunStopped: The processor raised `StopBatch`.
        DiskNearlyFull: A disk that the run fills has too little space left.
        LostOwnership: Another run took the job over.
    """
    given = locals()
    try:
        return run_job(Parameters.of(**given))
    except BatchError as error:
        # Returned as a state, so that its message is the run's and the log has no traceback. A caller gets it raised.
        return failed(error)
