"""Reads the rows of a SELECT in batches of plain tuples, streamed in the fastest way of each driver."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Engine, Select

from prefect_batch.blocks.databases.statements import compiled

Rows = list[tuple[Any, ...]]
FIRST_ROWS = 500
BATCH_BYTES = 32 * 2**20


def fetch_batches(
    engine: Engine, statement: Select[Any], batch_rows: int, stream: Callable[[Connection], Any]
) -> Iterator[Rows]:
    """Yield the statement's rows in lists of at most `batch_rows`, or of fewer if rows are wide.

    Only one list is in memory at a time. `stream` is the dialect's.
    """
    with engine.connect() as connection:
        cursor = stream(connection)
        if cursor is None:
            yield from _by_sqlalchemy(connection, statement, batch_rows)
            return
        with contextlib.closing(cursor):
            cursor.execute(*compiled(statement, engine.dialect))
            # The first rows show how wide rows are.
            count = min(batch_rows, FIRST_ROWS)
            while rows := cursor.fetchmany(count):
                yield list(rows)
                count = max(1, min(batch_rows, BATCH_BYTES // row_bytes(rows)))


def row_bytes(rows: Rows) -> int:
    """Return roughly how many bytes of memory one of these rows takes, from a sample."""
    some = rows[:: max(1, len(rows) // 20)]
    return sum(sys.getsizeof(row) + sum(map(sys.getsizeof, row)) for row in some) // len(some)


def _by_sqlalchemy(connection: Connection, statement: Select[Any], batch_rows: int) -> Iterator[Rows]:
    streamed = connection.execution_options(stream_results=True, yield_per=batch_rows).execute(statement)
    for rows in streamed.partitions():
        yield [tuple(row) for row in rows]
