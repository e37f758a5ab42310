"""Run a function over every record of a large table or set of files, on Prefect, so that it survives the night.

    from prefect_batch import Table, process_records

    process_records(
        job="clean-orders",
        source=Table("sqlite:///shop.db", "orders", key="id"),
        process=lambda order: {"id": order["id"], "total": order["qty"] * order["price"]},
        sink=Table("sqlite:///shop.db", "orders_clean", key="id"),
    )

Interrupt it in any way and call it again: it resumes where it left off. Every record ends up in the sink, is filtered
out by the function, or is saved as a dead letter.

    source ── plan ──▶ ranges of the key ── map ──▶ run_chunk ──▶ results ── sum ──▶ tally ──▶ limits ──▶ report
      ▲                  ▲                            │ per batch: read → process → write
      │                  │                            │ per chunk: bury → commit → return
      │                cursor ◀───────────────────────┤ advance over what is finished
      └── replay ◀──────────────────── dead letters ◀─┘ records that failed, with their errors

Where each part of the picture is, from the bottom up; a folder imports only from those above it in this list:

    blocks/kinds        what a value becomes in Arrow, Python, JSON, CSV and each database
    blocks/parameters   what a person writes: tables, queries, files, limits; they open nothing
    blocks/state        the cursor, the owner of a job, the accounts of its chunks, kept in Prefect
    blocks/databases    source and sink: tables and queries; what one database does its own way is in its folder
    blocks/files        source and sink: Parquet, CSV and JSON Lines, in a directory or an object store
    blocks/letters      dead letters: buried, read, replayed, purged
    blocks/opening.py   the one place that opens a parameter as a source or a sink
    tasks/work          the work on one chunk: read, process, write, bury, commit
    tasks/letters       which letters are meant, and groups of them by their cause
    tasks/plan          which pass, and which chunks come next
    tasks/reconcile     whether each record is in the sink, filtered, or a letter
    tasks/report        progress and report, as values and as text
    tasks/workers       worker processes below the tasks
    tasks/run_chunk.py  the Prefect task: its cache key and its retries
    flows/reporting     artifacts, events and alerts
    flows/run           one run: checks, ownership, the walk over the pass, the end
    flows/operations    status, failures, stop, tune, discard, reset, from outside a run
    flows/scaffold      the files that `prefect-batch init` makes
    flows/command_line  the same as `prefect-batch …`

The main calls:

    process_records, replay_dead_letters, reconcile             Prefect flows: call, serve or deploy them; Report
    Table, Query, Files, HealthCheck                            their parameters
    processor, SkipRecord, StopBatch, BadRecords                for functions over records
    status, failures, dead_letters, JobCursor, complete_files   to look
    stop, tune                                                  to steer a run while it works
    discard_dead_letters, purge_dead_letters                    to decide on letters
    BatchError and the errors below it                          what is raised; the facts are attributes

Read on: README.md, docs/concepts.md for the words and the guarantees, docs/parameters.md for every option, and
CONTRIBUTING.md to change something. The errors are drawn as a tree in blocks/errors.py.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_batch.blocks.errors import (
        AlreadyWritten,
        BadRecords,
        BatchError,
        ChunkFailed,
        CircuitOpen,
        DiskNearlyFull,
        FailureRateExceeded,
        LostOwnership,
        NotAtWork,
        NotFinished,
        Refused,
        RunStopped,
        SkipRecord,
        StopBatch,
    )
    from prefect_batch.blocks.files.writing.manifest import complete_files
    from prefect_batch.blocks.parameters.files import Files
    from prefect_batch.blocks.parameters.health_check import HealthCheck
    from prefect_batch.blocks.parameters.tables import Query, Table
    from prefect_batch.blocks.processor import processor
    from prefect_batch.blocks.state.cursor_store import JobCursor
    from prefect_batch.flows.operations.control import stop, tune
    from prefect_batch.flows.operations.decisions import discard_dead_letters, purge_dead_letters
    from prefect_batch.flows.operations.failures import dead_letters, failures
    from prefect_batch.flows.operations.status import status
    from prefect_batch.flows.process_records import process_records
    from prefect_batch.flows.reconcile import reconcile
    from prefect_batch.flows.replay_dead_letters import replay_dead_letters
    from prefect_batch.tasks.report.report import Report

__all__ = [
    "AlreadyWritten",
    "BadRecords",
    "BatchError",
    "ChunkFailed",
    "CircuitOpen",
    "DiskNearlyFull",
    "FailureRateExceeded",
    "Files",
    "HealthCheck",
    "JobCursor",
    "LostOwnership",
    "NotAtWork",
    "NotFinished",
    "Query",
    "Refused",
    "Report",
    "RunStopped",
    "SkipRecord",
    "StopBatch",
    "Table",
    "complete_files",
    "dead_letters",
    "discard_dead_letters",
    "failures",
    "process_records",
    "processor",
    "purge_dead_letters",
    "reconcile",
    "replay_dead_letters",
    "status",
    "stop",
    "tune",
]

# Imported when asked for: Prefect alone takes seconds, and a module with processors needs none of it.
_HOMES = {
    "Files": "blocks.parameters.files",
    "HealthCheck": "blocks.parameters.health_check",
    "JobCursor": "blocks.state.cursor_store",
    "Query": "blocks.parameters.tables",
    "Report": "tasks.report.report",
    "Table": "blocks.parameters.tables",
    "complete_files": "blocks.files.writing.manifest",
    "dead_letters": "flows.operations.failures",
    "discard_dead_letters": "flows.operations.decisions",
    "failures": "flows.operations.failures",
    "process_records": "flows.process_records",
    "processor": "blocks.processor",
    "reconcile": "flows.reconcile",
    "purge_dead_letters": "flows.operations.decisions",
    "replay_dead_letters": "flows.replay_dead_letters",
    "status": "flows.operations.status",
    "stop": "flows.operations.control",
    "tune": "flows.operations.control",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'blocks.errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
