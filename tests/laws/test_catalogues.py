"""Law 3 of exactness: where a chunk cannot be done twice is refused before the first record, by the catalogue."""

import pytest

from prefect_batch import Query, Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadSink, BadSource
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink, open_source

MODES = ["upsert", "insert", "update"]


def check(database, write="upsert", key="id", name="dst"):
    return open_sink(Table(database.url, name, key=key, write=write)).check(None)


def written(database, records, write="upsert", key="id", name="dst"):
    """Write the records in one chunk, as a run does."""
    sink = open_sink(Table(database.url, name, key=key, write=write))
    sink.prepare(records, None)
    with sink.transaction(PassRef("test", 1, "x"), ChunkRange(None, (1,))) as transaction:
        transaction.write(records)
        transaction.commit()


def of_kind(kind):
    """Only on this database."""
    return pytest.mark.parametrize("database", [kind], indirect=True)


# Each with what would make two rows of one key, or of two keys one row.
NOT_UNIQUE = {
    "postgresql": [
        ("CREATE UNIQUE INDEX u ON dst (id) WHERE v > 0", "u has a condition"),
        ("CREATE UNIQUE INDEX u ON dst (abs(id))", "no primary key or unique index"),
        ("CREATE INDEX u ON dst (id)", "no primary key or unique index"),
        ("CREATE UNIQUE INDEX u ON dst (id, v)", "no primary key or unique index"),
    ],
    "mariadb": [
        ("CREATE UNIQUE INDEX u ON dst (id, v)", "no primary key or unique index"),
        ("CREATE INDEX u ON dst (id)", "no primary key or unique index"),
    ],
    "sqlite": [
        ("CREATE UNIQUE INDEX u ON dst (id) WHERE v > 0", "u has a condition"),
        ("CREATE UNIQUE INDEX u ON dst (abs(id))", "no primary key or unique index"),
        ("CREATE UNIQUE INDEX u ON dst (id, v)", "no primary key or unique index"),
    ],
}


@pytest.mark.parametrize("write", MODES)
def test_only_an_index_that_tells_every_two_keys_apart_makes_a_key(database, write):
    for statement, reason in NOT_UNIQUE[database.kind]:
        database.run("DROP TABLE IF EXISTS dst", "CREATE TABLE dst (id INTEGER NOT NULL, v INTEGER)", statement)
        with pytest.raises(BadSink, match=reason):
            check(database, write)
        database.run("CREATE UNIQUE INDEX good ON dst (id)")
        assert check(database, write) == []


@of_kind("postgresql")
def test_deferrable_invalid_and_otherwise_collated_indexes(database):
    database.run("CREATE TABLE dst (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int)")
    with pytest.raises(BadSink, match="dst_pkey is deferrable, which ON CONFLICT does not support"):
        check(database)
    assert check(database, "insert") == []
    database.run("CREATE UNIQUE INDEX good ON dst (id)")
    assert check(database) == []
    database.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'good'::regclass")
    with pytest.raises(BadSink, match="good is not valid: REINDEX it"):
        check(database)
    database.run(
        "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "CREATE TABLE texts (id text COLLATE loose)",
        'CREATE UNIQUE INDEX strict ON texts (id COLLATE "C")',
    )
    try:
        with pytest.raises(BadSink, match="strict compares text by another collation than its column"):
            check(database, name="texts")
        database.run("CREATE UNIQUE INDEX also ON texts (id)")
        check(database, name="texts")
    finally:
        database.run("DROP TABLE texts", "DROP COLLATION loose")


@of_kind("postgresql")
def test_tables_that_are_none(database):
    database.run(
        "CREATE TABLE dst (id int PRIMARY KEY, v int)",
        "CREATE TABLE part (CHECK (id > 10)) INHERITS (dst)",
        "CREATE VIEW seen AS SELECT * FROM dst",
        "CREATE UNLOGGED TABLE quick (id int PRIMARY KEY)",
        "CREATE TABLE ruled (id int PRIMARY KEY, v int)",
        "CREATE RULE quiet AS ON UPDATE TO ruled WHERE NEW.v < 0 DO INSTEAD NOTHING",
    )
    try:
        with pytest.raises(BadSink, match="does not cover the tables that inherit from it"):
            check(database)
        with pytest.raises(BadSink, match="view without an INSTEAD OF INSERT trigger"):
            check(database, "append", name="seen")
        assert "a crash of the server empties it" in check(database, name="quick")[0]
        with pytest.raises(BadSink, match="ruled cannot be written: INSERT with ON CONFLICT"):
            check(database, name="ruled")
    finally:
        database.run("DROP VIEW seen", "DROP TABLE part")


@of_kind("mariadb")
def test_a_prefix_is_not_a_key(database):
    database.run("CREATE TABLE dst (id TEXT NOT NULL, v INT, UNIQUE KEY u (id(20)))")
    for write in MODES:
        with pytest.raises(BadSink, match="u compares only the first 20 characters of id"):
            check(database, write)
    database.run("ALTER TABLE dst ADD UNIQUE KEY good (id)")
    # ON DUPLICATE KEY would take another row for this one, by the prefix: the record is refused instead.
    texts = [f"https://example.com/{n}" for n in range(2)]
    with pytest.raises(Exception, match="Duplicate entry"):
        written(database, [{"id": one, "v": 1} for one in texts])


