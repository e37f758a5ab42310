"""A person's condition on dead letters, as SQL: evaluated by a SQLite in memory that can do nothing else."""

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.letters.record_json import decode_record

# A condition may name these as they are, or with "letter." before them; columns of the record with "record.".
LETTER_COLUMNS = ("id", "pass", "generation", "key", "stage", "error_type", "error_message", "attempts", "failed_at")
_OF_RECORD = re.compile(r'(?i)\brecord\s*\.\s*(?:"((?:[^"]|"")+)"|\[([^\]]+)\]|`((?:[^`]|``)+)`|([\w$]+))')
# An expression comes from a flow's parameter: it may read the two tables and call SQLite's functions.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}


def letters_where(condition: str, letters: Sequence[dict[str, Any]]) -> set[int]:
    """Evaluate an SQL condition on letters.

    Args:
        condition: SQL over `LETTER_COLUMNS` and the fields of the record.
        letters: Dicts with `LETTER_COLUMNS` and `record_json`.

    Returns:
        The indices of the letters for which the condition is true.

    Raises:
        BadParameter: It is not a condition on letters.
    """
    records = [decode_record(letter["record_json"]) for letter in letters]
    return _evaluate(condition, letters, (name for record in records for name in record), records)


def check_condition(condition: str) -> None:
    """Raise `BadParameter` unless this can be a condition. The records' columns are not known here."""
    named = (next(filter(None, names)) for names in _OF_RECORD.findall(condition))
    _evaluate(condition, [], (name.replace('""', '"').replace("``", "`") for name in named), [])


def _evaluate(
    condition: str, letters: Sequence[dict[str, Any]], columns: Iterable[str], records: Sequence[dict[str, Any]]
) -> set[int]:
    names: dict[str, str] = {}  # SQLite does not distinguish columns that differ only in case.
    for name in columns:
        names.setdefault(name.lower(), name)
    names.pop("batch_place", None)
    connection = sqlite3.connect(":memory:")
    try:
        _fill(connection, "letter", LETTER_COLUMNS, letters)
        _fill(connection, "record", list(names.values()), records)
        connection.set_authorizer(_authorize)
        sentence = f"SELECT letter.batch_place FROM letter JOIN record USING (batch_place) WHERE (\n{condition}\n)"
        return {place for (place,) in connection.execute(sentence)}
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise BadParameter(
            f"where={condition!r} cannot be evaluated: {error}; it is an SQL condition on {', '.join(LETTER_COLUMNS)}, "
            "and on the record's columns as record.<name>, such as: error_type = 'ValueError' AND record.qty < 0"
        ) from error
    finally:
        connection.close()


def _authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
    forbidden = action not in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and "load_extension" in (first, second))
    return sqlite3.SQLITE_DENY if forbidden else sqlite3.SQLITE_OK


def _fill(connection: sqlite3.Connection, table: str, names: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    connection.execute(f"CREATE TABLE {table} ({', '.join(['batch_place INTEGER PRIMARY KEY', *quoted])})")
    marks = ", ".join("?" * (len(names) + 1))
    values = [(place, *(_plain(row.get(name)) for name in names)) for place, row in enumerate(rows)]
    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)


def _plain(value: Any) -> Any:
    """Return the value as SQLite compares it: decimals as numbers, times as ISO text in UTC order."""
    if value is None or isinstance(value, (str, float, bytes)):
        return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else str(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return json.dumps(value, default=str)
