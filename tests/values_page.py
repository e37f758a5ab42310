"""Writes docs/values.md from the table of kinds and from what the dialects' columns take.

Run it after a change of either: ``python -m tests.values_page``. A test compares the page with what this would write.
"""

# ruff: noqa: E501 - rows of tables

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
from sqlalchemy import types as sql
from sqlalchemy.dialects import mysql, postgresql, sqlite

from prefect_batch.blocks.databases.mysql.dialect import MYSQL
from prefect_batch.blocks.databases.postgresql.dialect import POSTGRESQL
from prefect_batch.blocks.databases.sqlite.dialect import SQLITE
from prefect_batch.blocks.kinds.fit import ERRORS
from prefect_batch.blocks.kinds.kind import KINDS

PAGE = Path(__file__).parents[1] / "docs" / "values.md"
STORES = {
    "PostgreSQL": (POSTGRESQL, postgresql.dialect()),
    "MariaDB, MySQL": (MYSQL, mysql.dialect()),
    "SQLite": (SQLITE, sqlite.dialect()),
}
AWARE = datetime(2024, 3, 1, 12, tzinfo=UTC)
# One value of each kind, as Python has it.
EXAMPLES = {
    "null": None, "bool": True, "interval": pa.MonthDayNano([1, 0, 0]), "decimal": Decimal("1.50"), "text": "a", "bytes": b"a", "moment": datetime(2024, 3, 1),
    "moment with zone": AWARE, "date": date(2024, 3, 1), "time": time(1, 2, 3),
    "duration": timedelta(seconds=90),
    "UUID": UUID(int=7), "JSON": {"a": [1]}, "list": [1], "struct": {"a": 1}, "map": {"a": 1},
    **dict.fromkeys(("float16", "float32", "float64"), 0.5),
}  # fmt: skip
# Values of each type: the first suits every column that takes some of them.
VALUES = {
    "bool": [True], "int": [1, 2**53 + 1], "float": [1.0, 0.1, 1 / 3, -0.0], "Decimal": [Decimal(1), Decimal("0.123456789")],
    "str": ["a", "5", str(UUID(int=7))], "bytes": [b"abc"], "naive datetime": [datetime(2024, 3, 1)], "aware datetime": [AWARE],
    "date": [date(2024, 3, 1)], "time": [time(1, 2, 3)], "timedelta": [timedelta(seconds=90)], "UUID": [UUID(int=7)],
    "dict": [{"a": 1}, {"a": date(2024, 3, 1)}], "list": [[1], [date(2024, 3, 1)]],
}  # fmt: skip
COLUMNS = {
    "PostgreSQL": {
        "boolean": sql.Boolean(), "integer, bigint": sql.BigInteger(), "real": sql.REAL(),
        "double precision": sql.Double(), "numeric": sql.Numeric(), "text": sql.Text(), "bytea": postgresql.BYTEA(),
        "date": sql.Date(), "timestamp": postgresql.TIMESTAMP(), "timestamptz": postgresql.TIMESTAMP(timezone=True),
        "time": postgresql.TIME(), "interval": postgresql.INTERVAL(), "uuid": sql.Uuid(), "json": postgresql.JSON(),
        "integer[]": postgresql.ARRAY(sql.Integer()),
    },
    "MariaDB, MySQL": {
        "INT, BIGINT": mysql.BIGINT(), "FLOAT": mysql.FLOAT(), "DOUBLE": mysql.DOUBLE(), "DECIMAL": mysql.DECIMAL(10, 2),
        "TEXT, JSON": mysql.LONGTEXT(), "BLOB": mysql.BLOB(), "DATE": sql.DATE(), "DATETIME, TIMESTAMP": mysql.DATETIME(),
        "TIME": mysql.TIME(), "UUID": sql.UUID(), "BIT": mysql.BIT(8),
    },
    "SQLite": {
        "INTEGER, NUMERIC": sql.INTEGER(), "REAL": sql.REAL(), "TEXT": sql.TEXT(), "BLOB": sql.BLOB(),
        "BOOLEAN": sql.BOOLEAN(), "DATE, DATETIME, TIME": sql.DATETIME(), "JSON": sqlite.JSON(),
    },
}  # fmt: skip
HEAD = """\
# Values

<!-- Written by tests/values_page.py from the table of kinds: change that, and run python -m tests.values_page. -->

A value arrives exactly as it was in the source, or as your function returned it; or its record is a dead letter that
names the column, its type and the value. The type of the sink's column alone decides, record by record. What the
database or its driver would make of a value (a date of the number 580429, 't' of True) plays no part.

## The five exceptions

| | a value that is not the same, and is no dead letter |
| --- | --- |
| (a) | A database rounds on assignment to its column's own scale (`numeric(10,2)`, `timestamp(0)`, MariaDB's DATETIME), \
as in any INSERT. Sessions are strict, so that nothing else is cut. |
| (b) | A timestamp with a zone, in a column without one, is its wall time in UTC, on every database. |
| (c) | NaN in SQLite, which has none, is NULL. |
| (d) | Between decimal and binary numbers a value is the same when its shortest decimal text is: 0.1 from `numeric` to \
DOUBLE and back. |
| (e) | Blanks at the end of text that `char(n)` pads or strips. |
"""
TAIL = """
## When a driver cannot read a value

`infinity` for a date, years before 1 or after 9999, `24:00`, zero dates of MariaDB, text in SQLite that is not UTF-8: the
record is a letter of stage `read`, with the value as text. Leave the column out (`columns=[…]`), or read it with a
`Query` that casts it to text. In a key such a value is refused at the start.

- **PostgreSQL**: intervals with months come as `pyarrow.MonthDayNano`; psycopg alone makes 30 days of a month. A JSON
  `null` comes as None, and is written as NULL. Numbers within JSON documents are Python's.
- **MariaDB, MySQL**: the number of a FLOAT is that of its shortest text, as PostgreSQL's `real` has it. JSON is text.
- **SQLite**: columns declared DATE, DATETIME, TIMESTAMP, TIME, BOOLEAN, DECIMAL or NUMERIC come as such, and what cannot
  be converted stays as it is stored. A timestamp keeps the text that it was stored with while it is not changed; in
  DataFrames and Arrow tables, and where it is computed, its text is `2024-03-01 12:00:00`, with six more digits if it has
  microseconds. Text in a column of numbers is refused if it looks like a number, because SQLite would make one of it.
"""


