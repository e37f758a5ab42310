"""Batches as Arrow tables: the same values as by rows, from a source and into a sink."""

import random
from datetime import UTC, date, datetime, time
from decimal import Decimal

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_batch import Query, Table
from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.capabilities import GivesTables, TakesTables
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.sqlite.tables import sqlite_table
from prefect_batch.blocks.errors import BadOutput, UnknownColumn
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item, ItemTable, join_tables, places
from prefect_batch.tasks.work.process_vectorized import arrow_table

TEXTS = ["", "a", '"', "a\nb", "c\r\nd", "\\.", "\\N", "\\", "t", "é漢", "NULL", ",", "\t", " x ", None]
# name: (type in SQLite, PostgreSQL, MariaDB; the values)
COLUMNS = {
    "number": ("INTEGER", "bigint", "BIGINT", [0, -(2**63), 2**63 - 1, None]),
    "small": ("INTEGER", "smallint", "SMALLINT", [1, -1, None]),
    "text": ("TEXT", "text", "TEXT", TEXTS),
    "fixed": ("CHAR(3)", "char(3)", "VARCHAR(3)", ["a", "abc", "", None]),
    "price": ("NUMERIC(12,2)", "numeric(12,2)", "DECIMAL(12,2)", [Decimal("0.29"), Decimal("-1.50"), Decimal(0), None]),
    "long": ("TEXT", "numeric(30,12)", "DECIMAL(30,12)", [Decimal("123456789012345678.000000000001"), None]),
    "ratio": ("REAL", "double precision", "DOUBLE", [0.1, 1e300, -2.5, 3.0, None]),
    "yes": ("BOOLEAN", "boolean", "BOOLEAN", [True, False, None]),
    "day": ("DATE", "date", "DATE", [date(2024, 2, 29), date(1000, 1, 1), date(9999, 12, 31), None]),
    "moment": (
        "DATETIME",
        "timestamp",
        "DATETIME(6)",
        [datetime(2024, 3, 31, 1, 59, 59, 999_999), datetime(1970, 1, 1), None],
    ),
    "zoned": (
        "TEXT",
        "timestamptz",
        "TIMESTAMP(6) NULL",
        [datetime(2024, 3, 31, 1, 30, 0, 1, tzinfo=UTC), None],
    ),
    "hour": ("TIME", "time", "TIME(6)", [time(23, 59, 59, 1), time(0), None]),
}


def declared(database, *, key="id"):
    place = ["sqlite", "postgresql", "mariadb"].index(database.kind)
    return f"{key} INTEGER PRIMARY KEY, " + ", ".join(f"c_{name} {kinds[place]}" for name, kinds in COLUMNS.items())


def records(count=40):
    chosen = random.Random(7)
    return [
        {"id": n, **{f"c_{name}": chosen.choice(kinds[3]) for name, kinds in COLUMNS.items()}} for n in range(count)
    ]


def made(database, name, rows=()):
    """A table with a column of every kind, and what it is as source and as sink."""
    database.run(f"CREATE TABLE {name} ({declared(database)})")
    table = Table(database.url, name, key="id")
    if rows:
        sink = open_sink(table)
        sink.prepare(rows, None)
        with sink.transaction(PassRef("job", 1, "x"), ChunkRange(None, (1,))) as transaction:
            transaction.write(list(rows))
            transaction.commit()
    return table


def whole(source, batch_rows=1000, *, tables=False):
    chunk = ChunkRange(None, source.last_key())
    return list((source.read_tables if tables else source.read)(chunk, batch_rows))


def in_utc(rows):
    """Equal moments alike, whatever zone the driver gives them in."""
    return [tuple(v.astimezone(UTC) if isinstance(v, datetime) and v.tzinfo else v for v in row) for row in rows]


def test_a_table_has_the_values_of_the_rows(database):
    source = open_source(made(database, "t", records()))
    assert isinstance(source, GivesTables)
    (rows,), (table,) = whole(source), whole(source, tables=True)
    assert in_utc(table.rows) == in_utc(rows.rows)
    assert [list(map(type, row)) for row in table.rows] == [list(map(type, row)) for row in rows.rows]
    if database.kind == "mariadb":
        assert table.table is None
        return
    assert table.table.schema == source.schema
    assert table.table == arrow_table(rows, source.schema)[0]
    assert [table.row(place) for place in range(len(table))] == table.rows
    sizes = [len(batch) for batch in whole(source, 7, tables=True)]
    assert sum(sizes) == 40
    assert max(sizes) <= 7


