"""A value that is written to a column is, for the plain driver, the same value; or it is one letter. Nothing else.

The pairs of column and value are random. `pytest -m long -s tests/laws/test_columns.py` tries 10,000 of each database.
"""

import contextlib
import json
import math
import sqlite3
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import numpy as np
import psycopg
import pyarrow as pa
import pymysql
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from prefect_batch import Table
from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.convert import values_of
from prefect_batch.blocks.kinds.plain import plain_value
from prefect_batch.blocks.opening import open_sink
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item, ItemTable
from tests.test_conformance import CHUNK, PASS
from tests.test_kinds import TYPES, column, values_in

COLUMNS = {
    "postgresql": [
        "boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(10,2)", "text",
        "varchar(5)", "char(5)", "bytea", "date", "timestamp", "timestamp(0)", "timestamptz", "time", "timetz", "uuid",
        "interval", "json", "jsonb", "integer[]", "text[]", "jsonb[]", "double precision[]", "date[]", "timestamptz[]",
        "numeric[]", "inet", "oid", "name", "money", "macaddr", "int4range", "bit(3)", "point", "positive", "mood",
    ],
    "mariadb": [
        "TINYINT(1)", "SMALLINT", "INT", "INT UNSIGNED", "BIGINT", "BIGINT UNSIGNED", "FLOAT", "DOUBLE",
        "DECIMAL(10,2)", "DECIMAL(65,30)", "LONGTEXT COLLATE utf8mb4_bin", "VARCHAR(5) CHARACTER SET utf8mb4",
        "CHAR(5) CHARACTER SET utf8mb4", "BLOB", "VARBINARY(3)", "BINARY(3)", "BIT(8)", "DATE", "DATETIME",
        "DATETIME(6)", "TIMESTAMP(6) NULL", "TIME", "TIME(6)", "YEAR", "UUID", "ENUM('a','b','1')", "SET('a','b')",
        "JSON",
    ],
    "sqlite": [
        "INTEGER", "BIGINT", "REAL", "DOUBLE", "NUMERIC", "DECIMAL(10,2)", "TEXT", "VARCHAR(5)", "CHAR(32)", "BLOB", "",
        "BOOLEAN", "DATE", "DATETIME", "TIMESTAMP", "TIME", "JSON", "UUID", "STRING",
    ],
}  # fmt: skip
ZONES = (UTC, timezone(timedelta(hours=5, minutes=30)))
NUMBERS = (
    st.integers(-5, 300) | st.integers(-(2**66), 2**66) | st.floats()
    | st.sampled_from([-0.0, 0.5, 5.0, 2**53 + 1, 0.1])
    | st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**6), max_value=10**6)
    | st.floats(width=32)
)  # fmt: skip
ODD_TEXTS = [
    "5", " 5 ", "1e3", "a", "b", "1", "b,a", "a,b", "ab    ", "true", "today", "2024-01-01", "2024-01-01 10:00:00",
    "{}", '{"a": 1}', "null", "00000000-0000-0000-0000-000000000007", "7" * 32, "10.0.0.1", "(1,2)", "\\N", "",
]  # fmt: skip
TEXTS = st.text(st.characters(codec="utf-8"), max_size=7) | st.sampled_from(ODD_TEXTS)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)) | st.datetimes(
    datetime(1971, 1, 1), datetime(2037, 1, 1)
)
SCALARS = (
    st.none() | st.booleans() | NUMBERS | TEXTS | st.binary(max_size=4) | st.dates() | MOMENTS
    | st.builds(lambda at, zone: at.replace(tzinfo=zone), MOMENTS, st.sampled_from(ZONES))
    | st.times() | st.times(timezones=st.just(UTC)) | st.uuids() | st.builds(timedelta, st.integers(-40, 40),
    st.integers(0, 86_399), st.integers(0, 999_999))
    | st.sampled_from([np.float32(0.1), np.int16(7), np.datetime64("2024-01-02T03:04:05", "ns"), np.bool_(True)])
)  # fmt: skip
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from("ab"), SCALARS, max_size=2)


