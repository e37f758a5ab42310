"""Writes to SQLite, with one prepared statement for all rows."""

import sqlite3
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from prefect_batch.blocks.databases.dialect import Refused
from prefect_batch.blocks.databases.rows import Same, check_table, plain_columns, same_columns
from prefect_batch.blocks.databases.sqlite.values import too_large
from prefect_batch.blocks.databases.statements import on_conflict, quoted_table
from prefect_batch.blocks.databases.target import Target, check_count
from prefect_batch.blocks.kinds.convert import records_of, values_of
from prefect_batch.blocks.kinds.record import Record

# Columns whose texts are made in Arrow, which is faster than value by value.
_AS_TEXT = (pa.date32(), pa.timestamp("us"))


def write_sqlite(connection: Connection, target: Target, write: str, records: list[Record]) -> None:
    """Implement `Dialect.write`."""
    for same in same_columns(records, target):
        _write(connection, target, write, same.fitted(target))


def write_sqlite_table(connection: Connection, target: Target, write: str, table: pa.Table) -> None:
    """Implement `Dialect.write_table`."""
    check_table(table, target)
    same = plain_columns(tuple(table.column_names), [_values(column) for column in table.columns])
    _write(connection, target, write, same.fitted(target, ready=[f.name for f in table.schema if f.type in _AS_TEXT]))


def write_sqlite_one_by_one(
    connection: Connection, target: Target, write: str, rows: list[Record] | pa.Table
) -> Refused | None:
    """Implement `Dialect.write_one_by_one`.

    Raises:
        sqlite3.Error: a trigger of the database has ended the transaction.
    """
    if isinstance(rows, pa.Table):
        rows = records_of(rows)
    same, *others = same_columns(rows, target)
    if others:
        return None
    same, places, refused = same.fitting(target)
    statement, values = _statement(connection, target, write, same)
    driver: Any = connection.connection.driver_connection
    for place, row in zip(places, values, strict=True):
        try:
            if driver.execute(statement, row).rowcount != 1:
                refused[place] = None  # Alone it shows whether it is missing, skipped, or there already.
        except sqlite3.Error as error:
            if not driver.in_transaction:
                raise
            refused[place] = error
    return refused


def _write(connection: Connection, target: Target, write: str, same: Same) -> None:
    statement, rows = _statement(connection, target, write, same)
    try:
        result = connection.exec_driver_sql(statement, rows)
    except OverflowError as error:
        raise too_large(same.names, same.columns) or error from error
    check_count(target, len(rows), result.rowcount)


def _statement(connection: Connection, target: Target, write: str, same: Same) -> tuple[str, list[tuple[Any, ...]]]:
    """Return the statement that writes a row, and its parameters for each row."""
    if write == "update":
        return _update(connection, target, same)
    return _insert(connection, target, same.names, upsert=write == "upsert"), same.rows


def _values(column: pa.ChunkedArray) -> list[Any]:
    if column.type == pa.timestamp("us"):  # The same texts as by `column_fit`, but faster.
        text = column.cast(pa.string())
        return values_of(pc.if_else(pc.ends_with(text, ".000000"), pc.utf8_slice_codeunits(text, 0, -7), text))
    return values_of(column.cast(pa.string()) if column.type == pa.date32() else column)


def _insert(connection: Connection, target: Target, names: tuple[str, ...], *, upsert: bool) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    columns, places = ", ".join(map(quote, names)), ", ".join("?" * len(names))
    statement = f"INSERT INTO {quoted_table(target, quote)} ({columns}) VALUES ({places})"
    return f"{statement} {on_conflict(target, names, quote)}" if upsert else statement


def _update(connection: Connection, target: Target, same: Same) -> tuple[str, list[tuple[Any, ...]]]:
    quote = connection.dialect.identifier_preparer.quote_identifier
    # With the key alone there is nothing to set, but a missing row must still be noticed.
    others = [name for name in same.names if name not in target.key] or [target.key[0]]
    settings = ", ".join(f"{quote(name)} = ?" for name in others)
    condition = " AND ".join(f"{quote(name)} = ?" for name in target.key)
    columns = [same.columns[same.names.index(name)] for name in (*others, *target.key)]
    statement = f"UPDATE {quoted_table(target, quote)} SET {settings} WHERE {condition}"
    return statement, list(zip(*columns, strict=True))