@of_kind("mariadb")
@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
@pytest.mark.parametrize("write", [*MODES, "append"])
def test_engines_that_cannot_undo(database, engine, write):
    database.run(f"CREATE TABLE dst (id INT PRIMARY KEY, v INT) ENGINE={engine}")
    with pytest.raises(BadSink, match=f"table dst is in the engine {engine}, which cannot undo"):
        check(database, write)


@of_kind("mariadb")
def test_engines_that_triggers_views_and_routines_reach(database):
    database.run(
        "CREATE TABLE dst (id INT PRIMARY KEY, v INT, noted INT)",
        "CREATE TABLE middle (id INT PRIMARY KEY)",
        "CREATE TABLE noted (id INT) ENGINE=MyISAM",
        "CREATE PROCEDURE note(n INT) INSERT INTO noted VALUES (n)",
        # Neither a comment, nor text, nor a column of the row is a table.
        "CREATE TRIGGER harmless BEFORE INSERT ON dst FOR EACH ROW SET NEW.noted = length('noted') /* noted */",
    )
    try:
        assert check(database) == []
        database.run("CREATE TRIGGER first AFTER INSERT ON dst FOR EACH ROW INSERT IGNORE INTO middle VALUES (NEW.id)")
        assert check(database) == []
        database.run("CREATE TRIGGER second AFTER INSERT ON middle FOR EACH ROW CALL note(NEW.id)")
        with pytest.raises(BadSink, match="dst has the trigger second that names noted, which is in the engine MyISAM"):
            check(database)
        database.run("CREATE OR REPLACE VIEW seen AS SELECT * FROM noted")
        with pytest.raises(BadSink, match="seen is a view of noted, which is in the engine MyISAM"):
            check(database, "append", key=[], name="seen")
    finally:
        database.run("DROP VIEW IF EXISTS seen", "DROP PROCEDURE note")


@of_kind("mariadb")
def test_a_table_or_ledger_that_is_made_in_such_an_engine_is_refused(database, monkeypatch):
    from prefect_batch.blocks.databases.connections import open_engine

    with open_engine(database.url).connect() as connection:
        connection.exec_driver_sql("SET SESSION default_storage_engine = MyISAM")  # It goes back to the pool.
    sink = open_sink(Table(database.url, "dst", key="id", create=True))
    with pytest.raises(BadSink, match="table dst is in the engine MyISAM"):
        sink.prepare([{"id": 1}], pa_schema())
    with pytest.raises(BadSink, match="table prefect_batch_chunks is in the engine MyISAM"):
        open_sink(Table(database.url, "dst2", key="id", create=True, write="append")).check(None)


def pa_schema():
    import pyarrow as pa

    return pa.schema([("id", pa.int64())])


@of_kind("mariadb")
def test_key_0_stays_0(database):
    database.run("CREATE TABLE dst (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")
    for _ in range(3):
        written(database, [{"id": n, "v": n} for n in range(3)])
    assert database.rows("SELECT * FROM dst ORDER BY id") == [(0, 0), (1, 1), (2, 2)]


@of_kind("sqlite")
@pytest.mark.parametrize("action", ["REPLACE", "IGNORE", "ROLLBACK", "FAIL", "ABORT"])
def test_what_a_table_does_by_itself_on_a_conflict(database, action):
    database.run(f"CREATE TABLE dst (id INTEGER PRIMARY KEY, v TEXT UNIQUE ON\n conflict {action.lower()})")
    for write in [*MODES, "append"]:
        if action == "ABORT":
            assert check(database, write) == []  # What every other table does.
            continue
        with pytest.raises(BadSink, match=f"table dst is declared with ON CONFLICT {action}"):
            check(database, write)


@of_kind("sqlite")
def test_words_in_comments_and_names_are_no_clause(database):
    database.run(
        "CREATE TABLE dst (id INTEGER PRIMARY KEY, -- ON CONFLICT REPLACE\n"
        "  v TEXT DEFAULT 'ON CONFLICT REPLACE', \"ON CONFLICT IGNORE\" TEXT)"
    )
    assert check(database) == []


@of_kind("sqlite")
def test_an_index_of_another_collation_is_no_key_in_sqlite(database):
    database.run("CREATE TABLE dst (id TEXT, v INT)", "CREATE UNIQUE INDEX u ON dst (id COLLATE NOCASE)")
    with pytest.raises(BadSink, match="u compares text by another collation than its column"):
        check(database)
    database.run("CREATE UNIQUE INDEX good ON dst (id)")
    assert check(database) == []


KEYS = {
    "mariadb": ["SET('z','b','a')", "BIT(10)", "ENUM('z','a')", "POINT", "FLOAT"],
    "postgresql": ["json", "jsonb", "xml", "point", "float8"],
    "sqlite": [],
}


@pytest.mark.filterwarnings("ignore:Did not recognize type")
def test_keys_without_an_order_that_agrees_with_comparison_are_refused_by_name(database):
    for kind in KEYS[database.kind]:
        database.run("DROP TABLE IF EXISTS src", f"CREATE TABLE src (k {kind} NOT NULL, v INT)")
        for source in (
            Table(database.url, "src", key="k"),
            Query(database.url, "SELECT k, v FROM src WHERE v IS NOT NULL", key="k"),
        ):
            with pytest.raises(BadSource, match="key column k "):
                open_source(source).check()
