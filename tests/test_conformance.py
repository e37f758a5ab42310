"""One suite for every database: what a source and a sink promise, for every type of key."""

import json
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Column, Integer, MetaData
from sqlalchemy import Table as SqlTable

from prefect_batch import Query, Table
from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadOutput, BadSink, ChunkIsDone, RowNotFound, UnknownColumn
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.keys import decode_key, encode_key
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item
from prefect_batch.testing.walk import walk

MOMENT = datetime(2024, 3, 31, 1, 59, 59, 999_990)
# kind: (type in SQLite, PostgreSQL, MariaDB; the values, in no order)
KEYS = {
    "int": ("INTEGER", "bigint", "BIGINT", [-(2**63), -5, 0, 1, 2, 3, 2**53 + 1, 2**53 + 2, 2**63 - 1]),
    "text": ("TEXT", "text", "VARCHAR(40)", ["", "a", "B", "c%d", "é", "ß", "z'z", "ab:cd", "漢", "tab\t", "zz"]),
    "decimal": ("TEXT", "numeric(30,12)", "DECIMAL(30,12)", [Decimal(f"{n}.{n:012d}") for n in range(1, 9)]),
    "date": ("DATE", "date", "DATE", [date(2024, 1, 1) + timedelta(days=n) for n in range(9)]),
    "datetime": ("DATETIME", "timestamp", "DATETIME(6)", [MOMENT + timedelta(microseconds=n) for n in range(12)]),
    "zoned": (
        "TEXT",
        "timestamptz",
        "TIMESTAMP(6)",
        [(MOMENT + timedelta(microseconds=n)).replace(tzinfo=UTC) for n in range(12)],
    ),
    "uuid": ("TEXT", "uuid", "CHAR(36)", [uuid.UUID(int=n * 7**40 % 2**128) for n in range(1, 12)]),
    "bytes": ("BLOB", "bytea", "VARBINARY(40)", [b"", b"\x00", b"\x00\x01", b"\xff", b"'", b"%s", b"a", b"b"]),
}


def stored(value, database):
    """The value as a test writes it with plain SQL."""
    if isinstance(value, uuid.UUID) and database.kind != "postgresql":
        return str(value)
    if isinstance(value, Decimal) and database.kind == "sqlite":
        return str(value)
    if isinstance(value, datetime) and value.tzinfo and database.kind == "mariadb":
        return value.replace(tzinfo=None)
    if isinstance(value, (date, datetime)) and database.kind == "sqlite":
        return value.isoformat(*([" ", "microseconds"] if isinstance(value, datetime) else []))
    return value


def kind_column(kind, database):
    return KEYS[kind][["sqlite", "postgresql", "mariadb"].index(database.kind)]


def make(database, kind):
    """Table ``t`` with this key and its values."""
    database.run(f"CREATE TABLE t (k {kind_column(kind, database)} PRIMARY KEY, n INTEGER)")
    rows = [{"k": stored(value, database), "n": n} for n, value in enumerate(KEYS[kind][3])]
    database.many("INSERT INTO t VALUES (:k, :n)", rows)
    return rows


@pytest.mark.parametrize("kind", KEYS)
def test_ranges_of_any_size_cover_every_row_once(database, kind):
    rows = make(database, kind)
    source = open_source(Table(database.url, "t", key="k"))
    assert source.check() == []
    unpaged = [n for (n,) in database.rows("SELECT n FROM t ORDER BY k")]
    place = source.names.index("n")
    for rows_per_chunk in (1, 2, 3, len(rows) - 1, len(rows), len(rows) + 1):
        found = walk(source, rows_per_chunk)
        assert [row[place] for row in found.rows] == unpaged
        assert len(found.ranges) <= len(rows) // rows_per_chunk + 1


