"""Run a function over every record of a large table, on Prefect, so that it survives what a night brings."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_batch.blocks.cursor import JobCursor
    from prefect_batch.blocks.errors import (
        BatchError,
        ChunkFailed,
        FailureRateExceeded,
        Refused,
        RunStopped,
        SkipRecord,
        StopBatch,
    )
    from prefect_batch.blocks.processor import processor
    from prefect_batch.blocks.table import Query, Table
    from prefect_batch.flows.records import process_records
    from prefect_batch.flows.status import dead_letters, status
    from prefect_batch.tasks.report import Report

__all__ = [
    "BatchError",
    "ChunkFailed",
    "FailureRateExceeded",
    "JobCursor",
    "Query",
    "Refused",
    "Report",
    "RunStopped",
    "SkipRecord",
    "StopBatch",
    "Table",
    "dead_letters",
    "process_records",
    "processor",
    "status",
]

# Imported when asked for: Prefect alone takes seconds, and a module with processors needs none of it.
_HOMES = {
    "JobCursor": "blocks.cursor",
    "Query": "blocks.table",
    "Report": "tasks.report",
    "Table": "blocks.table",
    "dead_letters": "flows.status",
    "process_records": "flows.records",
    "processor": "blocks.processor",
    "status": "flows.status",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'blocks.errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