def test_a_table_is_written_as_its_records_are(database):
    given_records = records()
    by_rows, by_table = made(database, "by_rows", given_records), made(database, "by_table")
    table, failures = arrow_table(*whole(open_source(by_rows)), open_source(by_rows).schema)
    assert failures == []
    sink = open_sink(by_table)
    sink.prepare([], None)
    for _ in range(2):  # Again, as a repeated chunk does.
        with sink.transaction(PassRef("job", 1, "x"), ChunkRange(None, (1,))) as transaction:
            assert isinstance(transaction, TakesTables)
            in_two_chunks = pa.concat_tables([table.slice(0, 11), table.slice(11)])
            assert isolate(transaction, ItemTable(in_two_chunks, np.arange(40))) == []
            transaction.commit()
        assert database.rows("SELECT * FROM by_table ORDER BY id") == database.rows("SELECT * FROM by_rows ORDER BY id")


def test_a_batch_that_arrow_cannot_hold_comes_as_rows(postgresql):
    postgresql.run("CREATE TABLE t (id INTEGER PRIMARY KEY, price NUMERIC(9,2), text TEXT, moment TIMESTAMPTZ)")
    postgresql.run(
        "INSERT INTO t SELECT n, CASE n WHEN 7 THEN 'NaN' ELSE n::numeric END, 'a' || n, now() "
        "FROM generate_series(1, 9) n"
    )
    source = open_source(Table(postgresql.url, "t", key="id"))
    batches = whole(source, 3, tables=True)
    assert [batch.table is None for batch in batches] == [False, False, True]
    assert batches[2].rows[0][1].is_nan()
    assert str([row for batch in batches for row in batch.rows][6:]) == str(whole(source)[0].rows[6:])


@pytest.mark.parametrize("kind", ["json", "uuid", "bytea", "int[]", "interval", "numeric"])
def test_types_without_an_exact_form_come_as_rows(postgresql, kind):
    postgresql.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, c {kind})")
    postgresql.run("INSERT INTO t VALUES (1, NULL)")
    source = open_source(Table(postgresql.url, "t", key="id"))
    assert [batch.rows for batch in whole(source, tables=True)] == [[(1, None)]]
    assert whole(source, tables=True)[0].table is None


def test_signs_in_the_condition_and_the_key_are_not_taken_for_parameters(postgresql):
    postgresql.run("CREATE TABLE t (id TEXT PRIMARY KEY)")
    postgresql.many("INSERT INTO t VALUES (:id)", [{"id": text} for text in ("a%s", "b'%", "c:d", "z")])
    source = open_source(Query(postgresql.url, "SELECT id FROM t WHERE id LIKE '%%' AND id <> ':x'", key="id"))
    assert [row for batch in source.read_tables(ChunkRange(("a%s",), ("c:d",)), 9) for row in batch.rows] == [
        ("b'%",),
        ("c:d",),
    ]


@pytest.mark.parametrize("value", [1.005, "1.5", "many", 2**60, float("inf")])
def test_a_number_that_is_not_its_columns_is_no_table(value):
    schema = pa.schema([("id", pa.int64()), ("price", pa.decimal128(9, 2))])
    assert sqlite_table([(1, 1.5), (2, value)], schema) is None


@given(st.lists(st.integers(-(10**14), 10**14), min_size=1), st.integers(0, 6))
def test_floats_of_sqlite_are_the_decimals_that_they_show(numbers, scale):
    decimals = [Decimal(n).scaleb(-scale) for n in numbers if abs(n) < 10**15]
    table = sqlite_table([(float(d),) for d in decimals], pa.schema([("n", pa.decimal128(15, scale))]))
    assert table["n"].to_pylist() == decimals


