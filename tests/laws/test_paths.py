"""Every kind of value, from each database to each, in each form of function, and by way of a dead letter.

What the plain driver reads in the sink is what it reads in the source, or the record is a letter.
"""

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pytest

from prefect_batch import Table
from prefect_batch.blocks.databases.connections import close_engines
from tests.conftest import _database
from tests.laws.chunks import FORMS, OneChunk
from tests.laws.test_columns import plain_driver, same_value

# For each type of column, values as literals.
VALUES = {
    "postgresql": {
        "boolean": ["true", "false"],
        "smallint": ["-32768"],
        "bigint": ["9223372036854775807", "9007199254740993"],
        "real": ["0.1", "'NaN'"],
        "double precision": ["0.1", "-0.0", "'NaN'", "'-infinity'", "5e-324"],
        "numeric": ["123456789012345678901234567890.123456789", "0.1", "'NaN'"],
        "numeric(10,2)": ["12345678.90"],
        "text": ["''", "'é '", r"E'\\N'", "'12'", "'2024-01-01'"],
        "char(5)": ["'ab'"],
        "bytea": [r"'\x00ff'"],
        "date": ["'2024-02-29'", "'0001-01-01'"],
        "timestamp": ["'2024-01-01 10:20:30.123456'", "'2024-01-01'"],
        "timestamptz": ["'2024-01-01 10:20:30.123456+02'", "'1890-03-31 00:00+00'"],
        "time": ["'23:59:59.999999'"],
        "interval": ["'1 day 02:03:04.5'", "'-00:00:01'", "'00:00:00'"],
        "uuid": ["'00000000-0000-0000-0000-000000000007'"],
        "jsonb": ["""'{"a": [1, 2.5, null, "x"]}'""", """'{"b": {}}'""", """'[]'""", """'"12345"'""", "'true'", "'17'"],
        "json": ["""'{"a": 1}'""", """'"{}"'"""],
        "integer[]": ["'{1,2,NULL}'", "'{}'"],
        "text[]": ["""'{a,"b,c",NULL}'"""],
        "jsonb[]": ["""ARRAY['{"a": 1}'::jsonb, '"x"']"""],
    },
    "mariadb": {
        "TINYINT(1)": ["1", "0", "5"],
        "BIGINT UNSIGNED": ["18446744073709551615", "9007199254740993"],
        "DOUBLE": ["0.1", "5e-324"],
        "DECIMAL(65,30)": ["12345678901234567890.123456789012345678901234567890"],
        "LONGTEXT COLLATE utf8mb4_bin": ["''", "'é '", "'12'", "'a'"],
        "CHAR(5)": ["'ab'"],
        "BLOB": ["x'00ff'"],
        "DATE": ["'2024-02-29'"],
        "DATETIME(6)": ["'2024-01-01 10:20:30.123456'"],
        "TIMESTAMP(6) NULL": ["'2024-01-01 10:20:30.123456'"],
        "TIME(6)": ["'-838:59:58.999999'", "'10:20:30'"],
        "YEAR": ["2024"],
        "UUID": ["'00000000-0000-0000-0000-000000000007'"],
        "JSON": ["""'{"a": 1}'""", "'[1, 2]'", "'17'"],
        "ENUM('a','1')": ["'a'", "'1'"],
        "BIT(8)": ["b'101'"],
    },
    "sqlite": {
        "INTEGER": ["9223372036854775807", "9007199254740993", "'abc'"],
        "REAL": ["0.1", "9e999"],
        "NUMERIC(10,2)": ["12.5", "3"],
        "TEXT": ["''", "'é '", "'12'", "'2024-01-01'", "x'00ff'"],
        "BLOB": ["x'00ff'", "'12'", "5", "-0.0"],
        "BOOLEAN": ["1", "0", "7"],
        "DATE": ["'2024-02-29'", "'20240229'"],
        "DATETIME": ["'2024-01-01 10:20:30'", "'2024-01-01 10:20:30.123456'"],
        "TIME": ["'10:20:30'", "'10:20'"],
        "JSON": ["""'{"a": 1}'"""],
    },
}
PAIRS = [
    ("postgresql", "postgresql"), ("mariadb", "mariadb"), ("sqlite", "sqlite"),
    ("postgresql", "mariadb"), ("mariadb", "sqlite"), ("sqlite", "postgresql"),
    ("postgresql", "sqlite"), ("mariadb", "postgresql"), ("sqlite", "mariadb"),
]  # fmt: skip


