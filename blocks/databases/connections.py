"""One SQLAlchemy engine per connection and process, configured so that values and transactions are exact."""

import os
import threading
import weakref
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool, SingletonThreadPool

from prefect_batch.blocks.credentials import load_block, parse_url, url_of
from prefect_batch.blocks.databases.known_dialects import dialect_of, with_driver

_engines: dict[str, Engine] = {}
_inherited: list[Engine] = []
_reached: weakref.WeakSet[Engine] = weakref.WeakSet()
_lock = threading.Lock()


def open_engine(connection: str) -> Engine:
    """Return this process's engine for the connection, which is created on the first call."""
    with _lock:
        if connection not in _engines:
            _engines[connection] = _make_engine(connection)
        return _engines[connection]


def close_engines() -> None:
    """Close all database connections of this process. The next `open_engine` creates new engines."""
    with _lock:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()


def open_connections() -> int:
    """Return how many database connections this process has open, in use or idle in a pool."""
    with _lock:
        pools = [engine.pool for engine in _engines.values()]
    return sum(pool.checkedin() + pool.checkedout() for pool in pools if isinstance(pool, QueuePool))


def was_reached(engine: Engine) -> bool:
    """Return whether this process has ever been connected to the engine's database."""
    return engine in _reached


def file_of(connection: str) -> Path | None:
    """Return the file on this machine that holds the database, or None if there is none."""
    engine = open_engine(connection)
    return dialect_of(engine).file(engine.url)


def _forget_engines() -> None:
    """Drop the parent's engines in a forked child without closing them, which would end the parent's sessions."""
    if _lock.locked():
        _lock.release()  # A thread that does not exist in the child may hold it.
    for engine in _engines.values():
        engine.dispose(close=False)
    _inherited.extend(_engines.values())
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_engines)


def _make_engine(connection: str) -> Engine:
    if connection.startswith("sqlalchemy-connector/"):
        engine: Engine = load_block(connection).get_engine()
        if isinstance(engine.pool, SingletonThreadPool):
            engine = _create(engine.url)  # Otherwise each thread of a run would have its own, empty database.
    else:
        engine = _create(parse_url(url_of(connection)))
    dialect_of(engine).set_up(engine)
    event.listen(engine, "connect", lambda _connection, _record: _reached.add(engine))
    return engine


def _create(url: URL) -> Engine:
    url, dialect = with_driver(url)
    # An engine that a block has made may open something else than its URL says.
    return create_engine(url, execution_options={"opens_its_url": True}, **dialect.arguments(url))
