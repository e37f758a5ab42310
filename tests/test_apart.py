"""Rows that a sink writes singly in one go come out as if each had been written alone."""

import random
import re
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from prefect_batch import Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.connections import close_engines
from prefect_batch.blocks.errors import BadSink
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import ItemRows

SQLITE = ["id INTEGER PRIMARY KEY", "qty INTEGER CHECK (qty >= 0)", "email VARCHAR(40) UNIQUE", "name TEXT NOT NULL"]
POSTGRESQL = [
    "id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "qty numeric(5,2) CHECK (qty >= 0)",
    "email varchar(8) UNIQUE",
    "name text NOT NULL",
    "code char(3)",
    "mood mood",
    "tags varchar(3)[]",
    "doc jsonb",
    "raw bytea",
    "at timestamptz(0)",
    "bits bit(3)",
]
# What each column may hold, the good and the bad.
VALUES = {
    "qty": [1, 2.5, -1, None, 99999, "12.345", "many", Decimal("999.995")],
    "email": ["a@x", "b@x", "c@x", None, "far-too-long@x", "9"],
    "name": ["a", "it's", "", "b\\c", "tab\there", None, "$prefect_batch$ 'x'"],
    "code": ["a", "abc", "abcd", "", None],
    "mood": ["glad", "sad", "neither", None],
    "tags": [["a"], ["abcd"], [], ["a,b", None], None],
    "doc": [{"a": [1]}, [1], "text", None],
    "raw": [b"", b"\x00\xff", None],
    "at": [datetime(2024, 1, 1, 12, 0, 0, 600_000, UTC), "2024-02-30", "2024-06-01", None],
    "bits": ["101", "1", "abc", None],
}


def prepare(database):
    if database.kind == "postgresql":
        database.run("CREATE TYPE mood AS ENUM ('glad', 'sad')")
    columns = POSTGRESQL if database.kind == "postgresql" else SQLITE
    for name in ("one", "many"):
        database.run(f"CREATE TABLE {name} ({', '.join(columns)})")
    return [column.split()[0] for column in columns]


def records_of(seed, names):
    """Records with more or fewer bad ones among them; every fourth has a key that is there already."""
    rng = random.Random(seed)
    sobriety = rng.choice([0.3, 0.9, 0.99])
    rows = []
    for n in range(rng.choice([2, 17, 60])):
        row = {"id": rng.randrange(40) if n % 4 == 0 else 100 + n}
        for name in names[1:]:
            good = {"email": f"{row['id']}@x", "name": "n"}.get(name, VALUES[name][0])
            row[name] = good if rng.random() < sobriety else rng.choice(VALUES[name])
        rows.append(row)
    return rows


def written(sink, rows, chunks):
    """What of the rows was refused, and why, when they are written in one go, or each by itself."""
    refused = []
    with sink.transaction(PassRef("test", 1, "x"), ChunkRange(None, (1,))) as transaction:
        for places in chunks:
            part = ItemRows(list(places), [rows[place] for place in places])
            refused += [(one.places[0], error) for one, error in isolate(transaction, part)]
        transaction.commit()
    return {place: told(error) for place, error in refused}


def told(error):
    error = getattr(error, "orig", None) or error
    # Which row of which COPY it was is said in both cases, but not the same.
    text = str(error).partition("\nCONTEXT")[0]
    return type(error).__name__, re.sub(r"\bone(?=[._\" ])", "many", text)


@pytest.mark.parametrize("mode", ["upsert", "insert", "update"])
@pytest.mark.parametrize("seed", range(12))
def test_it_makes_no_difference_to_the_rows_and_to_what_is_said_of_them(crash_database, seed, mode):
    names = prepare(crash_database)
    sinks = {name: open_sink(Table(crash_database.url, name, key="id", write=mode)) for name in ("one", "many")}
    rows = records_of(seed, names)
    for sink in sinks.values():
        sink.prepare(rows, pa.schema([]))
    over = "OVERRIDING SYSTEM VALUE " if crash_database.kind == "postgresql" else ""
    for name in sinks:
        there = [{"id": n, "name": "there", "email": f"{n}@y"} for n in range(0, 40, 2)]
        crash_database.many(f"INSERT INTO {name} (id, name, email) {over}VALUES (:id, :name, :email)", there)
    one = written(sinks["one"], rows, [[place] for place in range(len(rows))])
    many = written(sinks["many"], rows, [range(len(rows))])
    # Of a row that is not there, it does not matter what else is wrong with it.
    for place, (kind, _) in many.items():
        if kind == "RowNotFound":
            assert place in one
            assert rows[place]["id"] % 2 or rows[place]["id"] >= 40
            one[place] = many[place]
    assert many == one
    found, expected = (crash_database.rows(f"SELECT * FROM {name} ORDER BY id") for name in ("many", "one"))
    assert found == expected