@pytest.mark.parametrize("kind", KEYS)
def test_a_row_is_found_again_by_the_key_in_its_letter(database, kind):
    make(database, kind)
    source = open_source(Table(database.url, "t", key="k"))
    found = walk(source, 4).rows
    for before, row in zip([None, *found], found, strict=False):
        after = None if before is None else source.key_of(before)
        key = decode_key(json.loads(json.dumps(encode_key(source.key_of(row)))))
        assert [r for batch in source.read(ChunkRange(after, key), 10) for r in batch.rows] == [row]


@pytest.mark.parametrize("kind", KEYS)
def test_values_come_through_a_made_table_as_they_were(database, kind):
    make(database, kind)
    source = open_source(Table(database.url, "t", key="k"))
    found = walk(source, 100).rows
    sink = open_sink(Table(database.url, "copy", key="k", create=True))
    sink.check(source.schema)
    write(sink, [dict(zip(source.names, row, strict=False)) for row in found], source.schema)
    # Sorted here: a made table may collate text otherwise, so that no two texts are the same key.
    assert sorted(database.rows("SELECT * FROM copy")) == sorted(database.rows("SELECT * FROM t"))
    assert sorted(walk(open_source(Table(database.url, "copy", key="k")), 3).rows) == sorted(found)


@pytest.mark.parametrize("rows_per_chunk", [1, 2, 5])
def test_the_hour_that_summer_time_has_twice_is_walked_once(postgresql, monkeypatch, rows_per_chunk):
    """The driver gives moments in the session's zone, where two of that hour are equal for Python."""
    monkeypatch.setenv("PGTZ", "America/New_York")
    postgresql.run(
        "CREATE TABLE t (k timestamptz PRIMARY KEY, n integer)",
        "INSERT INTO t SELECT '2023-11-05 04:30Z'::timestamptz + n * interval '15 min', n "
        "FROM generate_series(1, 12) n",
    )
    for where, last in (("n <= 6", 6), ("n = 2 OR n = 6", 6), ("true", 12)):
        source = open_source(Table(postgresql.url, "t", key="k", where=where))
        upper = source.last_key()
        assert decode_key(json.loads(json.dumps(encode_key(upper)))) == upper
        found = walk(source, rows_per_chunk).rows
        assert [n for _, n in found] == [n for (n,) in postgresql.rows(f"SELECT n FROM t WHERE {where} ORDER BY k")]
        assert found[-1][1] == last


PASS = PassRef("test", 1, "abcd")
CHUNK = ChunkRange(None, (1,))


def write(sink, records, schema=None):
    """Write records in one transaction, as a chunk does; the refused ones with their errors."""
    sink.prepare(records, schema)
    items = [Item(place, [record]) for place, record in enumerate(records)]
    with sink.transaction(PASS, CHUNK) as transaction:
        refused = isolate(transaction, items)
        transaction.commit()
    return [(item.index, error) for (item,), error in refused]


def test_a_composite_key_with_ties_is_covered(database):
    database.run("CREATE TABLE t (a INTEGER NOT NULL, b VARCHAR(9) NOT NULL, n INTEGER)")
    rows = [{"a": a, "b": b, "n": n} for n in range(2) for a in range(5) for b in ("x", "y", "z")]
    database.many("INSERT INTO t VALUES (:a, :b, :n)", rows)
    source = open_source(Table(database.url, "t", key=["a", "b"]))
    for rows_per_chunk in range(1, 32):
        found = walk(source, rows_per_chunk).rows
        assert len(found) == 30
        assert len(set(found)) == 30
        assert [row[:2] for row in found] == sorted(row[:2] for row in found)


def test_a_composite_key_of_moments_and_uuids_is_covered(database):
    """Of one microsecond, and more than one row for each."""
    moment = {"sqlite": "DATETIME", "postgresql": "timestamptz", "mariadb": "DATETIME(6)"}[database.kind]
    identity = {"sqlite": "TEXT", "postgresql": "uuid", "mariadb": "CHAR(36)"}[database.kind]
    database.run(f"CREATE TABLE t (at {moment}, id {identity}, n INTEGER, PRIMARY KEY (at, id))")
    zone = UTC if database.kind == "postgresql" else None
    rows = [
        {"at": stored((MOMENT + timedelta(microseconds=a)).replace(tzinfo=zone), database), "id": str(id_), "n": a}
        for a in range(4)
        for id_ in KEYS["uuid"][3][:4]
    ]
    database.many("INSERT INTO t VALUES (:at, :id, :n)", rows)
    source = open_source(Table(database.url, "t", key=["at", "id"]))
    unpaged = database.rows("SELECT n, CAST(id AS CHAR(36)) FROM t ORDER BY at, id")
    for rows_per_chunk in (1, 2, 3, 5, 16, 17):
        found = walk(source, rows_per_chunk).rows
        assert [(row[2], str(row[1])) for row in found] == unpaged


