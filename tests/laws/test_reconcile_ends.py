"""Reconciling compares what an end can show: keys of files by their manifest, and of a job in place its letters."""

import pytest

from prefect_batch import Files, Table, complete_files, process_records, reconcile, replay_dead_letters

pytestmark = pytest.mark.usefixtures("server")


def some(record):
    if record["id"] % 100 == 7:
        raise ValueError("seven")
    return None if record["id"] % 10 == 3 else {"id": record["id"], "v": record["v"] + 5}


@pytest.fixture
def run(sqlite, job, tmp_path):
    sqlite.run("CREATE TABLE numbers (id INTEGER PRIMARY KEY, v INTEGER)")
    sqlite.many("INSERT INTO numbers VALUES (:id, 0)", [{"id": n} for n in range(400)])

    def call(sink, where=None, **parameters):
        source = Table(sqlite.url, "numbers", key="id", where=where)
        options = {"chunk_size": 100, "workers": "threads", "dead_letters": str(tmp_path / "letters"), **parameters}
        return process_records(job=job, source=source, process=some, sink=sink, **options)

    return call


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_files_are_compared_by_their_manifest_and_keys(run, job, tmp_path, form):
    place = str(tmp_path / "out")
    run(Files(place, form))
    found = reconcile(job)
    assert (found.status, found.source_keys, found.sink_keys, found.filtered, found.open) == ("agrees", 400, 356, 40, 4)
    replay_dead_letters(job, process=dict)
    found = reconcile(job)
    assert (found.status, found.sink_keys, found.resolved, found.doubts) == ("agrees", 360, 4, ())
    (tmp_path / "out" / complete_files(place)[0].rpartition("/")[2]).unlink()
    found = reconcile(job, repair=False)
    assert (found.status, found.missing) == ("differs", 89)
    assert "have 271 rows, and by their manifest 360 were written" in str(found)


def test_files_with_more_than_the_source_has(run, sqlite, job, tmp_path):
    run(Files(str(tmp_path / "out"), "parquet"))
    sqlite.run("DELETE FROM numbers WHERE id IN (1, 2)")
    found = reconcile(job)
    assert (found.status, found.surplus, found.missing) == ("differs", 2, 0)
    assert set(found.differences[0].surplus_keys) == {"1", "2"}


@pytest.mark.parametrize("where", [None, "v < 5"])
def test_a_job_in_place_is_compared_by_its_letters_and_repaired_never(run, sqlite, job, where):
    run(Table(sqlite.url, "numbers", key="id", write="update"), where)
    found = reconcile(job, repair=True)
    assert (found.status, found.repaired) == ("agrees", 0)
    assert "agrees: 400 read: 356 written, 40 filtered, 4 in open letters" in str(found)
    assert sqlite.rows("SELECT v, count(*) FROM numbers GROUP BY v ORDER BY v") == [(0, 44), (5, 356)]


def test_a_job_in_place_that_has_lost_letters_is_said_to_have(run, sqlite, job, tmp_path):
    run(Table(sqlite.url, "numbers", key="id", write="update"))
    next((tmp_path / "letters" / job / "pass-000001").glob("*.parquet")).unlink()
    found = reconcile(job)
    assert found.status == "could not verify"
    assert "4 records have failed, and there are 3 letters" in str(found)


def test_a_source_that_was_emptied_is_not_taken_for_an_empty_one(run, sqlite, job):
    sqlite.run("CREATE TABLE out (id INTEGER PRIMARY KEY, v INTEGER)")
    run(Table(sqlite.url, "out", key="id"))
    sqlite.run("DELETE FROM numbers")
    text = str(reconcile(job))
    assert "0 in the source" not in text
    assert "the source has none of the 400 records any more" in text


def test_files_of_a_pass_that_is_not_complete_are_not_there_yet(run, job, tmp_path):
    run(Files(str(tmp_path / "out"), "parquet"), limit=200)
    found = reconcile(job)
    assert found.status == "could not verify"
    assert "0 in the source" not in str(found)
    assert "has none of its files before it is" in str(found)
