"""One SQLAlchemy engine per connection and process, set up so that values and transactions are exact."""

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool, SingletonThreadPool

from prefect_batch.blocks.credentials import _load_block, _parse, url_of
from prefect_batch.blocks.databases.sqlite.memory import in_memory, is_private, shared_memory

__all__ = ["close_engines", "for_writing", "is_in_memory", "open_engine", "sqlite_file"]

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}

_engines: dict[str, Engine] = {}
_inherited: list[Engine] = []
_lock = threading.Lock()


def open_engine(connection: str) -> Engine:
    """The engine of this connection; one per connection and process, made when first asked for."""
    with _lock:
        if connection not in _engines:
            _engines[connection] = _make_engine(connection)
        return _engines[connection]


def for_writing(engine: Engine) -> Engine:
    """The same engine and pool, but SQLite transactions take the write lock when they begin.

    A transaction that reads first and asks for the lock later fails at once with "database is locked" if another
    one wrote in between; one that asks at its beginning waits for its turn.
    """
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


def is_in_memory(engine: Engine) -> bool:
    """Whether its database lives in this process alone."""
    if engine.dialect.name != "sqlite":
        return False
    if in_memory(engine.url):
        return True
    with engine.connect() as connection:
        # What the engine of a block opens, its URL need not tell.
        return not connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar()


def close_engines() -> None:
    """Close every connection of this process; the next `open_engine` makes new ones."""
    with _lock:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()


def open_connections() -> int:
    """How many database connections this process has open, at work or waiting in a pool."""
    with _lock:
        pools = [engine.pool for engine in _engines.values()]
    return sum(pool.checkedin() + pool.checkedout() for pool in pools if isinstance(pool, QueuePool))


def sqlite_file(connection: str) -> Path | None:
    """The file of a SQLite database; None for other databases, and for one in memory."""
    url = open_engine(connection).url
    return None if url.get_backend_name() != "sqlite" or in_memory(url) else Path(str(url.database)).absolute()


def _forget_engines() -> None:
    """Leave the parent's sockets alone in a forked child: closing them would end the parent's sessions."""
    if _lock.locked():
        _lock.release()  # By a thread that does not exist here.
    for engine in _engines.values():
        engine.dispose(close=False)
    _inherited.extend(_engines.values())
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_engines)


def _make_engine(connection: str) -> Engine:
    if connection.startswith("sqlalchemy-connector/"):
        engine: Engine = _load_block(connection).get_engine()
        if isinstance(engine.pool, SingletonThreadPool) and is_private(engine.url):
            engine = _create(engine.url)  # Each thread of a run would have an empty database of its own.
    else:
        engine = _create(_with_driver(_parse(url_of(connection))))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif engine.dialect.name in ("mysql", "mariadb"):
        event.listen(engine, "connect", _set_up_mysql)
    return engine


def _with_driver(url: URL) -> URL:
    """The URL with our driver where it names none, and with utf8mb4 for MySQL."""
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if url.get_backend_name() in ("mysql", "mariadb") and "charset" not in url.query:
        url = url.update_query_dict({"charset": "utf8mb4"})
    return url


def _create(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        opened: dict[str, Any] = {"connect_args": {"check_same_thread": False}}
        opened = {"creator": shared_memory()} if is_private(url) else opened
        return create_engine(url, poolclass=QueuePool, max_overflow=-1, **opened)
    # Seen by who looks at the server's sessions, and by the health checks, which leave our own out.
    named = {"fallback_application_name": "prefect-batch"} if url.drivername == "postgresql+psycopg" else {}
    # Without a bound: two connections per chunk in flight, and a bound below that would be a deadlock.
    return create_engine(url, pool_pre_ping=True, max_overflow=-1, connect_args=named)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    """Explicit BEGIN (or SAVEPOINT would not work), WAL (readers beside a writer), 30 s of patience.

    FULL, or a power cut could undo a commit that the cursor counts as done; it costs one fsync a chunk.
    """
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA busy_timeout = 30000")
        cursor.execute("PRAGMA journal_mode")
        if cursor.fetchone()[0] == "delete":
            # A read-only file, or one that another connection is using just now, keeps its mode.
            with contextlib.suppress(sqlite3.OperationalError):
                cursor.execute("PRAGMA journal_mode = WAL").fetchall()
        cursor.execute("PRAGMA synchronous = FULL")
    finally:
        cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _set_up_mysql(connection: Any, _record: Any) -> None:
    """UTC: in a zone with summer time, one hour of TIMESTAMP values a year would be ambiguous as keys."""
    cursor = connection.cursor()
    try:
        cursor.execute("SET time_zone = '+00:00'")
    finally:
        cursor.close()
