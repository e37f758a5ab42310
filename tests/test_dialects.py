"""What a dialect says: standard SQL, compiled for databases that no test here can reach, and what one cannot do."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import column, make_url, select, table
from sqlalchemy import types as sql
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql

from prefect_batch import Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.dialect import Dialect
from prefect_batch.blocks.databases.keyset import beyond, up_to
from prefect_batch.blocks.databases.known_dialects import dialect_named
from prefect_batch.blocks.databases.ledger import Ledger
from prefect_batch.blocks.databases.sqlite.location import in_memory
from prefect_batch.blocks.databases.standard import insert_statement, update_statement
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink, open_source

A, B, C = (column(name, sql.Integer()) for name in "abc")
TARGET = Target("out", "shop", ("a", "b"), {"a": sql.Integer(), "b": sql.Integer(), "n": sql.Text()})


def flat(statement, dialect):
    return " ".join(str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})).split())


def test_row_values_where_they_are_fast():
    dialect, asked = postgresql.dialect(), dialect_named("postgresql").row_values
    assert flat(beyond([A, B], (1, 2), row_values=asked), dialect) == "(a, b) > (1, 2)"
    assert flat(up_to([A, B], (1, 2), row_values=asked), dialect) == "(a, b) <= (1, 2)"


@pytest.mark.parametrize(
    ("name", "dialect"), [("mssql", mssql.dialect()), ("oracle", oracle.dialect()), ("mysql", mysql.dialect())]
)
def test_elsewhere_the_first_half_is_what_an_index_can_use(name, dialect):
    asked = dialect_named(name).row_values
    found = flat(beyond([A, B, C], (1, 2, 3), row_values=asked), dialect)
    assert found == "a >= 1 AND (a > 1 OR b >= 2 AND (b > 2 OR c > 3))"
    assert flat(up_to([A, B], (1, 2), row_values=asked), dialect) == "a <= 1 AND (a < 1 OR b <= 2)"


@pytest.mark.parametrize("dialect", [mssql.dialect(), oracle.dialect()])
def test_edges_and_last_keys_compile(dialect):
    statement = select(A, B).select_from(table("t")).where(beyond([A, B], (1, 2), row_values=False)).order_by(A, B)
    edge = flat(statement.offset(4999).limit(1), dialect)
    assert "4999" in edge
    assert edge.count("ORDER BY a, b") >= 1
    last = flat(select(A).select_from(table("t")).order_by(A.desc()).limit(1), dialect)
    assert "TOP 1" in last or "FETCH FIRST 1 ROWS ONLY" in last or "ROWNUM <= 1" in last


@pytest.mark.parametrize("dialect", [mssql.dialect(), oracle.dialect()])
def test_upserts_are_an_update_by_key_and_an_insert(dialect):
    update = str(update_statement(TARGET, ("a", "n", "b")).compile(dialect=dialect))
    expected = "UPDATE shop.out SET n=:batch_1 WHERE shop.out.a = :batch_0 AND shop.out.b = :batch_2"
    assert " ".join(update.split()) == expected
    insert = str(insert_statement(TARGET, ("a", "n", "b")).compile(dialect=dialect))
    assert " ".join(insert.split()) == "INSERT INTO shop.out (a, n, b) VALUES (:batch_0, :batch_1, :batch_2)"


@pytest.mark.parametrize("dialect", [mssql.dialect(), oracle.dialect()])
def test_the_ledger_can_be_made(dialect):
    from sqlalchemy.schema import CreateTable

    assert "prefect_batch_chunks" in str(CreateTable(Ledger("shop")._table).compile(dialect=dialect))


def test_a_database_that_is_not_known_is_spoken_to_in_standard_sql():
    assert dialect_named("mssql", "pyodbc") == dialect_named("oracle") == Dialect()


def test_with_another_driver_only_what_the_driver_does_is_standard():
    ours, other = dialect_named("postgresql"), dialect_named("postgresql", "psycopg2")
    assert (other.explain, other.health, other.row_values) == (ours.explain, ours.health, True)
    assert (other.write, other.stream, other.write_one_by_one) == (Dialect().write, Dialect().stream, None)
    assert dialect_named("mariadb", "pymysql") == dialect_named("mysql")


@pytest.mark.parametrize("write", ["upsert", "insert", "update"])
@pytest.mark.parametrize("records", [True, False], ids=["records", "tables"])
def test_standard_sql_reads_and_writes_as_the_database_itself(database, write, records, monkeypatch):
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b VARCHAR(9))")
    there = {"insert": [], "upsert": range(20, 40), "update": range(40)}[write]
    database.run(*(f"INSERT INTO t VALUES ({n}, 0, 'old')" for n in there))
    rows = [{"id": n, "a": n * n, "b": f"row {n}"} for n in range(40)]
    table = Table(database.url, "t", key="id", write=write)
    source, sink = open_source(table), open_sink(table)
    standard = replace(source.dialect.by_another_driver(), row_values=False, raw_keys=False)
    monkeypatch.setattr(source, "dialect", standard)
    monkeypatch.setattr(sink, "dialect", standard)
    sink.prepare(rows, pa.schema([]))
    with sink.transaction(PassRef("test", 1, "x"), ChunkRange(None, (39,))) as transaction:
        transaction.write(rows) if records else transaction.write_table(pa.Table.from_pylist(rows))
        transaction.commit()
    batches = source.read_tables(ChunkRange(None, (39,)), 7)
    assert [dict(zip(batch.names, row, strict=False)) for batch in batches for row in batch.rows] == rows


def test_a_database_without_savepoints_is_taken_as_a_sink(sqlite, monkeypatch):
    """How its refused records are found: tests/laws/test_apart_without_help.py."""
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    sink = open_sink(Table(sqlite.url, "t", key="id"))
    monkeypatch.setattr(sink, "dialect", replace(sink.dialect, savepoints=False))
    assert sink.check(pa.schema([])) == []


def test_a_database_that_one_process_at_a_time_may_open_is_only_here(sqlite, monkeypatch):
    source = open_source(Table(sqlite.url, "t", key="id"))
    assert not source.only_here
    monkeypatch.setattr(source, "dialect", replace(source.dialect, processes=False))
    assert source.only_here


# SQLAlchemy 2.1 warns of options that it leaves out without uri=true.
@pytest.mark.filterwarnings("ignore:Query string argument:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize(
    ("rest", "file"),
    [
        ("", None),
        ("/", None),
        ("/:memory:", None),
        ("/:memory:?cache=shared", None),
        ("/file:out?mode=memory&cache=shared&uri=true", None),
        ("/file:out?uri=1&cache=shared&mode=memory", None),
        ("/file:out?uri=true&mode=%6Demory", None),
        ("/file::memory:?cache=shared&uri=true", None),
        ("/file:?uri=true", None),
        ("/file:/out?vfs=memdb&uri=true", None),
        ("//shops/mode=memory/a.db", "/shops/mode=memory/a.db"),
        ("//shops/a.db?timeout=5", "/shops/a.db"),
        ("/file:/shops/a%20b.db?mode=ro&uri=true", "/shops/a b.db"),
        ("/file:///shops/a.db?uri=true", "/shops/a.db"),
        ("/file://localhost/shops/a.db?uri=true", "/shops/a.db"),
    ],
)
def test_where_a_sqlite_database_is(rest, file):
    url = make_url(f"sqlite://{rest}")
    dialect = dialect_named(url.get_backend_name())
    assert in_memory(url) == (file is None)
    assert dialect.file(url) == (file and Path(file))
    assert Dialect().file(url) is None


@pytest.mark.parametrize("name", ["postgresql", "mysql", "oracle"])
def test_a_server_is_neither_in_memory_nor_a_file(name):
    url = make_url(f"{name}://host/shop")
    assert (dialect_named(name).in_memory(url), dialect_named(name).file(url)) == (False, None)
