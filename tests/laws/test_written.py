"""Law 2 of exactness: written means that the database did it."""

import uuid

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_batch import Table, dead_letters, process_records, reconcile
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.connections import close_engines
from prefect_batch.blocks.errors import KeyCollides, RowNotFound, RowSkipped, TooManyRows
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import ItemRows, ItemTable

QUIET = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def of_kinds(*kinds):
    """Only on these databases."""
    return pytest.mark.parametrize("database", kinds, indirect=True)


def write(sink, records, as_table=False):
    """Write the records in one chunk as a run does, and return the records that were refused, by place."""
    sink.prepare(records, pa.schema([]))
    import numpy as np

    outputs = (
        ItemTable(pa.Table.from_pylist(records), np.arange(len(records)))
        if as_table
        else ItemRows([*range(len(records))], records)
    )
    with sink.transaction(PassRef("test", 1, "x"), ChunkRange(None, (1,))) as transaction:
        refused = isolate(transaction, outputs)
        transaction.commit()
    return {
        (one.places if isinstance(one, ItemTable) else [item.index for item in one])[0]: error for one, error in refused
    }


def sink_of(database, mode="upsert", key="id", **options):
    return open_sink(Table(database.url, "dst", key=key, write=mode, **options))


# The database leaves out rows with v < 0, in a way that each of them has.
def skip_by_trigger(database):
    database.run("DROP TABLE IF EXISTS dst", "CREATE TABLE dst (id INTEGER PRIMARY KEY, v INTEGER)")
    if database.kind == "sqlite":
        for event in ("INSERT", "UPDATE"):
            database.run(
                f"CREATE TRIGGER skip_{event} BEFORE {event} ON dst WHEN NEW.v < 0 BEGIN SELECT RAISE(IGNORE); END"
            )
        return
    database.run(
        "CREATE OR REPLACE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.v < 0 THEN RETURN NULL; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER skip BEFORE INSERT OR UPDATE ON dst FOR EACH ROW EXECUTE FUNCTION skip()",
    )


@of_kinds("sqlite", "postgresql")
@pytest.mark.parametrize("mode", ["upsert", "insert", "update", "append"])
@pytest.mark.parametrize("as_table", [False, True], ids=["records", "table"])
def test_what_is_not_refused_is_in_the_table_and_what_is_refused_is_not(database, mode, as_table):
    """For any rows, those that are there before, and those that the database leaves out."""

    @QUIET
    @given(st.lists(st.integers(-9, 9).filter(bool), min_size=1, max_size=40), st.integers(0, 40))
    def law(values, count):
        skip_by_trigger(database)
        there = range(count) if mode in ("upsert", "update") else ()
        if there:
            database.run(f"INSERT INTO dst VALUES {', '.join(f'({n}, 99)' for n in there)}")
        records = [{"id": n, "v": v} for n, v in enumerate(values)]
        refused = write(sink_of(database, mode), records, as_table)
        expected = {n: RowSkipped for n, v in enumerate(values) if v < 0}
        if mode == "update":
            expected |= {n: RowNotFound for n in range(len(values)) if n not in there}
        assert {place: type(error) for place, error in refused.items()} == expected
        now = dict(database.rows("SELECT id, v FROM dst"))
        assert {n: v for n, v in now.items() if v != 99} == {n: v for n, v in enumerate(values) if n not in refused}
        assert len(now) == len(set(there) | ({*range(len(values))} - {*refused}))

    law()


@of_kinds("sqlite", "postgresql")
@pytest.mark.parametrize(
    ("mode", "key"), [("upsert", "id"), ("insert", "id"), ("append", "id"), ("append", [])], ids=str
)
def test_a_row_that_a_trigger_stores_elsewhere_in_the_table_is_written(database, request, mode, key):
    if database.kind == "postgresql":
        request.addfinalizer(lambda: database.run("DROP TABLE dst CASCADE"))
    if database.kind == "sqlite":
        database.run(
            "CREATE TABLE dst (id INTEGER PRIMARY KEY, v INTEGER)",
            "CREATE TRIGGER elsewhere BEFORE INSERT ON dst WHEN NEW.v <> 7 BEGIN "
            "INSERT OR REPLACE INTO dst VALUES (NEW.id, NEW.v); SELECT RAISE(IGNORE); END",
        )
    else:
        database.run(
            "CREATE TABLE dst (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
            "CREATE TABLE low PARTITION OF dst FOR VALUES FROM (0) TO (50)",
            "CREATE TABLE high PARTITION OF dst FOR VALUES FROM (1000) TO (2000)",
            "ALTER TABLE low ADD CHECK (v <> 7 OR id >= 0)",
            "CREATE OR REPLACE FUNCTION elsewhere() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.v = 7 THEN RETURN NEW; END IF; "
            "INSERT INTO low VALUES (NEW.id, 7) ON CONFLICT (id) DO UPDATE SET v = 7; "
            "UPDATE low SET v = NEW.v WHERE id = NEW.id; RETURN NULL; END $$",
            "CREATE TRIGGER elsewhere BEFORE INSERT ON low FOR EACH ROW EXECUTE FUNCTION elsewhere()",
        )
    records = [{"id": n, "v": n} for n in range(40)]
    assert write(sink_of(database, mode, key=key), records) == {}
    assert database.rows("SELECT id, v FROM dst ORDER BY id") == [(n, n) for n in range(40)]
    if mode == "upsert":
        assert write(sink_of(database), records) == {}  # A chunk may be done twice.


