"""An async function over a batch: many records in flight at once, each with its time limit."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.errors import RecordTimeout, SkipRecord, StopBatch
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.processor import Processor
from prefect_batch.tasks.work.failure import Failure, check_blames_record
from prefect_batch.tasks.work.outputs import Item
from prefect_batch.tasks.work.process_record import rows_of

WATCH_SECONDS = 0.2
# What a function has left running gets so long to end when it is cancelled.
GRACE_SECONDS = 1.0

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
        RemoteError: This process lacks something, such as memory or descriptors.
    """
    calls = _Calls(processor, batch, record_retries, timeout_seconds)
    outcomes = _run(calls.all(check_abandoned))
    items = [outcome for outcome in outcomes if isinstance(outcome, Item)]
    return items, [outcome for outcome in outcomes if isinstance(outcome, Failure)]


def _run(main: Coroutine[Any, Any, list[Outcome]]) -> list[Outcome]:
    """Run it in an event loop of its own.

    `asyncio.run` would wait for ever for what ignores that it is cancelled, and for a thread that does not end.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(_end_the_rest(loop))
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _end_the_rest(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what the function has left running, and wait a moment for it."""
    rest = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    closing = asyncio.create_task(loop.shutdown_asyncgens())
    await asyncio.wait({*rest, closing}, timeout=GRACE_SECONDS)


class _Calls:
    """The calls for one batch."""

    def __init__(self, processor: Processor, batch: Batch, record_retries: int, timeout_seconds: float | None) -> None:
        self._processor, self._batch = processor, batch
        self._retries, self._timeout = record_retries, timeout_seconds
        self._cancelled = False

    async def all(self, check_abandoned: Callable[[], None]) -> list[Outcome]:
        """Return the outcome of each record."""
        places = asyncio.Semaphore(self._processor.concurrency)

        async def one(index: int) -> Outcome:
            async with places:
                return await self._attempts(index)

        calls = [asyncio.create_task(one(index)) for index in range(len(self._batch.rows))]
        pending: set[asyncio.Task[Outcome]] = set(calls)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
                for call in done:
                    call.result()
                check_abandoned()
        finally:
            self._cancelled = True
            for call in pending:
                call.cancel()
            if pending:
                await asyncio.wait(pending, timeout=GRACE_SECONDS)
        return [call.result() for call in calls]

    async def _attempts(self, index: int) -> Outcome:
        attempt = 0
        while True:
            attempt += 1
            record = self._batch.record(self._batch.rows[index])
            try:
                rows = rows_of(await self._in_time(record))
                await _check_own_cancellation()
            except SkipRecord:
                return None
            except StopBatch:
                raise
            except BaseException as error:
                if self._cancelled:
                    raise
                _forget_own_cancellation()
                check_blames_record(error)
                if type(error) is RecordTimeout:
                    return Failure(index, "timeout", error, attempt)
                if attempt > self._retries:
                    return Failure(index, "process", error, attempt)
            else:
                return Item(index, rows) if rows else None
            await asyncio.sleep(random.uniform(0.5, 1) * min(1.0, 0.05 * 2**attempt))  # noqa: S311 - no secret

    async def _in_time(self, record: Record) -> Any:
        if self._timeout is None:
            return await self._processor.function(record)
        task = asyncio.ensure_future(_caught(self._processor.function(record)))
        done, _ = await asyncio.wait({task}, timeout=self._timeout)
        if done:
            output, error = task.result()
            if error is not None:
                raise error
            return output
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE_SECONDS)
        raise RecordTimeout(self._timeout)


async def _caught(call: Any) -> tuple[Any, BaseException | None]:
    """Return what the call returns or raises: a task that raises SystemExit would end the event loop."""
    try:
        return await call, None
    except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
        return None, error


async def _check_own_cancellation() -> None:
    """Raise CancelledError if the function has cancelled the task that called it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        await asyncio.sleep(0)


def _forget_own_cancellation() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
