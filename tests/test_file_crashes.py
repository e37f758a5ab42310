"""kill -9 at every step of a job that reads or writes files: a plain second call ends as if nothing had happened."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from prefect_batch import complete_files, dead_letters, status
from prefect_batch.blocks.letters.record_json import decode_record
from tests import crash_job
from tests.test_crashes import forks, importable, killed  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("server", "importable")


@pytest.fixture
def database(sqlite):
    sqlite.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, n INTEGER)",
        "CREATE TABLE out (id INTEGER PRIMARY KEY, doubled INTEGER CHECK (doubled >= 0))",
    )
    sqlite.many("INSERT INTO numbers VALUES (:id, :id)", [{"id": n} for n in range(crash_job.ROWS)])
    return sqlite


def written(place, form):
    files = complete_files(place, verify=True)
    assert {str(path) for path in Path(place).iterdir()} == {*files, f"{place}/_manifest.json"}
    if form == "jsonl":
        return [tuple(json.loads(line).values()) for file in files for line in Path(file).read_text().splitlines()]
    read = pq.read_table if form == "parquet" else pacsv.read_csv
    return [tuple(row.values()) for file in files for row in read(file).to_pylist()]


def check(job):
    letters = dead_letters(job)
    assert sorted(decode_record(text)["n"] for text in letters["record_json"]) == sorted(crash_job.FAILING)
    found = status(job)
    assert found.status == "complete"
    tally = found.tally
    assert (tally.read, tally.written, tally.failed) == (
        crash_job.ROWS,
        len(crash_job.EXPECTED),
        len(crash_job.FAILING),
    )


STEPS = (*crash_job.STEPS, "before end of pass", "before move", "after move", "after end of pass")


@pytest.mark.parametrize("step", STEPS)
def test_a_table_into_parquet(database, killed, job, tmp_path, step):  # noqa: F811
    arguments = (job, str(tmp_path / "letters"), "parquet", 2)
    killed(database, *arguments, step, nth=1 if step.endswith(("end of pass", "move")) else 4)
    crash_job.run(database.url, *arguments)
    assert written(f"{tmp_path}/letters-parquet", "parquet") == crash_job.EXPECTED
    check(job)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_table_into_text(database, killed, job, tmp_path, form):  # noqa: F811
    arguments = (job, str(tmp_path / "letters"), form, 2)
    killed(database, *arguments, "after commit", nth=3)
    killed(database, *arguments, "after move", nth=1)
    crash_job.run(database.url, *arguments)
    assert written(f"{tmp_path}/letters-{form}", form) == crash_job.EXPECTED
    check(job)


def test_a_second_pass_killed_leaves_the_first_to_readers(database, killed, job, tmp_path):  # noqa: F811
    arguments, place = (job, str(tmp_path / "letters"), "parquet", 2), f"{tmp_path}/letters-parquet"
    crash_job.run(database.url, *arguments)
    first = complete_files(place, verify=True)
    for step, nth in (("after commit", 3), ("before move", 1), ("before move", 2)):
        killed(database, *arguments, step, nth=nth)
        assert complete_files(place, verify=True) == first
    crash_job.run(database.url, *arguments)
    assert set(complete_files(place)).isdisjoint(first)
    assert written(place, "parquet") == crash_job.EXPECTED
    check(job)


def numbers_file(form, directory):
    """The numbers as a file; of Parquet several row groups."""
    rows, path = [{"id": n, "n": n} for n in range(crash_job.ROWS)], directory / f"numbers.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=70)
    elif form == "csv":
        path.write_text("id,n\r\n" + "".join(f'{row["id"]},"{row["n"]}"\r\n' for row in rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class At:
    """The database and the file of a job."""

    def __init__(self, database, path):
        self.url = f"{database.url}|{path}"


@pytest.mark.parametrize(
    ("form", "step", "nth"), [("csv", "after plan", 2), ("jsonl", "before commit", 4), ("parquet", "after commit", 3)]
)
def test_files_into_a_table(database, killed, job, tmp_path, form, step, nth):  # noqa: F811
    at, arguments = At(database, numbers_file(form, tmp_path)), (job, str(tmp_path / "letters"), "upsert", 2)
    killed(at, *arguments, step, nth=nth)
    crash_job.run(at.url, *arguments)
    assert database.rows("SELECT id, doubled FROM out ORDER BY id") == crash_job.EXPECTED
    check(job)


@pytest.mark.parametrize(("form", "into"), [("csv", "parquet"), ("parquet", "jsonl"), ("jsonl", "csv")])
def test_files_into_files(database, killed, job, tmp_path, form, into):  # noqa: F811
    at, arguments = At(database, numbers_file(form, tmp_path)), (job, str(tmp_path / "letters"), into, 2)
    killed(at, *arguments, "before advance", nth=3)
    killed(at, *arguments, "before move", nth=1)
    crash_job.run(at.url, *arguments)
    assert written(f"{tmp_path}/letters-{into}", into) == crash_job.EXPECTED
    check(job)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_files_into_postgresql(postgresql, killed, job, tmp_path, form):  # noqa: F811
    postgresql.run("CREATE TABLE out (id INTEGER PRIMARY KEY, doubled INTEGER CHECK (doubled >= 0))")
    at, arguments = At(postgresql, numbers_file(form, tmp_path)), (job, str(tmp_path / "letters"), "upsert", 2)
    killed(at, *arguments, "after commit", nth=3)
    crash_job.run(at.url, *arguments)
    assert postgresql.rows("SELECT id, doubled FROM out ORDER BY id") == crash_job.EXPECTED
    check(job)
