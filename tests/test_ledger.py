"""Sinks that are only added to, and the ledger that makes a repeated chunk harmless to them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import inspect

import prefect_batch
from prefect_batch import Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.connections import close_engines
from prefect_batch.blocks.databases.ledger import CLOSED, KEPT, LEDGER, Ledger
from prefect_batch.blocks.errors import BadParameter, BadSink, LostOwnership
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink, open_source

PASS = PassRef("nightly", 1, "one")
CHUNK = ChunkRange(None, (9,))


def append(database, name="log", key="id", **options):
    sink = open_sink(Table(database.url, name, key=key, write="append", **options))
    sink.check(None)
    return sink


def write(sink, records, pass_=PASS, chunk=CHUNK):
    sink.prepare(records, pa.schema([]))
    with sink.transaction(pass_, chunk) as transaction:
        transaction.write(records)
        transaction.record({"chunk": chunk.text})
        transaction.commit()


def found(sink, pass_=PASS, chunk=CHUNK):
    with sink.transaction(pass_, chunk) as transaction:
        return transaction.find()


def test_rows_are_added_whatever_their_key(database):
    database.run("CREATE TABLE log (at VARCHAR(9), n INTEGER)")
    sink = append(database, key="no such column")
    write(sink, [{"at": "today", "n": 1}, {"at": "today", "n": 1}, {"n": 2}])
    assert sorted(database.rows("SELECT n, at FROM log"), key=str) == [(1, "today"), (1, "today"), (2, None)]


def test_a_table_that_is_made_has_no_primary_key(database):
    sink = append(database, key=[], create=True)
    write(sink, [{"id": 1, "n": 1}, {"id": 1, "n": 2}])
    assert inspect(database.engine).get_pk_constraint("log")["constrained_columns"] == []
    assert len(database.rows("SELECT * FROM log")) == 2


@pytest.mark.parametrize("write_mode", ["upsert", "insert", "update"])
def test_only_rows_that_are_added_need_no_key(write_mode):
    with pytest.raises(ValueError, match="key must name at least one column"):
        Table("sqlite:///x.db", "t", key=[], write=write_mode)
    with pytest.raises(BadParameter, match="key must name at least one column"):
        open_source(Table("sqlite:///x.db", "t", key=[], write="append"))


def test_inserts_need_a_unique_key_and_are_told_of_appending(database):
    database.run("CREATE TABLE log (id INTEGER, n INTEGER)")
    with pytest.raises(BadSink, match=r"no primary key or unique index on \(id\).* or use write='append'"):
        open_sink(Table(database.url, "log", key="id", write="insert")).check(None)


def test_a_chunk_is_found_by_its_own_pass_only(database):
    """Another Prefect server may count a pass of the same job and number into the same database."""
    database.run("CREATE TABLE log (id INTEGER)")
    sink = append(database)
    write(sink, [{"id": 1}])
    assert found(sink) == {"chunk": "(start, 9]"}
    assert found(sink, PassRef("nightly", 1, "another server")) is None
    assert found(sink, chunk=ChunkRange((9,), (10,))) is None


def test_a_pass_that_is_over_leaves_one_row_and_old_leftovers_go_with_the_next(database):
    database.run("CREATE TABLE log (id INTEGER)")
    sink = append(database)
    other = PassRef("other", 1, "other")
    for pass_ in (PASS, PassRef("nightly", 2, "given up"), PassRef("nightly", 3, "young"), other):
        write(sink, [{"id": 1}], pass_)
    sink.end_pass(PASS)
    assert found(sink) is None
    long_ago = (datetime.now(UTC) - KEPT - timedelta(days=1)).isoformat()
    database.run(f"UPDATE prefect_batch_chunks SET finished_at = '{long_ago}' WHERE pass_id IN ('given up', 'other')")
    sink.begin_pass(PassRef("nightly", 4, "four"))
    left = database.rows("SELECT job, pass_id, chunk FROM prefect_batch_chunks ORDER BY pass_id")
    assert left == [("nightly", "one", CLOSED), ("other", "other", CHUNK.digest), ("nightly", "young", CHUNK.digest)]


def test_nothing_is_added_to_a_pass_that_is_over(database):
    """By a run that was frozen in the middle of a chunk, and wakes up when another one has completed the pass."""
    database.run("CREATE TABLE log (id INTEGER)")
    sink = append(database)
    write(sink, [{"id": 1}])
    for _ in range(2):
        sink.end_pass(PASS)
    for _ in range(2):
        with pytest.raises(LostOwnership, match="nightly was taken over by another run"):
            write(sink, [{"id": 1}])
    write(sink, [{"id": 2}], PassRef("nightly", 2, "two"))
    assert database.rows("SELECT id FROM log ORDER BY id") == [(1,), (2,)]


def test_nothing_is_added_to_a_pass_that_ends_meanwhile(crash_database):
    """The frozen transaction has begun, and has read, before the pass is closed."""
    if crash_database.kind == "sqlite":
        pytest.skip("it has a single writer: the pass cannot end during another transaction")
    crash_database.run("CREATE TABLE log (id INTEGER)")
    sink = append(crash_database)
    sink.prepare([{"id": 1}], pa.schema([]))
    with sink.transaction(PASS, CHUNK) as frozen:
        assert frozen.find() is None
        frozen.write([{"id": 1}])
        write(sink, [{"id": 1}])
        sink.end_pass(PASS)
        with pytest.raises(LostOwnership):
            frozen.record({})
    assert crash_database.rows("SELECT id FROM log") == [(1,)]


def test_without_the_ledger_there_is_none(database):
    database.run("CREATE TABLE log (id INTEGER)")
    sink = append(database, ledger=False)
    assert not sink.needs_ledger
    sink.begin_pass(PASS)
    sink.end_pass(PASS)
    assert inspect(database.engine).get_table_names() == ["log"]


def test_a_ledger_that_may_not_be_made_is_said_with_the_way_out(postgresql, job):
    role = f"batch_{job.replace('-', '_')}"
    postgresql.run("CREATE TABLE log (id INTEGER)", f"CREATE ROLE {role} LOGIN", f"GRANT INSERT ON log TO {role}")
    postgresql.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    url = postgresql.url.replace("root@", f"{role}@")
    try:
        with pytest.raises(
            BadSink, match=r"ledger prefect_batch_chunks cannot be made.*permission denied.*ledger=False"
        ):
            open_sink(Table(url, "log", key="id", write="append")).check(None)
        assert open_sink(Table(url, "log", key="id", write="append", ledger=False)).check(None) == []
    finally:
        close_engines()
        postgresql.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_the_documented_table_is_a_ledger(postgresql):
    page = (Path(prefect_batch.__file__).parent / "docs" / "sources-and-sinks.md").read_text()
    statement = page[page.index("CREATE TABLE prefect_batch_chunks") :].partition("```")[0]
    postgresql.run("CREATE TABLE log (id INTEGER)", statement)
    sink = append(postgresql)
    write(sink, [{"id": 1}])
    assert found(sink)
    documented = {column["name"]: str(column["type"]) for column in inspect(postgresql.engine).get_columns(LEDGER)}
    assert documented == {column.name: str(column.type) for column in Ledger(None)._table.columns}
