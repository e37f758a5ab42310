"""The dialect of SQLite: one file, one writer, and values that are numbers, text or bytes."""

import contextlib
import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, Select, event
from sqlalchemy import types as sql
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from prefect_batch.blocks.databases.columns import SourceColumn
from prefect_batch.blocks.databases.dialect import Dialect, Explained
from prefect_batch.blocks.databases.sqlite.catalogue import check_target, loose_keys, unique_indexes
from prefect_batch.blocks.databases.sqlite.errors import blame
from prefect_batch.blocks.databases.sqlite.identity import identity
from prefect_batch.blocks.databases.sqlite.location import file_of, in_memory, is_private, shared_memory
from prefect_batch.blocks.databases.sqlite.tables import fetch_tables, stream
from prefect_batch.blocks.databases.sqlite.values import arrow_type, column_fit, made_type, reader
from prefect_batch.blocks.databases.sqlite.write import write_sqlite, write_sqlite_one_by_one, write_sqlite_table
from prefect_batch.blocks.databases.statements import explain


def _arguments(url: URL) -> dict[str, Any]:
    # For a database in memory SQLAlchemy would open a connection, and so a database, for each thread.
    opened = {"creator": shared_memory()} if is_private(url) else {"connect_args": {"check_same_thread": False}}
    return {"poolclass": QueuePool, "max_overflow": -1, **opened}


def _in_memory(engine: Engine) -> bool:
    if in_memory(engine.url):
        return True
    if engine.get_execution_options().get("opens_its_url"):
        return False  # To connect would create the file.
    with engine.connect() as connection:
        # The URL of a block's engine may not show what it opens.
        return not connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar()


def _set_up(engine: Engine) -> None:
    event.listen(engine, "connect", _set_up_connection)
    event.listen(engine, "begin", _begin)


def _set_up_connection(connection: Any, _record: Any) -> None:
    """Set explicit BEGIN (else SAVEPOINT fails), WAL (readers beside a writer) and a busy timeout of 30 s.

    ``synchronous = FULL`` costs one fsync per chunk. Without it a power cut could undo a commit that the cursor counts
    as done.
    """
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA busy_timeout = 30000")
        cursor.execute("PRAGMA journal_mode")
        if cursor.fetchone()[0] == "delete":
            # A read-only file keeps its mode, and so does a file that another connection is using now.
            with contextlib.suppress(sqlite3.OperationalError):
                cursor.execute("PRAGMA journal_mode = WAL").fetchall()
        cursor.execute("PRAGMA synchronous = FULL")
    finally:
        cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _for_writing(engine: Engine) -> Engine:
    """Return the same engine and pool, with transactions that take the write lock when they begin.

    A transaction that reads first and asks for the lock later fails at once with "database is locked" if another
    one wrote in between. One that asks at its beginning waits for its turn.
    """
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


def _query_columns(connection: Connection, statement: str) -> list[SourceColumn]:
    """Return the columns of a SELECT by way of a temporary view, which knows the declared types."""
    driver = connection.exec_driver_sql
    driver(f"CREATE TEMP VIEW prefect_batch_query AS\n{statement}\n")
    try:
        rows = driver("PRAGMA temp.table_info(prefect_batch_query)").fetchall()
    finally:
        driver("DROP VIEW temp.prefect_batch_query")
    dialect: Any = connection.dialect
    resolve = dialect._resolve_type_affinity  # noqa: SLF001 - as its own reflection does
    return [SourceColumn(row[1], resolve(row[2]) if row[2] else sql.NullType()) for row in rows]


def _explain(connection: Connection, statement: Select[Any]) -> Explained:
    plan = tuple(str(row[-1]) for row in explain(connection, "EXPLAIN QUERY PLAN", statement))
    scans = any(step.startswith("SCAN") and "INDEX" not in step for step in plan)
    return Explained(any("TEMP B-TREE" in step for step in plan), scans, plan)


SQLITE = Dialect(
    schemes={"sqlite": "sqlite+pysqlite"},
    arguments=_arguments,
    set_up=_set_up,
    for_writing=_for_writing,
    in_memory=_in_memory,
    file=file_of,
    one_thread=True,  # Threads pass the interpreter lock around at every row.
    one_writer=True,
    row_values=True,
    raw_keys=True,
    identity=identity,
    query_columns=_query_columns,
    refused_key=lambda _type: None,
    unique_indexes=unique_indexes,
    loose_keys=loose_keys,
    check_target=check_target,
    arrow_type=arrow_type,
    column_fit=column_fit,
    made_type=made_type,
    read_value=reader,
    stream=stream,
    table_reader=lambda _engine, _columns: fetch_tables,
    write=write_sqlite,
    write_table=write_sqlite_table,
    write_one_by_one=write_sqlite_one_by_one,
    explain=_explain,
    blame=blame,
)
