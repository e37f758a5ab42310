"""Writes to PostgreSQL with psycopg 3: COPY into the table itself, or through a temporary table."""

import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from prefect_batch.blocks.databases.dialect import Refused
from prefect_batch.blocks.databases.postgresql.check_text import check_text
from prefect_batch.blocks.databases.postgresql.copy import (
    Copied,
    copy_rows,
    copy_table,
    cursor_of,
    goes_as_csv,
    plain_table,
    quote,
)
from prefect_batch.blocks.databases.postgresql.errors import blame, note_refused_row
from prefect_batch.blocks.databases.postgresql.one_by_one import ROW, NumberedRows, write_one_by_one
from prefect_batch.blocks.databases.rows import Same, check_table, last_of_each_key, last_of_each_key_in, same_columns
from prefect_batch.blocks.databases.statements import on_conflict, quoted_table
from prefect_batch.blocks.databases.target import Target, check_count
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import RowNotFound, WriteAgain
from prefect_batch.blocks.kinds.convert import records_of
from prefect_batch.blocks.kinds.record import Record


def write_postgresql(connection: Connection, target: Target, write: str, records: list[Record]) -> None:
    """Implement `Dialect.write`."""
    for same in (same.fitted(target) for same in same_columns(records, target)):
        check_text(connection, target, _table(target), same)
        table = plain_table(same)
        if table is not None:
            _write_table(connection, target, write, table)
            continue

        def copy(into: str, same: Same = same) -> Copied:
            return copy_rows(connection, same.rows, into)

        def copy_last(into: str, same: Same = same) -> Copied:
            return copy_rows(connection, last_of_each_key(same, target).rows, into)

        _write(connection, target, write, same.names, copy, copy_last)


def write_postgresql_table(connection: Connection, target: Target, write: str, table: pa.Table) -> None:
    """Implement `Dialect.write_table`."""
    check_table(table, target)
    if goes_as_csv(table, target):
        _write_table(connection, target, write, table)
    else:
        write_postgresql(connection, target, write, records_of(table))


def write_postgresql_one_by_one(
    connection: Connection, target: Target, write: str, rows: list[Record] | pa.Table
) -> Refused | None:
    """Implement `Dialect.write_one_by_one`.

    Raises:
        WriteAgain: this user may not do that here, and nothing was written.
        psycopg.Error: the database refused something other than a row.
    """
    if isinstance(rows, pa.Table):
        check_table(rows, target)
        if goes_as_csv(rows, target):
            return _write_table_one_by_one(connection, target, write, rows)
        rows = records_of(rows)
    same, *others = same_columns(rows, target)
    if others:
        return None
    same, places, refused = same.fitting(target)
    found = _write_same_one_by_one(connection, target, write, same) if places else {}
    return None if found is None else {**refused, **{places[place]: error for place, error in found.items()}}


def _write_same_one_by_one(connection: Connection, target: Target, write: str, same: Same) -> Refused | None:
    check_text(connection, target, _table(target), same)
    table = plain_table(same)
    if table is not None:
        return _write_table_one_by_one(connection, target, write, table)
    lines = [(place, *row) for place, row in enumerate(same.rows)]
    numbered = NumberedRows(write, same.names, len(lines), lambda into: copy_rows(connection, lines, into))
    return write_one_by_one(connection, target, _table(target), numbered)


def _write_table_one_by_one(connection: Connection, target: Target, write: str, table: pa.Table) -> Refused | None:
    lines = table.add_column(0, ROW, pa.array(range(table.num_rows), pa.int32()))
    names = tuple(table.column_names)
    numbered = NumberedRows(write, names, table.num_rows, lambda into: copy_table(connection, lines, into))
    return write_one_by_one(connection, target, _table(target), numbered)


def _write_table(connection: Connection, target: Target, write: str, table: pa.Table) -> None:
    _write(
        connection,
        target,
        write,
        tuple(table.column_names),
        lambda into: copy_table(connection, table, into),
        lambda into: copy_table(connection, last_of_each_key_in(table, target), into),
    )


Copy = Callable[[str], Copied]


