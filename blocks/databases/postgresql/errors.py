"""Classifies errors of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html."""

import re
from typing import Any

__all__ = ["is_of_sink", "note_refused_row", "verdict"]

# Serialization failure, deadlock, lock not available, shutdowns, too many connections, session ended by an idle
# timeout.
_TRANSIENT = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "53300", "25P03"}
# No privilege, a table or a schema that is gone, a read-only transaction.
_OF_SINK = {"42501", "42P01", "25006", "3F000"}
# No resources, errors of the system, interventions of an operator, internal errors.
_CLASSES_OF_SINK = ("53", "58", "57", "XX")


def verdict(error: BaseException) -> bool | None:
    """Implement `Dialect.verdict`."""
    if _driver(error) not in ("psycopg", "psycopg2"):
        return None
    state: str | None = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None:
        # Every error that the server sends has a state. libpq has none if the server went away.
        return type(error).__name__ == "OperationalError"
    return state in _TRANSIENT or state.startswith("08")


def is_of_sink(error: BaseException) -> bool:
    """Implement `Dialect.is_of_sink`."""
    state: str = getattr(error, "sqlstate", None) or "" if _driver(error) == "psycopg" else ""
    return state in _OF_SINK or state[:2] in _CLASSES_OF_SINK


def _driver(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def note_refused_row(error: Any) -> None:
    """Set the `refused_row` of a COPY's error to the row that the database refused, if the error names it."""
    # In any language: "COPY orders, line 7, column total: …". A row is a line, unless a text has newlines.
    if found := re.match(r"COPY [^,]+, \D*(\d+)", error.diag.context or ""):
        error.refused_row = int(found[1]) - 1
