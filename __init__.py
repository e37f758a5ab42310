"""Run a function over every record of a large table or set of files, on Prefect, so that it survives the night."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_batch.blocks.cursor import JobCursor
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
    from prefect_batch.blocks.files import Files
    from prefect_batch.blocks.health import HealthCheck
    from prefect_batch.blocks.manifest import complete_files
    from prefect_batch.blocks.processor import processor
    from prefect_batch.blocks.table import Query, Table
    from prefect_batch.flows.asking import stop, tune
    from prefect_batch.flows.decide import discard_dead_letters, purge_dead_letters
    from prefect_batch.flows.letters import replay_dead_letters
    from prefect_batch.flows.look import dead_letters, failures
    from prefect_batch.flows.reconciling import reconcile
    from prefect_batch.flows.records import process_records
    from prefect_batch.flows.status import status
    from prefect_batch.tasks.report import Report

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
    "Files": "blocks.files",
    "HealthCheck": "blocks.health",
    "JobCursor": "blocks.cursor",
    "Query": "blocks.table",
    "Report": "tasks.report",
    "Table": "blocks.table",
    "complete_files": "blocks.manifest",
    "dead_letters": "flows.look",
    "discard_dead_letters": "flows.decide",
    "failures": "flows.look",
    "process_records": "flows.records",
    "processor": "blocks.processor",
    "reconcile": "flows.reconciling",
    "purge_dead_letters": "flows.decide",
    "replay_dead_letters": "flows.letters",
    "status": "flows.status",
    "stop": "flows.asking",
    "tune": "flows.asking",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'blocks.errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