@pytest.mark.parametrize("mode", ["upsert", "insert"])
def test_the_rows_are_not_looked_for_one_by_one(crash_database, mode, monkeypatch):
    """Whatever the number of bad ones, there is one attempt at all of them, and one at each for itself, in one go."""
    crash_database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n <> 0))")
    sink = open_sink(Table(crash_database.url, "t", key="id", write=mode))
    rows = [{"id": n, "n": n % 3} for n in range(300)]
    sink.prepare(rows, pa.schema([]))
    writes = []
    with sink.transaction(PassRef("test", 1, "x"), ChunkRange(None, (1,))) as transaction:
        write = transaction.write
        monkeypatch.setattr(transaction, "write", lambda records: [writes.append(len(records)), write(records)])
        refused = isolate(transaction, ItemRows(list(range(300)), rows))
        transaction.commit()
    assert [one.places for one, _ in refused] == [[n] for n in range(0, 300, 3)]
    assert writes == [300]
    assert crash_database.rows("SELECT count(*) FROM t") == [(200,)]


def test_a_type_that_would_be_cut_silently_is_not_written_as_text(postgresql):
    postgresql.run(
        "CREATE DOMAIN short AS varchar(3)", "CREATE TABLE t (id integer PRIMARY KEY, name short CHECK (name <> 'no'))"
    )
    sink = open_sink(Table(postgresql.url, "t", key="id"))
    rows = [{"id": 1, "name": "abcd"}, {"id": 2, "name": "no"}, *({"id": n, "name": "abc"} for n in range(3, 30))]
    sink.prepare(rows, pa.schema([]))
    refused = written(sink, rows, [range(len(rows))])
    assert {place: kind for place, (kind, _) in refused.items()} == {
        0: "StringDataRightTruncation",
        1: "CheckViolation",
    }
    assert postgresql.rows("SELECT * FROM t ORDER BY id") == [(n, "abc") for n in range(3, 30)]


def test_what_a_trigger_raises_is_told_as_it_said_it(postgresql):
    postgresql.run(
        "CREATE TABLE t (id integer PRIMARY KEY, n integer)",
        """CREATE FUNCTION no_sevens() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.n = 7 THEN RAISE EXCEPTION 'no sevens' USING DETAIL = 'seven', HINT = 'take eight'; END IF;
             RETURN NEW; END $$""",
        "CREATE TRIGGER no_sevens BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no_sevens()",
    )
    sink = open_sink(Table(postgresql.url, "t", key="id"))
    rows = [{"id": n, "n": n} for n in range(20)]
    sink.prepare(rows, pa.schema([]))
    refused = written(sink, rows, [range(20)])
    assert refused == {7: ("RaiseException", "no sevens\nDETAIL:  seven\nHINT:  take eight")}


def test_a_trigger_that_ends_the_transaction_fails_the_chunk(sqlite):
    sqlite.run(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n <> 1))",
        "CREATE TRIGGER no_sevens BEFORE INSERT ON t WHEN NEW.n = 7 BEGIN SELECT RAISE(ROLLBACK, 'no sevens'); END",
    )
    sink = open_sink(Table(sqlite.url, "t", key="id"))
    rows = [{"id": n, "n": n} for n in range(20)]
    sink.prepare(rows, pa.schema([]))
    with pytest.raises(BadSink, match="ended the chunk's transaction over one record: no sevens; does a trigger roll"):
        written(sink, rows, [range(20)])
    assert sqlite.rows("SELECT count(*) FROM t") == [(0,)]


def test_a_cancelled_statement_fails_the_chunk(postgresql, monkeypatch):
    """The server's time limit for statements is no record's fault."""
    postgresql.run(
        "CREATE TABLE t (id integer PRIMARY KEY, n integer CHECK (n <> 1))",
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=500")
    sink = open_sink(Table(postgresql.url, "t", key="id"))
    rows = [{"id": n, "n": n} for n in range(100)]
    sink.prepare(rows, pa.schema([]))
    with pytest.raises(Exception, match="statement timeout"):
        written(sink, rows, [range(100)])
    assert postgresql.rows("SELECT count(*) FROM t") == [(0,)]


def test_without_the_right_to_temporary_tables_rows_are_looked_for_as_elsewhere(postgresql):
    name = postgresql.url.rpartition("/")[2]
    user = f"poor_{name}"
    postgresql.run(
        "CREATE TABLE t (id integer PRIMARY KEY, n integer CHECK (n <> 7))",
        f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
        f"CREATE ROLE {user} LOGIN",
        f"GRANT SELECT, INSERT, UPDATE ON t TO {user}",
    )
    try:
        host = postgresql.url.partition("@")[2] or postgresql.url.partition("://")[2]
        sink = open_sink(Table(f"postgresql://{user}@{host}", "t", key="id", write="insert"))
        rows = [{"id": n, "n": n} for n in range(20)]
        sink.prepare(rows, pa.schema([]))
        assert {place: kind for place, (kind, _) in written(sink, rows, [range(20)]).items()} == {7: "CheckViolation"}
        assert postgresql.rows("SELECT count(*) FROM t") == [(19,)]
    finally:
        close_engines()
        postgresql.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")
