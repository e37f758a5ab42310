"""Refused records are found whatever the database does about errors: no savepoints, late constraints, row policies."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from prefect_batch import Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import ItemRows
from prefect_batch.testing import exercise_sink
from tests.test_sink_contract import table_case

CHUNK, PASS = ChunkRange(None, (100,)), PassRef("j", 1, "p")


def without_savepoints(table):
    """A sink whose database has no savepoints, and ends a transaction at an error, as DuckDB does."""
    sink = open_sink(table)

    def ending(write, connection, *args):
        try:
            write(connection, *args)
        except BaseException:
            connection.connection.driver_connection.rollback()
            raise

    dialect = sink.dialect
    write, write_table = partial(ending, dialect.write), partial(ending, dialect.write_table)
    sink.dialect = replace(dialect, savepoints=False, write=write, write_table=write_table)
    return sink


@pytest.fixture
def no_savepoints(monkeypatch):
    def refuse(_self):
        raise AssertionError("there are no savepoints")

    monkeypatch.setattr(Connection, "begin_nested", refuse)


def rows_of(database, columns="id, qty"):
    return database.rows(f"SELECT {columns} FROM target ORDER BY id, qty")


@pytest.mark.usefixtures("no_savepoints")
@pytest.mark.parametrize("write", ["upsert", "insert", "append"])
def test_a_sink_without_savepoints_keeps_the_contract(sqlite, write):
    exercise_sink(partial(table_case, sqlite, write, without_savepoints))


BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 9)), min_size=1, max_size=8), max_size=4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BATCHES, st.sampled_from(["insert", "upsert", "append"]))
def test_it_writes_and_refuses_what_one_with_savepoints_does(sqlite, batches, write):
    """Keys that meet and quantities that must be unique, so that what was written before decides what is refused."""

    def written(opened):
        sqlite.run(
            "DROP TABLE IF EXISTS target",
            f"CREATE TABLE target (id INTEGER{'' if write == 'append' else ' PRIMARY KEY'}, "
            "qty INTEGER UNIQUE CHECK (qty >= 0))",
        )
        sink = opened(Table(sqlite.url, "target", key="id", write=write, ledger=False))
        sink.prepare([{"id": 1, "qty": 1}], None)
        refused = []
        with sink.transaction(PASS, CHUNK) as transaction:
            for batch in batches:
                rows = [{"id": key, "qty": qty} for key, qty in batch]
                refused.append(
                    [part.places for part, _ in isolate(transaction, ItemRows(list(range(len(rows))), rows))]
                )
            transaction.commit()
        return refused, rows_of(sqlite)

    assert written(without_savepoints) == written(open_sink)


@pytest.fixture
def parents(postgresql):
    postgresql.run(
        "CREATE TABLE parent (qty int PRIMARY KEY)",
        "INSERT INTO parent SELECT n FROM generate_series(0, 99) n WHERE n NOT IN (50, 99)",
    )
    return postgresql


WAITING = {
    "a foreign key": "id int PRIMARY KEY, qty int REFERENCES parent DEFERRABLE INITIALLY DEFERRED",
    "a unique key": "id int PRIMARY KEY, qty int UNIQUE DEFERRABLE INITIALLY DEFERRED",
}


@pytest.mark.parametrize("write", ["upsert", "insert", "append"])
@pytest.mark.parametrize("waits", WAITING)
def test_a_constraint_that_waits_for_the_commit_refuses_the_record(parents, waits, write):
    parents.run(f"CREATE TABLE target ({WAITING[waits]})")
    sink = open_sink(Table(parents.url, "target", key="id", write=write, ledger=False))
    rows = [{"id": n, "qty": n} for n in range(100)]
    if waits == "a unique key":
        rows[50]["qty"], rows[99]["qty"] = 49, 98
    assert refused_places(sink, rows) == [50, 99]
    assert rows_of(parents, "id, qty") == [(n, n) for n in range(100) if n not in (50, 99)]


def refused_places(sink, rows):
    sink.check(None)
    sink.prepare(rows, None)
    with sink.transaction(PASS, CHUNK) as transaction:
        refused = isolate(transaction, ItemRows(list(range(len(rows))), rows))
        transaction.commit()
    return [part.places[0] for part, _ in refused]


def raising(state):
    """A trigger that refuses one row with an error of this state."""
    body = f"BEGIN IF NEW.qty = 50 THEN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END IF; RETURN NEW; END"
    return (
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


REFUSING = {
    "a row policy": (
        "ALTER TABLE target ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE target FORCE ROW LEVEL SECURITY",
        "CREATE POLICY p ON target USING (true) WITH CHECK (qty <> 50)",
    ),
    **{f"a trigger that raises {state}": raising(state) for state in ("XX000", "42501", "42P01", "53100", "P0001")},
}


@pytest.mark.parametrize("write", ["upsert", "append"])
@pytest.mark.parametrize("why", REFUSING)
def test_what_refuses_one_row_costs_one_record(postgresql, why, write):
    postgresql.run("CREATE TABLE target (id int PRIMARY KEY, qty int)", *REFUSING[why])
    url = postgresql.url
    if why == "a row policy":  # It does not hold for a superuser.
        postgresql.run(
            "DO $$ BEGIN CREATE ROLE prefect_batch_plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            "ALTER TABLE target OWNER TO prefect_batch_plain",
            "GRANT ALL ON SCHEMA public TO prefect_batch_plain",
        )
        url = str(postgresql.engine.url.set(username="prefect_batch_plain").render_as_string(hide_password=False))
        url = url.replace("postgresql+psycopg", "postgresql")
    sink = open_sink(Table(url, "target", key="id", write=write, ledger=False))
    try:
        assert refused_places(sink, [{"id": n, "qty": n} for n in range(100)]) == [50]
        assert rows_of(postgresql) == [(n, n) for n in range(100) if n != 50]
    finally:
        sink.engine.dispose()
        if why == "a row policy":
            postgresql.run("DROP TABLE target", "DROP OWNED BY prefect_batch_plain")
        else:
            postgresql.run("DROP TABLE target", "DROP FUNCTION refuse")
