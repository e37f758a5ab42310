"""Classifies errors of SQLite: https://www.sqlite.org/rescode.html."""

import sqlite3

from prefect_batch.blocks.error_facts import Blame

# SQLITE_BUSY, SQLITE_LOCKED and SQLITE_INTERRUPT; extended codes keep them in the low byte.
_PASSING = {5, 6, 9}
# perm, readonly, ioerr, corrupt, full, cantopen, notadb.
_OF_SINK = {3, 8, 10, 11, 13, 14, 26}


def blame(error: BaseException) -> Blame | None:
    """Implement `Dialect.blame`."""
    if not issubclass(type(error), sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # The primary code; 0 if Python's module raised it itself.
    if code in _PASSING:
        return Blame.PASSING
    # A missing table has no code of its own.
    return Blame.END if code in _OF_SINK or str(error).startswith("no such table") else Blame.RECORD


def is_undecoded(error: sqlite3.Error) -> bool:
    """Return whether a text of the row just read is not UTF-8. Python's module raises it, without a code."""
    return "decode to UTF-8" in str(error)