def test_one_huge_tie_is_one_chunk(database):
    database.run("CREATE TABLE t (k INTEGER, n INTEGER)")
    database.many("INSERT INTO t VALUES (:k, :n)", [{"k": 1 if n < 90 else 2, "n": n} for n in range(100)])
    found = walk(open_source(Table(database.url, "t", key="k")), 10)
    assert len(found.rows) == 100
    assert [chunk.upto for chunk in found.ranges] == [(1,), (2,)]


def test_a_condition_and_columns_narrow_the_records(database):
    make(database, "int")
    source = open_source(Table(database.url, "t", key="k", columns=["n"], where="n % 2 = 1 AND '%:x' <> ''"))
    assert source.check() == []
    found = walk(source, 2).rows
    assert source.names == ("k", "n")  # The key is always read.
    assert sorted(row[1] for row in found) == [1, 3, 5, 7]


def test_a_query_is_walked_like_a_table(database):
    make(database, "int")
    sql = "SELECT k, n + 1 AS m, '10:30 50%' AS label FROM t WHERE n < 7 -- and no more"
    source = open_source(Query(database.url, sql, key="k"))
    assert source.check() == []
    found = walk(source, 2).rows
    assert source.names == ("k", "m", "label")
    assert sorted(row[1] for row in found) == [1, 2, 3, 4, 5, 6, 7]
    assert found[0][2] == "10:30 50%"
    assert source.estimate(None, source.last_key()) == 7


def test_names_that_need_quotes_work_everywhere(database):
    columns = [Column("the key", Integer, primary_key=True, autoincrement=False), Column("100% of it", Integer)]
    SqlTable("Order Lines", MetaData(), *columns).create(database.engine)
    sink = open_sink(Table(database.url, "Order Lines", key="the key"))
    assert sink.check(None) == []
    for _ in range(2):
        assert write(sink, [{"the key": n, "100% of it": n} for n in range(5)]) == []
    source = open_source(Table(database.url, "Order Lines", key="the key"))
    assert source.check() == []
    assert walk(source, 2).rows == [(n, n) for n in range(5)]


@pytest.fixture
def target(database):
    database.run("CREATE TABLE target (id INTEGER PRIMARY KEY, name VARCHAR(5), qty INTEGER CHECK (qty >= 0))")
    return database


def opened(database, write="upsert", name="target"):
    sink = open_sink(Table(database.url, name, key="id", write=write))
    sink.check(None)
    return sink


def test_an_upsert_inserts_and_updates_and_leaves_other_columns_alone(target):
    sink = opened(target)
    assert write(sink, [{"id": n, "name": "a", "qty": n} for n in range(4)]) == []
    assert write(sink, [{"id": 3, "qty": 33}, {"qty": 44, "id": 4}, {"id": 0}]) == []
    assert target.rows("SELECT * FROM target ORDER BY id") == [
        (0, "a", 0), (1, "a", 1), (2, "a", 2), (3, "a", 33), (4, None, 44),
    ]  # fmt: skip


def test_of_two_records_with_one_key_the_later_wins(target):
    assert write(opened(target), [{"id": 1, "qty": n} for n in range(9)]) == []
    assert target.rows("SELECT id, qty FROM target") == [(1, 8)]


