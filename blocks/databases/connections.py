"""One SQLAlchemy engine per connection and process, set up so that values and transactions are exact."""

import os
import threading
from pathlib import Path

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool, SingletonThreadPool

from prefect_batch.blocks.credentials import _load_block, _parse, url_of
from prefect_batch.blocks.databases.known_dialects import dialect_of, with_driver

__all__ = ["close_engines", "file_of", "open_engine"]

_engines: dict[str, Engine] = {}
_inherited: list[Engine] = []
_lock = threading.Lock()


def open_engine(connection: str) -> Engine:
    """The engine of this connection; one per connection and process, made when first asked for."""
    with _lock:
        if connection not in _engines:
            _engines[connection] = _make_engine(connection)
        return _engines[connection]


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


def file_of(connection: str) -> Path | None:
    """The file that holds the database, on this machine; None if there is none."""
    engine = open_engine(connection)
    return dialect_of(engine).file(engine.url)


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
        if isinstance(engine.pool, SingletonThreadPool):
            engine = _create(engine.url)  # Each thread of a run would have an empty database of its own.
    else:
        engine = _create(_parse(url_of(connection)))
    dialect_of(engine).set_up(engine)
    return engine


def _create(url: URL) -> Engine:
    url, dialect = with_driver(url)
    return create_engine(url, **dialect.arguments(url))