@of_kinds("sqlite", "postgresql")
@pytest.mark.parametrize("mode", ["upsert", "insert", "update", "append"])
def test_skipped_rows_may_be_filtered(database, mode):
    skip_by_trigger(database)
    if mode == "update":
        database.run(f"INSERT INTO dst VALUES {', '.join(f'({n}, 99)' for n in range(30))}")
    records = [{"id": n, "v": n if n % 3 else -1} for n in range(30)]
    refused = write(sink_of(database, mode, skipped="filtered"), records)
    assert sorted(refused) == [*range(0, 30, 3)]
    assert all(isinstance(error, RowSkipped) and error.on_purpose for error in refused.values())


@of_kinds("postgresql")
def test_what_a_trigger_does_for_a_filtered_row_stays(database):
    database.run(
        "CREATE TABLE dst (id int PRIMARY KEY, v int)",
        "CREATE TABLE noted (id int)",
        "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO noted VALUES (NEW.id); RETURN NULL; END $$",
        "CREATE TRIGGER note BEFORE INSERT ON dst FOR EACH ROW EXECUTE FUNCTION note()",
    )
    records = [{"id": n, "v": n} for n in range(20)]
    assert len(write(sink_of(database, skipped="filtered"), records)) == 20
    assert database.rows("SELECT id FROM noted ORDER BY id") == [(n,) for n in range(20)]
    assert len(write(sink_of(database), records)) == 20
    assert database.rows("SELECT count(*) FROM noted") == [(20,)]  # What a failed record did is undone.


