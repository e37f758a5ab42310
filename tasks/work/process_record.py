"""The user's function over a batch, record by record: the one place where a record's own errors are caught."""

import functools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.errors import BadOutput, RecordTimeout, SkipRecord, StopBatch, WorkerDied
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.tasks.work.failure import Failure, check_blames_record
from prefect_batch.tasks.work.outputs import Item, ItemRows
from prefect_batch.tasks.work.record_guard import IDLE, RecordGuard

Function = Callable[[Record], Any]


def process_batch(
    function: Function, batch: Batch, record_retries: int, guard: RecordGuard | None = None
) -> tuple[Sequence[Item], list[Failure]]:
    """Call the function for each of the batch's records.

    In a worker process the guard knows which record is being processed, and ends it at its time limit.

    Returns:
        The outputs and the failures. A record in neither was filtered.

    Raises:
        StopBatch: The function raised it.
        RemoteError: This process lacks something, such as memory or descriptors.
    """
    if guard is None:
        return _process(_Calls(function, batch, [IDLE], None, 0), record_retries)
    with guard.batch(len(batch)) as first:
        begun = None if guard.timeout is None else guard.begun
        return _process(_Calls(guard.spared(function), batch, guard.in_hand, begun, first), record_retries)


class _Calls(NamedTuple):
    """What the calls for a batch need. `first` is its first record's number, the others are as in `RecordGuard`."""

    function: Function
    batch: Batch
    in_hand: Any
    begun: list[float] | None
    first: int


def _process(calls: _Calls, record_retries: int) -> tuple[Sequence[Item], list[Failure]]:
    places: list[int] = []
    outputs: list[Any] = []
    failures: list[Failure] = []
    function, batch, in_hand, begun, first = calls
    make = batch.record if batch.gaps else record_maker(batch.names)
    for index, row in enumerate(batch.rows):
        record = make(row)
        try:
            try:
                if begun is not None:
                    begun[0] = time.monotonic()
                in_hand[0] = first + index
                output = function(record)
            finally:
                in_hand[0] = IDLE
            if type(output) is not dict:
                output = rows_of(output)
        except SkipRecord:
            continue
        except StopBatch:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a user's function raises fails its record
            output, failure = _try_again(calls, index, error, record_retries)
            if failure:
                failures.append(failure)
        if output or type(output) is dict:
            places.append(index)
            outputs.append(output)
    return _items(places, outputs), failures


def _items(places: list[int], outputs: list[Any]) -> Sequence[Item]:
    """Return the items of records that became a row, or a list of them."""
    if list not in set(map(type, outputs)):
        return ItemRows(places, outputs)
    return [Item(p, output if type(output) is list else [output]) for p, output in zip(places, outputs, strict=True)]


def _try_again(
    calls: _Calls, index: int, error: BaseException, record_retries: int
) -> tuple[list[Record], Failure | None]:
    """Return the output of a later attempt, or the failure of the last one.

    The wait before each attempt grows up to a second.
    """
    check_blames_record(error)
    attempt = 1
    make = calls.batch.record if calls.batch.gaps else record_maker(calls.batch.names)
    while attempt <= record_retries and type(error) not in (RecordTimeout, WorkerDied):
        time.sleep(random.uniform(0.5, 1) * min(1.0, 0.05 * 2**attempt))  # noqa: S311 - jitter is no secret
        attempt += 1
        try:
            try:
                if calls.begun is not None:
                    calls.begun[0] = time.monotonic()
                calls.in_hand[0] = calls.first + index
                return rows_of(calls.function(make(calls.batch.rows[index]))), None
            finally:
                calls.in_hand[0] = IDLE
        except SkipRecord:
            return [], None
        except StopBatch:
            raise
        except BaseException as again:  # noqa: BLE001 - as above
            check_blames_record(again)
            error = again
    return [], Failure(index, "timeout" if type(error) is RecordTimeout else "process", error, attempt)


@functools.lru_cache(maxsize=16)
def record_maker(names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], Record]:
    """Return a function that makes a record of a row.

    It does the same as ``dict(zip(names, row))``, in half the time.
    """
    fields = ", ".join(f"{name!r}: row[{place}]" for place, name in enumerate(names))
    make: Callable[[tuple[Any, ...]], Record] = eval(f"lambda row: {{{fields}}}")  # noqa: S307 - names come as literals
    return make


def rows_of(output: Any) -> list[Record]:
    """Return the rows to write for one record, none when it is filtered.

    Raises:
        BadOutput: The output is not a dict, a list of dicts, or None.
    """
    if output is None:
        return []
    if isinstance(output, dict):
        return [output]
    if isinstance(output, (list, tuple)) and all(isinstance(row, dict) for row in output):
        return list(output)
    raise BadOutput(f"the processor returned {type(output).__name__}; it must return a dict, a list of dicts, or None")
