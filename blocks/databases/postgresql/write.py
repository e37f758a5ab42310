"""Writing to PostgreSQL with psycopg 3: COPY into the table itself, or by way of a temporary one."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from prefect_batch.blocks.arrow_values import plain_table, records_of
from prefect_batch.blocks.batches import Record
from prefect_batch.blocks.databases.postgresql.copy import copy_rows, copy_table, cursor_of, goes_as_csv, quote, wrapped
from prefect_batch.blocks.databases.postgresql.one_by_one import ROW, Apart, write_apart
from prefect_batch.blocks.databases.rows import Same, check_table, last_of_each_key, last_of_each_key_in, same_columns
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.errors import RowNotFound, WriteAgain
from prefect_batch.blocks.transient import is_transient

__all__ = ["write_postgresql", "write_postgresql_apart", "write_postgresql_table"]


def write_postgresql(connection: Connection, target: Target, mode: str, records: list[Record]) -> None:
    """Write the records in this mode (upsert, insert or update); all or an error.

    Raises:
        RecordError: a record cannot be written as it is.
        WriteAgain: nothing was written, and the same call will go another way.
        psycopg.Error: the database refused.
    """
    for same in same_columns(records, target):
        table = plain_table(same)
        if table is not None and goes_as_csv(table, target):
            _write_table(connection, target, mode, table)
            continue

        def copy(into: str, same: Same = same) -> None:
            copy_rows(connection, wrapped(same.names, same.rows, target), into)

        def copy_last(into: str, same: Same = same) -> None:
            last = last_of_each_key(same, target)
            copy_rows(connection, wrapped(last.names, last.rows, target), into)

        _write(connection, target, mode, same.names, copy, copy_last)


def write_postgresql_table(connection: Connection, target: Target, mode: str, table: pa.Table) -> None:
    """Write the table's rows in this mode (upsert, insert or update); all or an error.

    Raises:
        RecordError: a record cannot be written as it is.
        WriteAgain: nothing was written, and the same call will go another way.
        psycopg.Error: the database refused.
    """
    check_table(table, target)
    if goes_as_csv(table, target):
        _write_table(connection, target, mode, table)
    else:
        write_postgresql(connection, target, mode, records_of(table))


def write_postgresql_apart(
    connection: Connection, target: Target, mode: str, rows: list[Record] | pa.Table
) -> dict[int, Exception | None] | None:
    """Write the rows, each for itself, in this mode; those that were refused, by their place, and why.

    None where they have to be written in the usual way, some by some.

    Raises:
        RecordError: a record cannot be written as it is.
        WriteAgain: this user may not do that here; nothing was written.
        psycopg.Error: the database refused something else than a row.
    """
    if isinstance(rows, pa.Table):
        check_table(rows, target)
        if goes_as_csv(rows, target):
            return _write_table_apart(connection, target, mode, rows)
        rows = records_of(rows)
    same, *others = same_columns(rows, target)
    if others:
        return None
    table = plain_table(same)
    if table is not None and goes_as_csv(table, target):
        return _write_table_apart(connection, target, mode, table)
    numbered = [(place, *row) for place, row in enumerate(wrapped(same.names, same.rows, target))]
    apart = Apart(mode, same.names, len(rows), lambda into: copy_rows(connection, numbered, into))
    return write_apart(connection, target, _table(target), apart)


def _write_table_apart(
    connection: Connection, target: Target, mode: str, table: pa.Table
) -> dict[int, Exception | None] | None:
    numbered = table.add_column(0, ROW, pa.array(range(table.num_rows), pa.int32()))
    names = tuple(table.column_names)
    apart = Apart(mode, names, table.num_rows, lambda into: copy_table(connection, numbered, into))
    return write_apart(connection, target, _table(target), apart)


def _write_table(connection: Connection, target: Target, mode: str, table: pa.Table) -> None:
    _write(
        connection,
        target,
        mode,
        tuple(table.column_names),
        lambda into: copy_table(connection, table, into),
        lambda into: copy_table(connection, last_of_each_key_in(table, target), into),
    )


Copy = Callable[[str], None]


def _write(
    connection: Connection, target: Target, mode: str, names: tuple[str, ...], copy: Copy, copy_last: Copy
) -> None:
    """Put rows into the target: at once, or by way of a temporary table with these columns of it.

    `copy` copies them into a table, `copy_last` only the last row of each key.
    """
    columns = ", ".join(map(quote, names))
    if mode == "insert":
        copy(f"{_table(target)} ({columns})")
    elif mode == "upsert" and not target.met:
        _copy_at_once(copy, f"{_table(target)} ({columns})", target)
    else:
        staging = _stage(connection, target, columns)
        copy_last(f"{staging} ({columns})")
        (_update if mode == "update" else _upsert)(connection, target, staging, names)
        _execute(connection, f"TRUNCATE {staging}")


def _copy_at_once(copy: Copy, into: str, target: Target) -> None:
    """Copy as if none of the keys were there, as in a first pass: it takes the server half of the time.

    Raises:
        WriteAgain: some keys are there, or the table cannot be copied to.
    """
    import psycopg

    try:
        copy(into)
    except psycopg.Error as error:
        _blame(error)
        of_record = isinstance(error, (psycopg.DataError, psycopg.IntegrityError))
        if is_transient(error) or (of_record and not isinstance(error, psycopg.errors.UniqueViolation)):
            raise
        target.met.add(type(error).__name__)
        raise WriteAgain(str(error)) from error


def _blame(error: Any) -> None:
    """Note with the error of a COPY which row it was that the database refused, where it tells that."""
    # In any language: "COPY orders, line 7, column total: …". Rows are lines, but for newlines in a text.
    if found := re.match(r"COPY [^,]+, \D*(\d+)", error.diag.context or ""):
        error.refused_row = int(found[1]) - 1


def _upsert(connection: Connection, target: Target, staging: str, names: tuple[str, ...]) -> None:
    columns = ", ".join(map(quote, names))
    others = [f"{quote(name)} = excluded.{quote(name)}" for name in names if name not in target.key]
    action = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
    _execute(
        connection,
        f"INSERT INTO {_table(target)} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {staging} "
        f"ON CONFLICT ({', '.join(map(quote, target.key))}) DO {action}",
    )


def _update(connection: Connection, target: Target, staging: str, names: tuple[str, ...]) -> None:
    matches = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in target.key)
    missing = f"SELECT 1 FROM {staging} s WHERE NOT EXISTS (SELECT 1 FROM {_table(target)} t WHERE {matches}) LIMIT 1"
    if _execute(connection, missing).fetchone():
        raise RowNotFound(target.name, target.key)
    others = [f"{quote(name)} = s.{quote(name)}" for name in names if name not in target.key]
    if others:
        _execute(connection, f"UPDATE {_table(target)} t SET {', '.join(others)} FROM {staging} s WHERE {matches}")


def _stage(connection: Connection, target: Target, columns: str) -> str:
    """A temporary table with these columns of the target, for the length of the transaction."""
    # One for each set of columns; where a pool sits between, a session outlives the transaction: ON COMMIT DROP.
    name = quote("prefect_batch_" + hashlib.sha256(f"{_table(target)} {columns}".encode()).hexdigest()[:12])
    _execute(
        connection,
        f"CREATE TEMP TABLE IF NOT EXISTS {name} ON COMMIT DROP AS SELECT {columns} FROM {_table(target)} WITH NO DATA",
    )
    return name


def _execute(connection: Connection, statement: str) -> Any:
    return cursor_of(connection).execute(statement)


def _table(target: Target) -> str:
    return f"{quote(target.schema)}.{quote(target.name)}" if target.schema else quote(target.name)
