"""Writes rows to PostgreSQL one by one on the server, which finds refused rows without a round trip for each."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from prefect_batch.blocks.databases.dialect import Refused
from prefect_batch.blocks.databases.postgresql.copy import Copied, cursor_of, quote
from prefect_batch.blocks.databases.statements import on_conflict
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.errors import RowNotFound, WriteAgain

# The column that numbers the rows in the temporary table; the others are c0, c1, … in the order of the names.
ROW = "prefect_batch_row"
# This many rows are first tried in one statement: with 1 % of bad rows, 85 % of the statements succeed.
GROUP_ROWS = 16
_REFUSED = "prefect_batch_refused"
# No states of PostgreSQL's own: there is no such row, and another number of rows was written than sent.
_MISSING, _MISCOUNTED = "PB404", "PB405"
# The classes of violated constraints, and of errors that triggers raise.
_TOLD_IN_FULL = {"23", "P0"}

# A group that fails is written row by row. WHEN OTHERS does not catch a cancelled query, which fails the chunk.
_BLOCK = """
DECLARE
  prefect_batch_low int := 0;
  prefect_batch_first int;
  prefect_batch_last int;
  prefect_batch_count int;
  prefect_batch_state text;
  prefect_batch_message text;
  prefect_batch_detail text;
  prefect_batch_hint text;
BEGIN
  WHILE prefect_batch_low < {rows} LOOP
    prefect_batch_first := prefect_batch_low;
    prefect_batch_last := least(prefect_batch_low + {group}, {rows}) - 1;
    BEGIN
      {write}
    EXCEPTION WHEN OTHERS THEN
      FOR prefect_batch_one IN prefect_batch_first .. prefect_batch_last LOOP
        prefect_batch_first := prefect_batch_one;
        prefect_batch_last := prefect_batch_one;
        BEGIN
          {write}
        EXCEPTION WHEN OTHERS THEN
          GET STACKED DIAGNOSTICS prefect_batch_state = RETURNED_SQLSTATE, prefect_batch_message = MESSAGE_TEXT,
            prefect_batch_detail = PG_EXCEPTION_DETAIL, prefect_batch_hint = PG_EXCEPTION_HINT;
          INSERT INTO {refused} VALUES (prefect_batch_one, prefect_batch_state, prefect_batch_message,
            prefect_batch_detail, prefect_batch_hint);
        END;
      END LOOP;
    END;
    prefect_batch_low := prefect_batch_low + {group};
  END LOOP;
