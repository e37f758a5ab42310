"""kill -9 at every step of a job over files: the sink and the letters are those of an undisturbed run."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefect_batch import dead_letters, status
from prefect_batch.blocks.letters.record_json import decode_record
from tests import crash_job
from tests.test_crashes import forks, importable, killed  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("server")

# Before the numbers of these lines stands one that cannot be read.
UNREADABLE = range(0, crash_job.ROWS, 57)
BAD = {"csv": b'1,2,"3\n4"\r\n', "jsonl": b'{"id": 1, "n": "one"}\n'}


@pytest.fixture
def out(sqlite):
    sqlite.run("CREATE TABLE out (id INTEGER PRIMARY KEY, doubled INTEGER CHECK (doubled >= 0))")
    return sqlite


def write(directory, form):
    """The numbers in two files, the first ones in the larger."""
    directory.mkdir()
    for name, numbers in (("a", range(300)), ("b", range(300, crash_job.ROWS))):
        path = directory / f"{name}.{form}"
        if form == "parquet":
            pq.write_table(pa.table({"id": list(numbers), "n": list(numbers)}), path, row_group_size=70)
            continue
        lines = [b"id,n\n"] if form == "csv" else []
        for n in numbers:
            lines += [BAD[form]] if n in UNREADABLE else []
            lines.append(f'{n},"{n}"\n'.encode() if form == "csv" else json.dumps({"id": n, "n": n}).encode() + b"\n")
        path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("form", "step"),
    [
        *(("csv", step) for step in ("after plan", "mid batch", "after bury", "after commit", "before complete")),
        *((form, "before advance") for form in ("jsonl", "parquet")),
    ],
)
def test_a_killed_job_over_files_ends_as_an_undisturbed_one(out, killed, job, tmp_path, form, step):  # noqa: F811
    write(tmp_path / "in", form)
    ends = SimpleNamespace(url=f"{out.url}|{tmp_path}/in/*.{form}")
    arguments = (job, str(tmp_path / "letters"), "upsert", 4 if form == "csv" else 1)
    killed(ends, *arguments, step, nth=4)
    crash_job.run(ends.url, *arguments)
    assert out.rows("SELECT id, doubled FROM out ORDER BY id") == crash_job.EXPECTED
    letters = dead_letters(job)
    records = [decode_record(text) for text in letters["record_json"]]
    assert sorted(record["n"] for record in records if "n" in record) == sorted(crash_job.FAILING)
    unreadable = 0 if form == "parquet" else len(UNREADABLE)
    assert [record["__raw__"] for record in records if "n" not in record] == [BAD.get(form)] * unreadable
    tally = status(job).tally
    assert status(job).status == "complete"
    assert (tally.read, tally.written, tally.failed) == (
        crash_job.ROWS + unreadable,
        len(crash_job.EXPECTED),
        len(crash_job.FAILING) + unreadable,
    )
