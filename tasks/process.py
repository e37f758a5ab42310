"""The user's function over a batch, record by record: the one place where a record's own errors are caught."""

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from prefect_batch.blocks.errors import BadOutput, SkipRecord, StopBatch
from prefect_batch.blocks.values import Batch, Item, Record, Stage

__all__ = ["Failure", "Function", "process_batch"]

Function = Callable[[Record], Any]


class Failure(NamedTuple):
    """A record that failed: its place in the batch, where, why, and after how many attempts."""

    index: int
    stage: Stage
    error: Exception
    attempts: int


def process_batch(function: Function, batch: Batch, record_retries: int) -> tuple[list[Item], list[Failure]]:
    """The outputs of the batch's records, and those that failed; who is in neither was filtered.

    Raises:
        StopBatch: the processor said so.
    """
    items: list[Item] = []
    failures: list[Failure] = []
    names = batch.names
    for index, row in enumerate(batch.rows):
        try:
            output = function(dict(zip(names, row, strict=False)))
            rows = [output] if type(output) is dict else _rows(output)
        except SkipRecord:
            continue
        except StopBatch:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises fails its record
            rows, failure = _try_again(function, batch, index, error, record_retries)
            if failure:
                failures.append(failure)
        if rows:
            items.append(Item(index, rows))
    return items, failures


def _try_again(
    function: Function, batch: Batch, index: int, error: Exception, record_retries: int
) -> tuple[list[Record], Failure | None]:
    """The output of a later attempt, or the failure of the last; waits longer before each, at most a second."""
    for attempt in range(1, record_retries + 1):
        time.sleep(random.uniform(0.5, 1) * min(1.0, 0.05 * 2**attempt))  # noqa: S311 - jitter is no secret
        try:
            return _rows(function(dict(zip(batch.names, batch.rows[index], strict=False)))), None
        except SkipRecord:
            return [], None
        except StopBatch:
            raise
        except Exception as again:  # noqa: BLE001 - as above
            error = again
    return [], Failure(index, "process", error, 1 + record_retries)


def _rows(output: Any) -> list[Record]:
    """The rows to write for one record; none when it is filtered.

    Raises:
        BadOutput: the output is not a dict, a list of dicts, or None.
    """
    if output is None:
        return []
    if isinstance(output, dict):
        return [output]
    if isinstance(output, (list, tuple)) and all(isinstance(row, dict) for row in output):
        return list(output)
    raise BadOutput(f"the processor returned {type(output).__name__}; it must return a dict, a list of dicts, or None")