def rounds(kind):
    """By how much a column may round a number or a second on assignment, by its own scale."""
    if "(10,2)" in kind:
        return Decimal("0.005")
    return Decimal("1e-30") if "(65,30)" in kind else Decimal(0)


def same_number(found, value, kind):
    if isinstance(found, float) and isinstance(value, float):
        if math.isnan(value):
            return math.isnan(found)
        if found == value:
            return math.copysign(1, found) == math.copysign(1, value)
    if isinstance(found, str) or found is None:
        return False
    if value != value or abs(value) == math.inf:
        return found != found if value != value else found == value
    one, other = (
        Decimal(repr(found) if isinstance(found, float) else found),
        Decimal(repr(value) if isinstance(value, float) else value),
    )
    if (
        kind in ("real", "FLOAT") and float(np.float32(float(value))) == value
    ):  # Of which the driver gives the shortest text.
        return np.float32(found) == np.float32(float(value))
    return abs(one - other) <= rounds(kind) or found == value


def same_moment(found, value, kind):
    if isinstance(found, str):
        return datetime.fromisoformat(found) == value and ("+" in found) == (value.tzinfo is not None)
    if not isinstance(found, datetime):
        return False
    if found.tzinfo is None and value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    if (found.tzinfo is None) != (value.tzinfo is None):
        return False
    return abs(found - value) <= (timedelta(seconds=1) if kind in ("timestamp(0)", "DATETIME") else timedelta())


def same_time(found, value, kind):
    if isinstance(found, str):
        return time.fromisoformat(found) == value
    if isinstance(found, timedelta):
        whole = timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)
        return abs(whole - found) < timedelta(seconds=1) if kind == "TIME" else whole == found
    return found == value


def same_duration(found, value, kind):
    if isinstance(found, str):
        sign, digits = (-1, found[3:-1]) if found[0] == "-" else (1, found[2:-1])
        return sign * timedelta(microseconds=int(digits.replace(".", ""))) == value
    return abs(found - value) < timedelta(seconds=1) if kind == "TIME" else found == value


def same_text(found, value, kind):
    if kind.lower().startswith("char"):
        return found.rstrip(" ") == value.rstrip(" ")
    if kind == "inet":
        return str(found) == value
    return found == value or (kind == "uuid" and str(found) == value)


def same_value(found, value, kind):
    """Whether the driver gave the value that was written, or what one of the five exceptions makes of it."""
    value = plain_value(value)
    if found is None or value is None:
        return found is value or (value != value and kind in COLUMNS["sqlite"])
    if isinstance(value, (bool, int, float, Decimal)):
        return found == str(value) if isinstance(found, str) else same_number(found, value, kind)
    if isinstance(value, (dict, list)):
        return same_parts(json.loads(found) if isinstance(found, str) else found, value, kind)
    for of, is_same in (
        (str, same_text),
        (datetime, same_moment),
        (time, same_time),
        (timedelta, same_duration),
    ):
        if isinstance(value, of):
            return is_same(found, value, kind)
    if isinstance(value, date):
        return found == value.isoformat() if isinstance(found, str) else type(found) is date and found == value
    if isinstance(value, UUID):
        return found in (value, str(value), value.hex)
    return bytes(found) == value


def same_parts(found, value, kind):
    if type(found) is not type(value) or len(found) != len(value):
        return False
    if isinstance(value, dict):
        return found.keys() == value.keys() and all(same_value(found[name], value[name], kind) for name in value)
    return all(map(same_value, found, value, [kind] * len(value)))


@contextlib.contextmanager
def plain_driver(database):
    """A cursor of the database's own driver."""
    url = make_url(database.url)
    if database.kind == "sqlite":
        connection = sqlite3.connect(url.database)
    elif database.kind == "mariadb":
        connection = pymysql.connect(host=url.host, user=url.username, database=url.database, charset="utf8mb4")
    else:
        connection = psycopg.connect(database.url)
    with contextlib.closing(connection):
        yield connection.cursor()