def made_tables() -> Iterator[str]:
    yield "## What each kind is in a table that is made (`create=True`)"
    yield ""
    yield "The column, and what its driver gives for a value, where that is not the value itself."
    yield ""
    yield f"| kind | {' | '.join(STORES)} |"
    yield f"| --- | {' | '.join('---' for _ in STORES)} |"
    for kind in KINDS:
        yield f"| {kind.name} | {' | '.join(_made(kind, *store) for store in STORES.values())} |"


def _made(kind, dialect, compiler):
    try:
        column = dialect.made_type(kind.arrow[0], False)
    except KeyError:
        return "refused"
    value = EXAMPLES.get(kind.name, 1)
    stored = dialect.column_fit(column).one(value)
    shown = f", as `{stored!r}`" if type(stored) is not type(value) else ""
    if dialect is POSTGRESQL or isinstance(column, mysql.TIME):
        shown = ""  # What is sent as text comes back as the value.
    if isinstance(stored, datetime) and value.tzinfo != stored.tzinfo:
        shown = ", as its wall time in UTC"
    text = column.compile(dialect=compiler)
    return f"`{text}`{shown}"


def files() -> Iterator[str]:
    yield "## What each kind is in files"
    yield ""
    yield "| kind | Arrow | Parquet | JSON Lines | CSV |"
    yield "| --- | --- | --- | --- | --- |"
    for kind in KINDS:
        arrow = ", ".join(f"`{arrow}`" for arrow in kind.arrow[:2])
        parquet = "refused" if "parquet" in kind.refused else "exact"
        csv = "refused" if "csv" in kind.refused else kind.csv
        yield f"| {kind.name} | {arrow} | {parquet} | {kind.json} | {csv} |"


def columns() -> Iterator[str]:
    yield "## What columns of existing tables take"
    yield ""
    yield "**yes**: each value of this type; **equal**: a value that the column has exactly, such as 1.0 in a column of"
    yield "integers; –: none, the record is a dead letter. The database itself refuses what is too large or too long."
    for store, kinds in COLUMNS.items():
        yield ""
        yield f"### {store}"
        yield ""
        yield f"| column | {' | '.join(VALUES)} |"
        yield f"| --- | {' | '.join('---' for _ in VALUES)} |"
        for name, column in kinds.items():
            fit = STORES[store][0].column_fit(column)
            yield f"| {name} | {' | '.join(_cell(fit, values) for values in VALUES.values())} |"


def _cell(fit, values):
    taken = [_takes(fit, value) for value in values]
    return "yes" if all(taken) else "equal" if any(taken) else "–"


def _takes(fit, value):
    try:
        fit.one(value)
    except ERRORS:
        return False
    return True


def page() -> str:
    """The page, whole."""
    parts = ("\n".join(part()) for part in (made_tables, columns, files))
    return "\n".join([HEAD, "\n\n".join(parts), TAIL.rstrip("\n"), ""])


if __name__ == "__main__":
    PAGE.write_text(page())