END
"""


@dataclass(frozen=True)
class NumberedRows:
    """Rows to write one by one.

    `copy` copies them, numbered from 0, into a table whose columns are `ROW` and the names.
    """

    write: str
    names: tuple[str, ...]
    count: int
    copy: Callable[[str], Copied]


def write_one_by_one(connection: Connection, target: Target, table: str, numbered: NumberedRows) -> Refused | None:
    """Write the rows one by one, in order. `table` is the target's quoted name.

    Returns:
        The rows that the database refused, each with the reason, as in `Dialect`. None, with nothing written, if a
        column's type does not accept as text all that COPY accepts, or if there is no column to set.

    Raises:
        WriteAgain: this user may not do that here.
        psycopg.Error: the database refused something other than a row.
    """
    from psycopg import errors, sql

    cursor = cursor_of(connection)
    types = _types(cursor, table)
    if any(name not in types for name in numbered.names):
        return None
    staged = f"prefect_batch_rows_{hashlib.sha256(f'{table} {numbered.names}'.encode()).hexdigest()[:12]}"
    statement = _statement(target, table, staged, numbered, types)
    if statement is None:
        return None
    block = _BLOCK.format(rows=numbered.count, group=GROUP_ROWS, write=statement, refused=_REFUSED)
    try:
        _stage(cursor, staged, len(numbered.names))
        numbered.copy(staged)
        cursor.execute(sql.SQL("DO {}").format(sql.Literal(block)))
    except errors.InsufficientPrivilege as error:
        # For temporary tables, or for the language. Errors of a row were caught within the block.
        raise WriteAgain(str(error)) from None
    refused = cursor.execute(f"SELECT * FROM {_REFUSED}").fetchall()
    cursor.execute(f"TRUNCATE {staged}, {_REFUSED}")
    return {row: _error(target, *told) for row, *told in refused}


def _types(cursor: Any, table: str) -> dict[str, str]:
    """Return the types of the table's columns without their limits, which the assignment checks, as COPY does.

    Domains and other types are left out: a text that is cast to a domain is silently cut to its length.
    """
    found = cursor.execute(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, -1) FROM pg_catalog.pg_attribute a "
        "JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem "
        "WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped "
        "AND t.typtype IN ('b', 'e') AND coalesce(e.typtype, 'b') IN ('b', 'e')",
        (table,),
    )
    return dict(found.fetchall())


def _stage(cursor: Any, staged: str, columns: int) -> None:
    """Create temporary tables for the transaction: one for the rows as text, and one for those refused."""
    texts = ", ".join(f"c{place} text" for place in range(columns))
    cursor.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {staged} ({ROW} int PRIMARY KEY, {texts}) ON COMMIT DROP; "
        f"CREATE TEMP TABLE IF NOT EXISTS {_REFUSED} "
        "(row int, state text, message text, detail text, hint text) ON COMMIT DROP"
    )


def _statement(target: Target, table: str, staged: str, numbered: NumberedRows, types: dict[str, str]) -> str | None:
    """Return the PL/pgSQL that writes the rows from prefect_batch_first to prefect_batch_last.

    Returns:
        None for an update or an upsert that has no column to set.
    """
    quoted = {name: quote(name) for name in numbered.names}
    cast = [f"c{place}::{types[name]} AS {quoted[name]}" for place, name in enumerate(numbered.names)]
    rows = (
        f"SELECT {', '.join(cast)} FROM {staged} "
        f"WHERE {ROW} BETWEEN prefect_batch_first AND prefect_batch_last ORDER BY {ROW}"
    )
    others = [name for name in numbered.names if name not in target.key]
    if numbered.write != "insert" and not others:
        return None
    if numbered.write == "update":
        settings = ", ".join(f"{quoted[name]} = s.{quoted[name]}" for name in others)
        matches = " AND ".join(f"t.{quoted[name]} = s.{quoted[name]}" for name in target.key)
        missing = f"NOT EXISTS (SELECT 1 FROM {table} t, ({rows}) s WHERE {matches})"
        return (
            f"UPDATE {table} t SET {settings} FROM ({rows}) s WHERE {matches}; "
            f"{_counted(f'IF {missing} THEN {_raised(_MISSING)} END IF;')}"
        )
    insert = f"INSERT INTO {table} ({', '.join(quoted.values())}) OVERRIDING SYSTEM VALUE {rows}"
    conflict = "" if numbered.write == "insert" else on_conflict(target, numbered.names, quote)
    return f"{insert} {conflict}; {_counted()}"


def _counted(first: str = "") -> str:
    """Return the PL/pgSQL that raises an error unless the statement before it wrote as many rows as it should."""
    return (
        "GET DIAGNOSTICS prefect_batch_count = ROW_COUNT; "
        f"IF prefect_batch_count <> prefect_batch_last - prefect_batch_first + 1 THEN {first} {_raised(_MISCOUNTED)} "
        "END IF;"
    )


def _raised(state: str) -> str:
    return f"RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'rows';"


def _error(target: Target, state: str, message: str, detail: str, hint: str) -> Exception | None:
    """Return the database's error, as the driver would have raised it for a statement of its own.

    Returns:
        None if writing that row alone would say more: which column the value was for, or whether it was skipped.
    """
    import psycopg

    if state == _MISSING:
        return RowNotFound(target.name, target.key)
    if state[:2] not in _TOLD_IN_FULL:
        return None
    try:
        kind: type[Exception] = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.DatabaseError
    parts = [message, f"DETAIL:  {detail}" if detail else "", f"HINT:  {hint}" if hint else ""]
    return kind("\n".join(filter(None, parts)))
