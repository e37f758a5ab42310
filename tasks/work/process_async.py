"""An async function over a batch: many records in flight at once, each with its time limit."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.errors import RecordTimeout, SkipRecord, StopBatch
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.processor import Processor
from prefect_batch.tasks.work.outputs import Item
from prefect_batch.tasks.work.process_record import Failure, rows_of

WATCH_SECONDS = 0.2

Outcome = Item | Failure | None


def process_async(
    processor: Processor,
    batch: Batch,
    record_retries: int,
    timeout_seconds: float | None,
    check_abandoned: Callable[[], None],
) -> tuple[list[Item], list[Failure]]:
    """Call the async processor for the batch's records.

    Returns:
        The outputs and the failures, in the records' order. A record in neither was filtered.

    Raises:
        StopBatch: The processor raised it; the calls in flight are cancelled.
        RunStopped: The run has to stop at once; the calls in flight are cancelled.
    """
    outcomes = asyncio.run(_all(processor, batch, record_retries, timeout_seconds, check_abandoned))
    items = [outcome for outcome in outcomes if isinstance(outcome, Item)]
    return items, [outcome for outcome in outcomes if isinstance(outcome, Failure)]


async def _all(
    processor: Processor,
    batch: Batch,
    record_retries: int,
    timeout_seconds: float | None,
    check_abandoned: Callable[[], None],
) -> list[Outcome]:
    places = asyncio.Semaphore(processor.concurrency)

    async def one(index: int) -> Outcome:
        async with places:
            record = dict(zip(batch.names, batch.rows[index], strict=False))
            return await _attempts(processor, record, index, record_retries, timeout_seconds)

    calls = [asyncio.create_task(one(index)) for index in range(len(batch.rows))]
    pending: set[asyncio.Task[Outcome]] = set(calls)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            for call in done:
                call.result()
            check_abandoned()
    finally:
        for call in pending:
            call.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    return [call.result() for call in calls]


async def _attempts(
    processor: Processor, record: Record, index: int, record_retries: int, timeout_seconds: float | None
) -> Outcome:
    attempt = 0
    while True:
        attempt += 1
        try:
            rows = rows_of(await _in_time(processor.function(dict(record)), timeout_seconds))
        except SkipRecord:
            return None
        except StopBatch:
            raise
        except RecordTimeout as error:
            return Failure(index, "timeout", error, attempt)
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises fails its record
            if attempt > record_retries:
                return Failure(index, "process", error, attempt)
        else:
            return Item(index, rows) if rows else None
        await asyncio.sleep(random.uniform(0.5, 1) * min(1.0, 0.05 * 2**attempt))  # noqa: S311 - jitter is no secret


async def _in_time(call: Any, timeout_seconds: float | None) -> Any:
    if timeout_seconds is None:
        return await call
    task = asyncio.ensure_future(call)
    done, _ = await asyncio.wait({task}, timeout=timeout_seconds)
    if done:
        return task.result()
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    raise RecordTimeout(timeout_seconds)
