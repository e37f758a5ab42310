"""A pass from the beginning never writes a second time, without a word, what an unfinished pass has committed."""

import pytest

from prefect_batch import AlreadyWritten, Table, dead_letters, process_records
from prefect_batch.flows.operations.reset import reset_job

pytestmark = pytest.mark.usefixtures("server")


def some(record):
    if record["id"] % 100 == 7:
        raise ValueError("seven")
    return {"id": record["id"], "v": record["v"] + 1}


@pytest.fixture
def numbers(sqlite):
    sqlite.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, v INTEGER)",
        "CREATE TABLE out (id INTEGER, v INTEGER)",
    )
    sqlite.many("INSERT INTO numbers VALUES (:id, 0)", [{"id": n} for n in range(400)])
    return sqlite


@pytest.fixture
def run(numbers, job, tmp_path):
    def call(name="out", **parameters):
        write = parameters.pop("write", "append")
        return process_records(
            job=job,
            source=Table(numbers.url, "numbers", key="id"),
            process=some,
            sink=Table(numbers.url, name, key="id", write=write, ledger=parameters.pop("ledger", True)),
            chunk_size=100,
            workers="threads",
            dead_letters=str(tmp_path / "letters"),
            **parameters,
        )

    return call


def count(database):
    return database.rows("SELECT count(*), count(DISTINCT id) FROM out")[0]


def test_rows_that_are_only_added(run, numbers, job):
    run(limit=200)
    with pytest.raises(AlreadyWritten, match=r"table out has 198 rows of the unfinished pass of .*write_again=True"):
        run(restart=True)
    assert (count(numbers), len(dead_letters(job))) == ((198, 198), 2)
    reset_job(job)
    with pytest.raises(AlreadyWritten) as caught:
        run()
    assert caught.value.rows == 198
    run(write_again=True)
    assert count(numbers) == (198 + 396, 396)


def test_a_sink_that_was_emptied(run, numbers):
    run(limit=200)
    numbers.run("DELETE FROM out")
    run(restart=True)
    assert count(numbers) == (396, 396)


def test_without_a_ledger_the_cursor_knows(run, numbers):
    run(limit=200, ledger=False)
    with pytest.raises(AlreadyWritten, match="has 198 rows"):
        run(restart=True, ledger=False)
    assert count(numbers) == (198, 198)


def test_records_that_are_changed_in_place(run, numbers):
    run("numbers", write="update", limit=200)
    with pytest.raises(AlreadyWritten, match="table numbers has 198 rows"):
        run("numbers", write="update", restart=True)
    run("numbers", write="update")
    assert numbers.rows("SELECT v, count(*) FROM numbers GROUP BY v") == [(0, 4), (1, 396)]


def test_what_is_written_by_key_may_begin_again(run, numbers):
    numbers.run("CREATE UNIQUE INDEX out_key ON out (id)")
    run(write="upsert", limit=200)
    run(write="upsert", restart=True)
    assert count(numbers) == (396, 396)
