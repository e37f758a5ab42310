"""What an error of SQLite means for the work: https://www.sqlite.org/rescode.html."""

import sqlite3

__all__ = ["is_of_sink", "verdict"]

# SQLITE_BUSY and SQLITE_LOCKED; extended codes keep them in the low byte.
_TRANSIENT = {5, 6}
_TRANSIENT_MESSAGES = ("database is locked", "database table is locked", "database schema is locked")
# perm, readonly, ioerr, corrupt, full, cantopen, notadb.
_OF_SINK = {3, 8, 10, 11, 13, 14, 26}
_OF_SINK_MESSAGES = ("no such table", "database or disk is full")


def verdict(error: BaseException) -> bool | None:
    """As `Dialect.verdict`."""
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return (code & 0xFF) in _TRANSIENT
    # Python 3.10 gives no code: the text is all there is.
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(_TRANSIENT_MESSAGES)


def is_of_sink(error: BaseException) -> bool:
    """As `Dialect.is_of_sink`."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in _OF_SINK or str(error).startswith(_OF_SINK_MESSAGES)