@of_kinds("postgresql")
def test_rows_that_a_policy_hides_from_an_update(database):
    role = f"batch_{uuid.uuid4().hex[:8]}"
    database.run(
        "CREATE TABLE dst (id int PRIMARY KEY, v int)",
        "INSERT INTO dst SELECT n, -1 FROM generate_series(1, 100) n",
        "ALTER TABLE dst ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY s ON dst FOR SELECT USING (true)",
        "CREATE POLICY u ON dst FOR UPDATE USING (id <= 60)",
        "CREATE POLICY i ON dst FOR INSERT WITH CHECK (id <= 110)",
        f"CREATE ROLE {role}",
        f"GRANT ALL ON dst TO {role}",
    )
    as_role = f"{database.url}?options=-crole%3D{role}"
    try:
        sink = open_sink(Table(as_role, "dst", key="id", write="update"))
        refused = write(sink, [{"id": n, "v": n} for n in range(1, 101)])
        assert sorted(refused) == [*range(60, 100)]
        assert {type(error) for error in refused.values()} == {RowSkipped}
        assert database.rows("SELECT count(*) FROM dst WHERE v = id") == [(60,)]
        # And no COPY goes to a table with policies.
        sink = open_sink(Table(as_role, "dst", key="id", write="insert"))
        refused = write(sink, [{"id": n, "v": n} for n in range(101, 121)])
        assert sorted(refused) == [*range(10, 20)]
        assert database.rows("SELECT count(*) FROM dst") == [(110,)]
    finally:
        close_engines()
        database.run(f"REVOKE ALL ON dst FROM {role}", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@of_kinds("postgresql")
def test_rows_that_a_rule_leaves_out(database):
    database.run(
        "CREATE TABLE dst (id int PRIMARY KEY, v int)",
        "INSERT INTO dst SELECT n, 99 FROM generate_series(0, 29) n",
        "CREATE RULE quiet AS ON UPDATE TO dst WHERE NEW.v < 0 DO INSTEAD NOTHING",
    )
    refused = write(sink_of(database, "update"), [{"id": n, "v": n if n % 3 else -1} for n in range(30)])
    assert sorted(refused) == [*range(0, 30, 3)]
    assert {type(error) for error in refused.values()} == {RowSkipped}


def test_a_row_of_its_key_alone_is_written_whether_it_was_there_or_not(database):
    database.run("CREATE TABLE dst (id INTEGER PRIMARY KEY, v INTEGER)", "INSERT INTO dst VALUES (3, 3)")
    assert write(sink_of(database), [{"id": n} for n in range(40)]) == {}
    assert database.rows("SELECT count(*) FROM dst") == [(40,)]


def test_one_record_never_changes_two_rows(database, monkeypatch):
    """Even if the catalogue took the key for unique, as where an index is broken."""
    from prefect_batch.blocks.databases.target import Target

    monkeypatch.setattr(Target, "flaws", lambda _self, _write: [])
    monkeypatch.setattr(Target, "of_key", [True])
    database.run("CREATE TABLE dst (id INTEGER, v INTEGER)", "INSERT INTO dst VALUES (1, 0), (2, 0), (2, 0), (3, 0)")
    refused = write(sink_of(database, "update"), [{"id": n, "v": n} for n in (1, 2, 3)])
    assert {place: type(error) for place, error in refused.items()} == {1: TooManyRows}
    assert database.rows("SELECT id, v FROM dst ORDER BY id") == [(1, 1), (2, 0), (2, 0), (3, 3)]


@of_kinds("mariadb")
def test_a_key_of_another_type_finds_one_row_or_none(database):
    rows = [("5", 1), ("05", 2), ("5.0", 3), (" 5", 4), ("6", 5)]
    database.run(
        "CREATE TABLE dst (id VARCHAR(20) PRIMARY KEY, v INT)",
        f"INSERT INTO dst VALUES {', '.join(map(str, rows))}",
    )
    write(sink_of(database, "update"), [{"id": 5, "v": 500}])
    changed = [key for key, v in database.rows("SELECT id, v FROM dst") if v == 500]
    assert changed in ([], ["5"])


SPELLINGS = {
    "mariadb": ["VARCHAR(20)", "VARCHAR(20) COLLATE utf8mb4_bin"],
    "sqlite": ["TEXT COLLATE NOCASE", "TEXT COLLATE RTRIM"],
    "postgresql": ["citext", 'text COLLATE "loose"'],
}


@pytest.fixture
def loose(database):
    if database.kind == "postgresql":
        database.run(
            "CREATE EXTENSION IF NOT EXISTS citext",
            "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        )
    yield database
    if database.kind == "postgresql":
        database.run("DROP TABLE IF EXISTS dst", "DROP COLLATION loose")


@pytest.mark.filterwarnings("ignore:Did not recognize type")
@pytest.mark.parametrize("mode", ["upsert", "update"])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
def test_keys_that_the_sink_takes_for_one_are_refused_and_not_merged(loose, mode, place, together):
    database = loose
    kind = SPELLINGS[database.kind][place]
    database.run("DROP TABLE IF EXISTS dst", f"CREATE TABLE dst (id {kind} NOT NULL PRIMARY KEY, v INTEGER)")
    sink = sink_of(database, mode)
    assert "takes different texts in id for the same key" in sink.check(None)[0]
    if mode == "update":
        database.run("INSERT INTO dst VALUES ('a', 0), ('b', 0)")
    spelled = {0: ["a", "A", "b"], 1: ["a", "a ", "b"]}[place if database.kind != "postgresql" else 0]
    records = [{"id": key, "v": n} for n, key in enumerate(spelled, 1)]
    batches = [records] if together else [[record] for record in records]
    refused = [error for batch in batches for error in write(sink, batch).values()]
    assert [type(error) for error in refused] == [KeyCollides]
    assert sorted(database.rows("SELECT id, v FROM dst")) == [("a", 1), ("b", 3)]
    assert [error for batch in batches for error in write(sink, batch).values()] != []  # Done twice, the same.
    assert sorted(database.rows("SELECT id, v FROM dst")) == [("a", 1), ("b", 3)]


@pytest.mark.usefixtures("server")
@of_kinds("postgresql")
@pytest.mark.parametrize("skipped", ["failed", "filtered"])
def test_a_run_counts_what_the_database_left_out(database, job, tmp_path, skipped):
    skip_by_trigger(database)
    database.run("CREATE TABLE src (id int PRIMARY KEY, v int)")
    database.run("INSERT INTO src SELECT n, CASE WHEN mod(n, 10) = 0 THEN -n ELSE n END FROM generate_series(1, 100) n")
    source, sink = Table(database.url, "src", key="id"), Table(database.url, "dst", key="id", skipped=skipped)
    report = process_records(job, source, dict, sink, max_failure_rate=1, dead_letters=str(tmp_path / "letters"))
    run = report.run
    assert (run.read, run.written, run.filtered + run.failed) == (100, 90, 10)
    assert {"failed": run.failed, "filtered": run.filtered}[skipped] == 10
    letters = dead_letters(job)
    assert len(letters) == run.failed
    if skipped == "failed":
        assert set(letters["stage"]) == {"write"}
        assert all("the database skipped it" in message for message in letters["error_message"])
    assert reconcile(job).status == "agrees"