def make(database):
    """A table for each kind of column, named by its number."""
    if database.kind == "postgresql":
        database.run("DROP DOMAIN IF EXISTS positive", "CREATE DOMAIN positive AS integer CHECK (value > 0)")
        database.run("DROP TYPE IF EXISTS mood", "CREATE TYPE mood AS ENUM ('a', 'b')")
    kinds = COLUMNS[database.kind]
    database.run(*(f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, x {kind})" for n, kind in enumerate(kinds)))
    return [open_sink(Table(database.url, f"t{n}", key="id")) for n in range(len(kinds))]


def try_values(database, sinks, number, values, arrow=None):
    """Write the values, as a column of this Arrow type or as records, and count what became of each pair."""
    kind, sink = COLUMNS[database.kind][number], sinks[number]
    schema = None if arrow is None else pa.schema([("id", pa.int64()), ("x", arrow)])
    outputs = [Item(place, [{"id": place, "x": value}]) for place, value in enumerate(values)]
    sink.prepare([], pa.schema([]))
    if arrow is not None:
        table = pa.table([range(len(values)), column(values, arrow)], schema=schema)
        outputs, values = ItemTable(table, np.arange(len(values))), values_of(table["x"])
    with sink.transaction(PASS, CHUNK) as transaction:
        refused = isolate(transaction, outputs)
        transaction.commit()
    letters = {
        (part.places if arrow is not None else [item.index for item in part])[0]: error for part, error in refused
    }
    with plain_driver(database) as cursor:
        shown = "x + 0e0" if kind == "FLOAT" else "x"  # Its text has six digits only.
        cursor.execute(f"SELECT id, {shown} FROM t{number}")
        found = dict(cursor.fetchall())
    if kind == "FLOAT":
        found = {place: value and float(str(np.float32(value))) for place, value in found.items()}
    database.run(f"DELETE FROM t{number}")
    assert sorted([*found, *letters]) == list(range(len(values)))
    for place, value in found.items():
        assert same_value(value, values[place], kind), (kind, arrow, values[place], value)
    for error in letters.values():
        assert not isinstance(error, DoesNotFit) or "column x is" in str(error)
    ours = sum(isinstance(error, DoesNotFit) for error in letters.values())
    return Counter({"equal": len(found), "letter": ours, "letter of the database": len(letters) - ours})


def walk_pairs(database, data, sinks, tally, size):
    for number in range(len(sinks)):
        values = data.draw(st.lists(VALUES, min_size=size, max_size=size))
        tally += try_values(database, sinks, number, values)
        arrow = data.draw(st.sampled_from(TRIED))
        values = data.draw(st.lists(values_in(arrow), min_size=size // 2, max_size=size // 2))
        tally += try_values(database, sinks, number, values, arrow)


# The plain driver makes 30 days of a month: intervals with months are tried in test_undecoded.
TRIED = [arrow for arrow in TYPES if arrow != pa.month_day_nano_interval()]
# Of types that SQLAlchemy does not know.
WARNS = pytest.mark.filterwarnings("ignore:Did not recognize type")
CALM = {"suppress_health_check": list(HealthCheck), "deadline": None, "phases": [Phase.generate], "database": None}


@WARNS
def test_some_hundred_pairs_are_equal_or_letters(database):
    sinks, tally = make(database), Counter()

    @settings(max_examples=2, **CALM)
    @given(data=st.data())
    def walk(data):
        walk_pairs(database, data, sinks, tally, 8)

    walk()
    assert tally.total() >= 300
    assert min(tally["equal"], tally["letter"]) > 20


@WARNS
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_thousand_pairs_are_equal_or_letters(database):
    sinks, tally = make(database), Counter()

    @settings(max_examples=12 * 40 // len(sinks) + 4, **CALM)
    @given(data=st.data())
    def walk(data):
        walk_pairs(database, data, sinks, tally, 20)

    walk()
    print(f"\n{database.kind}: {tally.total():,} pairs: {dict(tally)}")
    assert tally.total() >= 10_000