@pytest.fixture
def ends(request, tmp_path):
    """Source and sink: two databases, or one."""
    source, sink = request.param
    opened = _database(source, request, tmp_path)
    other = opened if source == sink else _database(sink, request, tmp_path)
    yield opened, other
    close_engines()
    for database in {opened, other}:
        database.clear()


def fill(database):
    """Table ``src``: each row has a value in one column, and NULL in all others."""
    kinds = VALUES[database.kind]
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(kinds))
    database.run(f"CREATE TABLE src (id INTEGER PRIMARY KEY, {columns})")
    cells = [(n, value) for n, values in enumerate(kinds.values()) for value in values]
    database.run(*(f"INSERT INTO src (id, c{n}) VALUES ({row}, {value})" for row, (n, value) in enumerate(cells)))
    return [n for n, _ in cells]


def rows(database, table):
    with plain_driver(database) as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        names = [field[0] for field in cursor.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}


def check(source, sink, letters, columns):
    """Check that each row is in the sink with its value, or is a letter that names its column."""
    before, after = rows(source, "src"), rows(sink, "dst")
    refused = {letter["key"]: letter for letter in letters}
    assert len(after) + len(refused) == len(before) == len(columns)
    for key, row in before.items():
        name = f"c{columns[key]}"
        if key not in after:
            assert name in refused[f"[{key}]"]["error_message"]
            continue
        kind = list(VALUES[source.kind])[columns[key]]
        assert all(value is None for other, value in after[key].items() if other not in ("id", name))
        assert same(after[key][name], row[name], kind, sink), (kind, row[name], after[key][name])
    return len(after)


def spelled(value):
    """How SQLite has a value that it has no type for."""
    if isinstance(value, timedelta):
        value = (datetime(1, 1, 1) + value).time()
    return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()


def same(found, value, kind, sink):
    if isinstance(value, str) and isinstance(found, (date, time, timedelta)):
        return spelled(found) == value
    if isinstance(found, str) and isinstance(value, (int, float, Decimal)):
        return Decimal(found) == Decimal(str(value)) or (value != value and found == "NaN")
    if sink.kind == "sqlite" and isinstance(value, float) and math.isnan(value):
        return found is None
    if isinstance(value, (str, bytes)) and type(found) is type(value):
        return found == value or (kind.lower().startswith("char") and found.rstrip(" ") == value.rstrip(" "))
    return same_value(found, value, "" if kind != "numeric(10,2)" else kind)


def least(ends):
    """At least so many records of ten must arrive.

    What the other database, or a column of Arrow, has no exact form for does not, as text in a number of SQLite.
    """
    return 9 if ends[0].kind == ends[1].kind != "sqlite" else 6


@pytest.mark.parametrize("ends", PAIRS, indirect=True, ids="-".join)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_in_the_source_is_in_a_made_table(ends, tmp_path, form):
    source, sink = ends
    columns = fill(source)
    job = OneChunk(
        tmp_path / "letters", Table(source.url, "src", key="id"), Table(sink.url, "dst", key="id", create=True)
    )
    tally = job.run(FORMS[form])
    assert (tally.read, tally.filtered) == (len(columns), 0)
    assert check(source, sink, job.letters(), columns) * 10 >= len(columns) * least(ends)


def fails(_record):
    raise ValueError("not today")


@pytest.mark.parametrize("ends", PAIRS[:6], indirect=True, ids="-".join)
@pytest.mark.parametrize("form", ["record", "table"])
def test_a_replay_writes_what_was_in_the_source(ends, tmp_path, form):
    source, sink = ends
    columns = fill(source)
    job = OneChunk(
        tmp_path / "letters", Table(source.url, "src", key="id"), Table(sink.url, "dst", key="id", create=True)
    )
    assert job.run(fails).failed == len(columns)
    tally = job.replay(FORMS[form])
    assert (tally.read, tally.filtered) == (len(columns), 0)
    assert check(source, sink, job.letters(), columns) * 10 >= len(columns) * least(ends)
