"""Which database errors pass by themselves, so that the chunk is tried again whole."""

import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from prefect_batch.blocks.errors import BadSink, ChunkIsDone, RemoteError, WorkerDied

__all__ = ["fails_chunk", "is_transient"]

# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization failure, deadlock, lock not
# available, shutdowns, too many connections, session ended by an idle timeout.
_SQLSTATES = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "53300", "25P03"}
# https://mariadb.com/kb/en/mariadb-error-codes/: too many connections, shutdown, network, lock wait timeout,
# deadlock, connection killed, lost connection.
_MYSQL_CODES = {1020, 1040, 1047, 1053, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1927, 2002, 2003, 2006, 2013, 2055}
# https://www.sqlite.org/rescode.html: SQLITE_BUSY and SQLITE_LOCKED; extended codes keep them in the low byte.
_SQLITE_CODES = {5, 6}
# No record is to blame for these: no privilege, a read-only database, a table that is gone, a disk that is full.
_SQLSTATES_OF_SINK = {"42501", "42P01", "25006", "3F000"}
_SQLSTATE_CLASSES_OF_SINK = ("53", "58", "57", "XX")
_MYSQL_CODES_OF_SINK = {3, 28, 1021, 1026, 1036, 1044, 1045, 1114, 1142, 1143, 1146, 1227, 1290, 1836}
# perm, readonly, ioerr, corrupt, full, cantopen, notadb.
_SQLITE_CODES_OF_SINK = {3, 8, 10, 11, 13, 14, 26}


def is_transient(exc: BaseException) -> bool:
    """Whether the same work may succeed when it is tried again; what is not known is permanent.

    The outermost error of the chain that carries a verdict decides.
    """
    for error in _chain(exc):
        verdict = _verdict(error)
        if verdict is not None:
            return verdict
    return False


def fails_chunk(exc: BaseException) -> bool:
    """Whether the sink would refuse every record like this one, so that the chunk fails and none becomes a letter."""
    return is_transient(exc) or any(_is_of_sink(error) for error in _chain(exc))


def _is_of_sink(error: BaseException) -> bool:
    if isinstance(error, (OSError, BadSink)):
        return True  # A disk that is full, an object store that refuses.
    if isinstance(error, sqlite3.Error):
        # A missing table has no code of its own.
        return _sqlite_code(error) in _SQLITE_CODES_OF_SINK or str(error).startswith("no such table")
    driver = type(error).__module__.partition(".")[0]
    if driver in ("pymysql", "MySQLdb"):
        return bool(error.args) and error.args[0] in _MYSQL_CODES_OF_SINK
    state: str = getattr(error, "sqlstate", None) or "" if driver == "psycopg" else ""
    return state in _SQLSTATES_OF_SINK or state[:2] in _SQLSTATE_CLASSES_OF_SINK


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [exc]
    while pending:
        error = pending.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        context = None if error.__suppress_context__ else error.__context__
        pending += [context, error.__cause__, error.orig if isinstance(error, DBAPIError) else None]


def _verdict(error: BaseException) -> bool | None:
    """True or False where the error itself says it, None where its cause must be asked."""
    if isinstance(error, (ChunkIsDone, RemoteError, WorkerDied)):
        return error.transient
    if isinstance(error, (ConnectionError, TimeoutError, DisconnectionError, PoolTimeout)):
        return True
    if isinstance(error, DBAPIError):
        return True if error.connection_invalidated else None
    if isinstance(error, sqlite3.Error):
        return _sqlite_code(error) in _SQLITE_CODES
    driver = type(error).__module__.partition(".")[0]
    if driver in ("pymysql", "MySQLdb"):
        return _mysql_verdict(error)
    if driver in ("psycopg", "psycopg2"):
        return _postgresql_verdict(error)
    return None


def _sqlite_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 where Python's module raised the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _mysql_verdict(error: BaseException) -> bool:
    code = error.args[0] if error.args else None
    # PyMySQL says InterfaceError(0, "") on a connection that it has closed itself.
    return code in _MYSQL_CODES or (type(error).__name__ == "InterfaceError" and code == 0)


def _postgresql_verdict(error: BaseException) -> bool:
    state: str | None = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None:
        # libpq knows no state when the server went away; every error that the server sends has one.
        return type(error).__name__ == "OperationalError"
    return state in _SQLSTATES or state.startswith("08")