def _write(
    connection: Connection, target: Target, write: str, names: tuple[str, ...], copy: Copy, copy_last: Copy
) -> None:
    """Write rows to the target, directly or through a temporary table with these of its columns.

    `copy` copies the rows into a table, and `copy_last` only the last row of each key.
    """
    columns = ", ".join(map(quote, names))
    into = f"{_table(target)} ({columns})"
    if write == "insert" and _NO_COPY not in target.obstacles:
        check_count(target, *_copied(copy, into, target))
    elif write == "upsert" and not target.obstacles:
        check_count(target, *_copied_at_once(copy, into, target))
    else:
        staging = _stage(connection, target, columns)
        sent, _ = (copy if write == "insert" else copy_last)(f"{staging} ({columns})")
        done = _WRITES[write](connection, target, staging, names)
        _execute(connection, f"TRUNCATE {staging}")
        check_count(target, sent, done)


# The name of the error of a table with row policies, which takes no COPY.
_NO_COPY = "FeatureNotSupported"


def _copied(copy: Copy, into: str, target: Target) -> Copied:
    """Copy into the table.

    Raises:
        WriteAgain: the table cannot be copied to.
    """
    import psycopg

    try:
        return copy(into)
    except psycopg.errors.FeatureNotSupported as error:
        target.obstacles.add(_NO_COPY)
        raise WriteAgain(str(error)) from error


def _copied_at_once(copy: Copy, into: str, target: Target) -> Copied:
    """Copy as if none of the keys existed, as in a first pass, which takes the server half the time.

    Raises:
        WriteAgain: some keys exist, or the table cannot be copied to.
    """
    import psycopg

    try:
        return copy(into)
    except psycopg.Error as error:
        note_refused_row(error)
        of_record = isinstance(error, (psycopg.DataError, psycopg.IntegrityError))
        if (blame(error) or Blame.RECORD).passes or (
            of_record and not isinstance(error, psycopg.errors.UniqueViolation)
        ):
            raise
        target.obstacles.add(type(error).__name__)
        raise WriteAgain(str(error)) from error


def _insert(connection: Connection, target: Target, staging: str, names: tuple[str, ...]) -> int:
    return int(_execute(connection, _insert_statement(target, staging, names)).rowcount)


def _upsert(connection: Connection, target: Target, staging: str, names: tuple[str, ...]) -> int:
    statement = f"{_insert_statement(target, staging, names)} {on_conflict(target, names, quote)}"
    done = int(_execute(connection, statement).rowcount)
    if set(names) > set(target.key):
        return done
    # A row that exists is left as it is, and not counted.
    found = f"SELECT count(*) FROM {staging} s WHERE EXISTS (SELECT 1 FROM {_table(target)} t WHERE {_matches(target)})"
    return int(_execute(connection, found).fetchone()[0])


def _update(connection: Connection, target: Target, staging: str, names: tuple[str, ...]) -> int:
    matches = _matches(target)
    missing = f"SELECT 1 FROM {staging} s WHERE NOT EXISTS (SELECT 1 FROM {_table(target)} t WHERE {matches}) LIMIT 1"
    if _execute(connection, missing).fetchone():
        raise RowNotFound(target.name, target.key)
    others = [f"{quote(name)} = s.{quote(name)}" for name in names if name not in target.key]
    if not others:
        return -1
    update = f"UPDATE {_table(target)} t SET {', '.join(others)} FROM {staging} s WHERE {matches}"
    return int(_execute(connection, update).rowcount)


_WRITES = {"insert": _insert, "upsert": _upsert, "update": _update}


def _insert_statement(target: Target, staging: str, names: tuple[str, ...]) -> str:
    columns = ", ".join(map(quote, names))
    return f"INSERT INTO {_table(target)} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {staging}"


def _matches(target: Target) -> str:
    return " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in target.key)


def _stage(connection: Connection, target: Target, columns: str) -> str:
    """Create a temporary table with these columns of the target for the transaction, and return its name."""
    # One for each set of columns. ON COMMIT DROP, because behind a pooler a session outlives the transaction.
    name = quote("prefect_batch_" + hashlib.sha256(f"{_table(target)} {columns}".encode()).hexdigest()[:12])
    _execute(
        connection,
        f"CREATE TEMP TABLE IF NOT EXISTS {name} ON COMMIT DROP AS SELECT {columns} FROM {_table(target)} WITH NO DATA",
    )
    return name


def _execute(connection: Connection, statement: str) -> Any:
    return cursor_of(connection).execute(statement)


def _table(target: Target) -> str:
    return quoted_table(target, quote)