@pytest.mark.parametrize("bad", [{0}, {49}, {7, 8, 9}, set(range(0, 50, 7)), set(range(50)), set()])
def test_refused_records_are_found_and_the_others_written(target, bad):
    records = [{"id": n, "qty": -1 if n in bad else n} for n in range(50)]
    refused = write(opened(target), records)
    assert [place for place, _ in refused] == sorted(bad)
    assert {n for (n,) in target.rows("SELECT id FROM target")} == set(range(50)) - bad
    for _, error in refused:
        assert "qty" in str(error)


def test_each_refused_record_has_its_own_error(target):
    records = [{"id": 1, "qty": 1}, {"id": 2, "qty": -1}, {"id": 3, "other": 1}, {"id": None, "qty": 1}, {"qty": 1}]
    errors = dict(write(opened(target), records))
    assert sorted(errors) == [1, 2, 3, 4]
    assert isinstance(errors[2], UnknownColumn)
    assert "has no column other" in str(errors[2])
    assert isinstance(errors[3], BadOutput)
    assert isinstance(errors[4], BadOutput)


def test_an_insert_of_a_key_that_exists_is_refused(target):
    sink = opened(target, "insert")
    assert write(sink, [{"id": 1, "qty": 1}]) == []
    refused = write(sink, [{"id": 0, "qty": 2}, {"id": 1, "qty": 2}, {"id": 2, "qty": 2}])
    assert [place for place, _ in refused] == [1]
    assert target.rows("SELECT id, qty FROM target ORDER BY id") == [(0, 2), (1, 1), (2, 2)]


def test_an_update_changes_rows_that_exist_and_refuses_others(target):
    write(opened(target), [{"id": n, "name": "a", "qty": 1} for n in range(3)])
    refused = write(opened(target, "update"), [{"id": n, "qty": 2} for n in (0, 7, 2)] + [{"id": 1}, {"id": 8}])
    assert [place for place, _ in refused] == [1, 4]
    assert all(isinstance(error, RowNotFound) for _, error in refused)
    assert target.rows("SELECT * FROM target ORDER BY id") == [(0, "a", 2), (1, "a", 1), (2, "a", 2)]


def test_an_update_to_the_same_values_finds_its_row(target):
    write(opened(target), [{"id": 1, "qty": 1}])
    assert write(opened(target, "update"), [{"id": 1, "qty": 1}]) == []


def test_a_collision_on_another_unique_key_is_a_failed_record(database):
    database.run("CREATE TABLE target (id INTEGER PRIMARY KEY, email VARCHAR(40) UNIQUE, n INTEGER)")
    sink = opened(database)
    assert write(sink, [{"id": n, "email": f"{n}@x", "n": 1} for n in range(3)]) == []
    refused = write(sink, [{"id": 0, "email": "0@x", "n": 2}, {"id": 9, "email": "1@x", "n": 2}])
    assert [place for place, _ in refused] == [1]
    assert database.rows("SELECT id, email, n FROM target ORDER BY id") == [(0, "0@x", 2), (1, "1@x", 1), (2, "2@x", 1)]


def test_text_too_long_is_refused_and_not_cut(target):
    if target.kind == "sqlite":
        pytest.skip("SQLite has no length of text")
    refused = write(opened(target), [{"id": 1, "name": "123456"}, {"id": 2, "name": "12345"}])
    assert [place for place, _ in refused] == [0]
    assert target.rows("SELECT id, name FROM target") == [(2, "12345")]


def test_a_composite_key_is_upserted(database):
    database.run("CREATE TABLE target (a INTEGER, b VARCHAR(9), n INTEGER, PRIMARY KEY (a, b))")
    sink = open_sink(Table(database.url, "target", key=["b", "a"]))
    # A collation of MariaDB takes different texts for one.
    assert [("different texts in b" in warning) for warning in sink.check(None)] == [True] * (
        database.kind == "mariadb"
    )
    for n in (1, 2):
        assert write(sink, [{"a": a, "b": b, "n": n} for a in (1, 2) for b in ("x", "y")]) == []
    assert database.rows("SELECT * FROM target ORDER BY a, b") == [(1, "x", 2), (1, "y", 2), (2, "x", 2), (2, "y", 2)]


