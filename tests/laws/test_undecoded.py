"""A value that the driver cannot decode costs its record, and no other one."""

import pytest

from prefect_batch import Query, Table
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.opening import open_source
from tests.laws.chunks import FORMS, OneChunk

# For each database: columns, and the literals of values that Python does not have.
BAD = {
    "postgresql": [
        ("timestamptz", "'infinity'"),
        ("timestamp", "'-infinity'"),
        ("date", "'0044-03-15 BC'"),
        ("date", "'10000-01-01'"),
        ("time", "'24:00'"),
        ("timetz", "'24:00+02'"),
        ("interval", "'1000000000 days'"),
        ("date[]", "'{infinity}'"),
        ("daterange", "'[2024-01-01,infinity)'"),
    ],
    "mariadb": [("DATE", "'0000-00-00'"), ("DATETIME", "'2024-02-30 01:02:03'"), ("DATE", "'2024-00-05'")],
    "sqlite": [("TEXT", "CAST(x'61e9' AS TEXT)"), ("VARCHAR(9)", "CAST(x'ff' AS TEXT)")],
}


def make(database, column, bad, rows=9, at=4):
    database.run("DROP TABLE IF EXISTS src", "DROP TABLE IF EXISTS dst")
    relaxed = ["SET sql_mode = 'ALLOW_INVALID_DATES'"] if database.kind == "mariadb" else []
    inserts = [f"INSERT INTO src VALUES ({n}, {bad if n == at else 'NULL'}, {n * 2})" for n in range(rows)]
    database.run(
        *relaxed,
        f"CREATE TABLE src (id INTEGER PRIMARY KEY, x {column}, n INTEGER)",
        *inserts,
        "CREATE TABLE dst (id INTEGER PRIMARY KEY, x VARCHAR(50), n INTEGER)",
    )


@pytest.mark.parametrize("form", FORMS)
def test_it_is_a_letter_of_stage_read_and_all_others_arrive(database, tmp_path, form):
    source, sink = Table(database.url, "src", key="id"), Table(database.url, "dst", key="id")
    for column, bad in BAD[database.kind]:
        make(database, column, bad)
        job = OneChunk(tmp_path, source, sink, batch_rows=3)
        tally = job.run(FORMS[form])
        assert (tally.read, tally.written, tally.failed) == (9, 8, 1), column
        assert [n for (n,) in database.rows("SELECT id FROM dst ORDER BY id")] == [0, 1, 2, 3, 5, 6, 7, 8]
        (letter,) = job.letters()
        assert (letter["stage"], letter["key"]) == ("read", "[4]")
        shown = str(letter["decoded"]["x"])
        assert f"column x is {shown}" in letter["error_message"]
        assert "columns=" in letter["error_message"]
        assert letter["decoded"]["n"] == 8
        assert letter["error_type"].endswith("UnreadableRecord")


@pytest.mark.parametrize("records", ["letter", "source"])
def test_a_replay_of_its_letter_fails_again_and_says_why(database, tmp_path, records):
    make(database, *BAD[database.kind][0])
    job = OneChunk(tmp_path, Table(database.url, "src", key="id"), Table(database.url, "dst", key="id"))
    job.run(FORMS["record"])
    assert job.replay(FORMS["record"], records).failed == 1
    (letter,) = job.letters()
    assert ("from_='source'" if records == "letter" else "column x is") in letter["error_message"]


@pytest.mark.parametrize("form", ["record", "table"])
def test_a_column_that_is_left_out_or_cast_does_no_harm(database, tmp_path, form):
    column, bad = BAD[database.kind][0]
    make(database, column, bad)
    sink = Table(database.url, "dst", key="id")
    cast = {"sqlite": "hex(x)", "mariadb": "CAST(x AS char(30))", "postgresql": "x::text"}[database.kind]
    for source in (
        Table(database.url, "src", key="id", columns=["n"]),
        Query(database.url, f"SELECT id, {cast} AS x, n FROM src", key="id"),
    ):
        tally = OneChunk(tmp_path, source, sink).run(FORMS[form])
        assert (tally.read, tally.written) == (9, 9)


def test_a_key_that_the_driver_cannot_decode_is_refused(postgresql):
    postgresql.run("CREATE TABLE src (d date PRIMARY KEY)", "INSERT INTO src VALUES ('2024-01-01'), ('infinity')")
    with pytest.raises(BadSource, match=r"has a key that the driver cannot make a Python value of.*infinity"):
        open_source(Table(postgresql.url, "src", key="d")).last_key()


def test_intervals_with_months_are_exact(postgresql, tmp_path):
    texts = ["1 year 2 mons -3 days -04:05:06.7", "-1 mons", "1 day 02:00:00", "-1 years -1 mons +1 day", "00:00:00"]
    values = ", ".join(f"({n}, '{text}')" for n, text in enumerate(texts))
    postgresql.run(
        "CREATE TABLE src (id int PRIMARY KEY, x interval)",
        f"INSERT INTO src VALUES {values}",
        "CREATE TABLE dst (id int PRIMARY KEY, x interval)",
    )
    job = OneChunk(tmp_path, Table(postgresql.url, "src", key="id"), Table(postgresql.url, "dst", key="id"))
    assert job.run(FORMS["record"]).written == len(texts)
    differ = "SELECT s.x::text, d.x::text FROM src s JOIN dst d USING (id) WHERE s.x::text <> d.x::text"
    assert postgresql.rows(differ) == []
    postgresql.run("TRUNCATE dst")
    tally = job.run(FORMS["table"])  # A column of durations has no months.
    assert (tally.written, tally.failed) == (2, 3)
    assert postgresql.rows(differ) == []
