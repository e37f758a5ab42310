"""Reads rows of PostgreSQL as Arrow tables, by COPY to CSV and pyarrow, if every value stays exact."""

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import csv
from sqlalchemy import Engine, Select
from sqlalchemy import types as sql

from prefect_batch.blocks.batches import BATCH_BYTES, Batch
from prefect_batch.blocks.databases.fetch import row_bytes
from prefect_batch.blocks.databases.postgresql.decode import decode
from prefect_batch.blocks.databases.postgresql.values import arrow_type, column_kind
from prefect_batch.blocks.databases.undecoded import marked

_CARRIED = {"bool", "int64", "uint32", "float32", "float64", "date", "time", "moment", "moment with zone", "text"}


def carries(column: sql.TypeEngine[Any]) -> bool:
    """Return whether CSV carries a column's values unchanged into the Arrow type of the source's schema."""
    kind, arrow = column_kind(column), arrow_type(column)
    if kind == "decimal":
        return bool(pa.types.is_decimal128(arrow))
    return kind in _CARRIED and (kind == "text") == pa.types.is_string(arrow)


def fetch_tables(engine: Engine, statement: Select[Any], batch_rows: int, schema: pa.Schema) -> Iterator[Batch]:
    """Yield the statement's rows in batches of at most `batch_rows`, or of fewer if rows are wide.

    Only one batch is in memory at a time. A batch with a value that Arrow cannot hold, such as a numeric NaN, has
    tuples.
    """
    compiled = statement.compile(dialect=engine.dialect)
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY ({compiled}) TO STDOUT (FORMAT csv)", compiled.params) as copy,
        ):
            last = b""
            for lines, more in _batches(copy, batch_rows):
                if more:
                    yield _batch(engine, statement, lines, schema)
                else:
                    last = lines
    # The session has been given back: a chunk of one batch is read and written with one at a time.
    if last:
        yield _batch(engine, statement, last, schema)


def _batch(engine: Engine, statement: Select[Any], lines: bytes, schema: pa.Schema) -> Batch:
    names = tuple(schema.names)
    try:
        table = _parsed(lines, list(schema))
    except pa.ArrowInvalid:
        rows = _rows(engine, statement, lines, schema)
        return Batch(names, rows, row_bytes(rows))
    return Batch(names, row_bytes=table.nbytes // table.num_rows, table=table)


def _batches(copy: Any, batch_rows: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines of each batch, and whether there may be more."""
    connection = copy.connection.pgconn
    lines: list[Any] = []
    size, more = 0, True
    while more:
        # The server sends one row at a time, and waiting for each takes a microsecond: wait only if there is none.
        count, line = connection.get_copy_data(1)
        if count == 0:
            line = copy.read()
        elif count < 0:
            _end(connection)
        if line:
            lines.append(line)
            size += len(line)
        else:
            more = False
        if lines and (not more or len(lines) >= batch_rows or size >= BATCH_BYTES):
            yield b"".join(lines), more
            lines, size = [], 0


def _end(connection: Any) -> None:
    """Read the server's messages after the last row.

    Raises:
        psycopg.Error: the server ended the COPY with an error.
    """
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus

    while result := connection.get_result():
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result)


def _parsed(lines: bytes, fields: list[pa.Field]) -> pa.Table:
    return csv.read_csv(
        io.BytesIO(lines),
        # A single block, because a row that spans two would fail.
        csv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=[field.name for field in fields]),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        csv.ConvertOptions(
            column_types={field.name: field.type for field in fields},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
        ),
    )


def _rows(engine: Engine, statement: Select[Any], lines: bytes, schema: pa.Schema) -> list[tuple[Any, ...]]:
    """Return the values of the lines as psycopg returns them when it fetches rows."""
    from psycopg.adapt import Transformer
    from psycopg.pq import Format

    with engine.connect() as connection:
        described: Any = connection.execute(statement.limit(0)).cursor
        transformer = Transformer(connection.connection.driver_connection)
        loads = [transformer.get_loader(field[1], Format.TEXT).load for field in described.description]
    texts = _parsed(lines, [pa.field(name, pa.binary()) for name in schema.names])
    columns = [
        [decode(load, value) for value in column.to_pylist()] for load, column in zip(loads, texts.columns, strict=True)
    ]
    return marked(list(zip(*columns, strict=True)))
