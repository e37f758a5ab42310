"""Reads the rows of a SELECT in batches of plain tuples, streamed in the fastest way of each driver."""

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select

from prefect_batch.blocks.batches import BATCH_BYTES
from prefect_batch.blocks.databases.statements import compiled
from prefect_batch.blocks.databases.undecoded import DamagedRows, Rows

# Rows are fetched so many at a time until a batch has enough: they may suddenly become wide, so few are taken blindly.
FIRST_ROWS, STEP_ROWS = 8, 64
# One row of so many is measured, always another one of them.
MEASURED = 8


def fetch_batches(
    engine: Engine, statement: Select[Any], batch_rows: int, stream: Callable[[Connection], Any]
) -> Iterator[Rows]:
    """Yield the statement's rows in lists of at most `batch_rows`, or of fewer if rows are wide.

    Only one list is in memory at a time. A list with rows that could not be decoded is one of `DamagedRows`. `stream`
    is the dialect's.
    """
    with engine.connect() as connection:
        cursor = stream(connection)
        if cursor is None:
            streamed = connection.execution_options(stream_results=True, max_row_buffer=STEP_ROWS).execute(statement)
            last = yield from _gathered(lambda count, _wanted: list(map(tuple, streamed.fetchmany(count))), batch_rows)
        else:

            def fetch(count: int, wanted: int) -> Sequence[tuple[Any, ...]]:
                cursor.arraysize = wanted
                found: Sequence[tuple[Any, ...]] = cursor.fetchmany(count)
                return found

            try:
                cursor.execute(*compiled(statement, engine.dialect))
                last = yield from _gathered(fetch, batch_rows)
            finally:
                _close(cursor, connection)
    # The session has been given back: a chunk of one batch is read and written with one at a time.
    if last:
        yield last


def _close(cursor: Any, connection: Connection) -> None:
    try:
        cursor.close()
    except Exception:  # noqa: BLE001 - the connection is lost, after all rows were read or with an error of its own
        connection.invalidate()


def _gathered(fetch: Callable[[int, int], Sequence[tuple[Any, ...]]], batch_rows: int) -> Generator[Rows, None, Rows]:
    """Yield batches of at most `batch_rows` rows, and of about `BATCH_BYTES`.

    `fetch` is passed how many rows to return now, and how many the batch will take if they stay as narrow as they are.

    Returns:
        The last batch, which may be empty.
    """
    count, turn = FIRST_ROWS, 0
    rows: Rows = []
    size, damaged = 0, False
    while step := fetch(now := min(count, batch_rows - len(rows)), batch_rows - len(rows) if now == STEP_ROWS else now):
        rows.extend(step)
        damaged = damaged or isinstance(step, DamagedRows)
        width = _width(step[turn % min(MEASURED, len(step)) :: MEASURED])
        size += width * len(step)
        turn += 1
        if len(rows) >= batch_rows or size + width > BATCH_BYTES:
            yield DamagedRows(rows) if damaged else rows
            rows, size, damaged = [], 0, False
        count = max(1, min(STEP_ROWS, (BATCH_BYTES - size) // width))
    return DamagedRows(rows) if damaged else rows


def row_bytes(rows: Rows) -> int:
    """Return roughly how many bytes of memory one of these rows takes, from a sample."""
    return _width(rows[:: max(1, len(rows) // 20)])


def _width(rows: Sequence[tuple[Any, ...]]) -> int:
    return sum(sys.getsizeof(row) + sum(map(sys.getsizeof, row)) for row in rows) // len(rows)
