"""Run a function over every record of a large table or set of files, on Prefect, so that it survives the night."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_batch.blocks.errors import (
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
