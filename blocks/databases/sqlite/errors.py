"""Classifies errors of SQLite: https://www.sqlite.org/rescode.html."""

import sqlite3

__all__ = ["is_of_sink", "verdict"]

# SQLITE_BUSY and SQLITE_LOCKED; extended codes keep them in the low byte.
_TRANSIENT = {5, 6}
# perm, readonly, ioerr, corrupt, full, cantopen, notadb.
_OF_SINK = {3, 8, 10, 11, 13, 14, 26}


def verdict(error: BaseException) -> bool | None:
    """Implement `Dialect.verdict`."""
    if not isinstance(error, sqlite3.Error):
        return None
    return _code(error) in _TRANSIENT


def is_of_sink(error: BaseException) -> bool:
    """Implement `Dialect.is_of_sink`."""
    if not isinstance(error, sqlite3.Error):
        return False
    # A missing table has no code of its own.
    return _code(error) in _OF_SINK or str(error).startswith("no such table")


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, or 0 if Python's module raised the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