def test_a_refused_row_is_found_among_the_tables_rows(database):
    kind = {
        "sqlite": "INTEGER CHECK (n <> 5)",
        "postgresql": "INTEGER CHECK (n <> 5)",
        "mariadb": "INTEGER CHECK (n <> 5)",
    }
    database.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, n {kind[database.kind]})")
    sink = open_sink(Table(database.url, "t", key="id"))
    sink.prepare([], None)
    outputs = ItemTable(pa.table({"id": range(10), "n": range(10)}), np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 7]))
    with sink.transaction(PassRef("job", 1, "x"), ChunkRange(None, (1,))) as transaction:
        refused = isolate(transaction, outputs)
        transaction.commit()
    assert [places(one) for one, _ in refused] == [[4]]
    assert database.rows("SELECT count(*), sum(id) FROM t") == [(9, 40)]
    with sink.transaction(PassRef("job", 1, "x"), ChunkRange(None, (1,))) as transaction:
        one_by_one = isolate(transaction, [Item(4, [{"id": 5, "n": 5}])])
    assert type(refused[0][1]) is type(one_by_one[0][1])
    assert (
        str(refused[0][1].orig if hasattr(refused[0][1], "orig") else refused[0][1]).splitlines()[0]
        == str(one_by_one[0][1].orig if hasattr(one_by_one[0][1], "orig") else one_by_one[0][1]).splitlines()[0]
    )


def test_of_rows_with_one_key_the_last_is_written(database):
    database.run("CREATE TABLE t (a INTEGER, b INTEGER, n INTEGER, PRIMARY KEY (a, b))")
    sink = open_sink(Table(database.url, "t", key=["a", "b"]))
    sink.prepare([], None)
    with sink.transaction(PassRef("job", 1, "x"), ChunkRange(None, (1,))) as transaction:
        outputs = ItemTable(pa.table({"b": [1, 2, 1], "n": [1, 2, 3], "a": [1, 1, 1]}), np.arange(3))
        assert isolate(transaction, outputs) == []
        transaction.commit()
    assert sorted(database.rows("SELECT * FROM t")) == [(1, 1, 3), (1, 2, 2)]


@pytest.mark.parametrize(
    ("table", "error"),
    [
        (pa.table({"id": [1], "other": [1]}), UnknownColumn),
        (pa.table({"n": [1]}), BadOutput),
        (pa.table({"id": pa.array([1, None]), "n": [1, 2]}), BadOutput),
        (pa.table([[1], [2]], names=["id", "id"]), BadOutput),
    ],
)
def test_columns_that_the_sink_has_not_are_refused(sqlite, table, error):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
    sink = open_sink(Table(sqlite.url, "t", key="id"))
    sink.prepare([], None)
    with sink.transaction(PassRef("job", 1, "x"), ChunkRange(None, (1,))) as transaction, pytest.raises(error):
        transaction.write_table(table)


@given(st.lists(st.integers(0, 9)), st.integers(-3, 12), st.integers(-3, 12))
def test_slices_of_outputs_are_whole_records(origins, start, stop):
    outputs = ItemTable(pa.table({"n": range(len(origins))}), np.array(origins, dtype=np.int64))
    records_in_order = sorted(set(origins))
    part = outputs[start:stop]
    assert part.places == records_in_order[start:stop]
    assert part.table["n"].to_pylist() == [n for place in part.places for n, of in enumerate(origins) if of == place]


def test_neighbouring_outputs_of_the_same_columns_are_joined():
    one, two = (ItemTable(pa.table({"n": [n]}), np.array([n])) for n in range(2))
    other, items = ItemTable(pa.table({"n": ["x"]}), np.array([2])), [Item(3, [{"n": 3}])]
    joined = join_tables([one, two, other, items, items])
    assert [places(part) for part in joined] == [[0, 1], [2], [3], [3]]


def test_a_batch_has_rows_or_a_table():
    with pytest.raises(ValueError, match="rows or a table"):
        Batch(("n",))


def test_an_error_amid_the_rows_is_raised_and_the_connection_goes_on(postgresql):
    postgresql.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 30000)")
    query = "SELECT id, 1 / (id - 29000) AS n FROM t"
    source = open_source(Query(postgresql.url, query, key="id"))
    with pytest.raises(psycopg.errors.DivisionByZero):
        list(source.read_tables(ChunkRange(None, (30000,)), 1000))
    assert sum(map(len, source.read_tables(ChunkRange(None, (28000,)), 1000))) == 28000


def test_reading_that_is_given_up_leaves_the_connection_in_order(postgresql):
    postgresql.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 100000)")
    source = open_source(Table(postgresql.url, "t", key="id"))
    batches = source.read_tables(ChunkRange(None, (100000,)), 10)
    assert len(next(batches)) == 10
    batches.close()
    assert sum(map(len, source.read_tables(ChunkRange(None, (100000,)), 7000))) == 100000