@pytest.mark.parametrize("mode", ["upsert", "update"])
def test_a_key_that_is_not_unique_cannot_be_upserted(database, mode):
    database.run("CREATE TABLE target (id INTEGER, n INTEGER)")
    with pytest.raises(BadSink, match=r"no primary key or unique index on \(id\).*CREATE UNIQUE INDEX"):
        opened(database, mode)


def test_an_odd_row_in_an_otherwise_plain_batch(target):
    """Values that the driver would store as something else, or not take: numpy's, pandas' and Python's own."""
    import numpy as np
    import pandas as pd

    target.run("CREATE TABLE odd (id INTEGER PRIMARY KEY, x DOUBLE PRECISION, t VARCHAR(40))")
    sink = opened(target, name="odd")
    records = [{"id": np.int64(1), "x": np.float64(1.5), "t": "a"}, {"id": 2, "x": 3, "t": None}]
    assert write(sink, records) == []
    assert target.rows("SELECT * FROM odd ORDER BY id") == [(1, 1.5, "a"), (2, 3.0, None)]
    assert isinstance(target.rows("SELECT id FROM odd")[0][0], int)
    database_kind = "TEXT" if target.kind == "sqlite" else "TIMESTAMP NULL"
    target.run(f"CREATE TABLE moments (id INTEGER PRIMARY KEY, at {database_kind})")
    refused = write(opened(target, name="moments"), [{"id": 1, "at": pd.Timestamp("2024-01-01 12:00")}])
    assert refused == []
    assert str(target.rows("SELECT at FROM moments")[0][0]).startswith("2024-01-01 12:00:00")


def test_json_columns_take_dicts_and_lists(database):
    kind = {"sqlite": "JSON", "postgresql": "jsonb", "mariadb": "JSON"}[database.kind]
    database.run(f"CREATE TABLE target (id INTEGER PRIMARY KEY, doc {kind})")
    assert write(opened(database), [{"id": 1, "doc": {"a": [1, None]}}, {"id": 2, "doc": [1, "x"]}]) == []
    docs = [
        doc if isinstance(doc, (dict, list)) else json.loads(doc)
        for (doc,) in database.rows("SELECT doc FROM target ORDER BY id")
    ]
    assert docs == [{"a": [1, None]}, [1, "x"]]


def test_a_transaction_that_is_not_committed_leaves_nothing(target):
    sink = opened(target)
    sink.prepare([], None)
    with sink.transaction(PASS, CHUNK) as transaction:
        transaction.write([{"id": 1, "qty": 1}])
    assert target.rows("SELECT * FROM target") == []


def test_a_chunk_that_two_runs_finish_at_once_is_written_once(database):
    """One of them was taken for dead, and is not; the later one tries again, and finds the other's result."""
    database.run("CREATE TABLE target (id INTEGER, qty INTEGER)")
    sink = opened(database, "append")
    sink.prepare([], None)
    here = PassRef("a-job", 1, "x"), ChunkRange(None, (9,))
    with sink.transaction(*here) as first:
        first.write([{"id": 1, "qty": 1}])
        first.record({"n": 1})
        first.commit()
    with sink.transaction(*here) as second:
        second.write([{"id": 1, "qty": 1}])
        with pytest.raises(ChunkIsDone) as raised:
            second.record({"n": 2})
    assert blame_of(raised.value).passes
    with sink.transaction(*here) as third:
        assert third.find() == {"n": 1}
    assert database.rows("SELECT * FROM target") == [(1, 1)]


def test_the_estimate_is_exact_for_small_tables(database):
    make(database, "int")
    source = open_source(Table(database.url, "t", key="k"))
    assert source.estimate(None, source.last_key()) == 9
    assert source.estimate((0,), source.last_key()) == 6


def test_back_counts_rows_from_a_key(database):
    make(database, "int")
    source = open_source(Table(database.url, "t", key="k"))
    assert source.back((3,), 2) == (1,)
    assert source.back((3,), 100) is None
