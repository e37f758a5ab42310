"""Classifies errors of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html."""

import re
from typing import Any

from prefect_batch.blocks.error_facts import Blame

# Serialization failure, deadlock, lock not available, shutdowns, too many connections, session ended for its idleness.
_PASSING = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "53300"}
# Out of memory; a statement cancelled, as by statement_timeout; a transaction idle or open for too long.
_SIZE = {"53200", "57014", "25P03", "25P04"}
# No privilege, a table or a schema that is gone, a read-only transaction, corrupted data.
_OF_SINK = {"42501", "42P01", "25006", "3F000", "XX001", "XX002"}
# No resources, errors of the system, interventions of an operator. Internal errors (XX000) come of single values, too:
# PostGIS says so of a bad geometry.
_CLASSES_OF_SINK = {"53", "58", "57"}
# The server's functions that refuse a single row, whatever the state: by a row policy, or by RAISE in a trigger.
_OF_ROW = {"ExecWithCheckOptions", "exec_stmt_raise"}


def blame(error: BaseException) -> Blame | None:
    """Implement `Dialect.blame`."""
    if type(error).__module__.partition(".")[0] not in ("psycopg", "psycopg2"):
        return None
    state: str | None = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None:
        # Every error that the server sends has a state. libpq has none if the server went away.
        return Blame.PASSING if type(error).__name__ == "OperationalError" else Blame.RECORD
    if state in _PASSING or state.startswith("08"):
        return Blame.PASSING
    if state in _SIZE:
        return Blame.SIZE
    of_sink = state in _OF_SINK or state[:2] in _CLASSES_OF_SINK
    return Blame.END if of_sink and _refused_by(error) not in _OF_ROW else Blame.RECORD


def _refused_by(error: Any) -> str | None:
    """Return the server's function that raised the error, which is the same in every language."""
    found: str | None = error.diag.source_function
    return found


def note_refused_row(error: Any) -> None:
    """Set the `refused_row` of a COPY's error to the row that the database refused, if the error names it."""
    # In any language: "COPY orders, line 7, column total: …". A row is a line, unless a text has newlines.
    if found := re.match(r"COPY [^,]+, \D*(\d+)", error.diag.context or ""):
        error.refused_row = int(found[1]) - 1
