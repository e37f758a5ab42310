"""kill -9 at every step: after a plain second call the sink and the letters are those of an undisturbed run."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_batch import dead_letters, status
from prefect_batch.blocks.databases.ledger import CLOSED
from tests import crash_job

pytestmark = pytest.mark.usefixtures("server")
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture
def numbers(crash_database):
    crash_database.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, n INTEGER)",
        "CREATE TABLE out (id INTEGER, doubled INTEGER CHECK (doubled >= 0))",
    )
    crash_database.many("INSERT INTO numbers VALUES (:id, :id)", [{"id": n} for n in range(crash_job.ROWS)])
    return crash_database


@pytest.fixture(scope="module")
def forks():
    """The program that forks into processes which run the job."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # A fork keeps none of the threads.
    command = [sys.executable, HERE / "crash_job.py"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        yield program
        program.stdin.close()


@pytest.fixture
def killed(forks, tmp_path):
    """Run the job in a process that dies at this step."""

    def call(database, job, letters, write, concurrency, step, nth, workers=None):
        output = tmp_path / "output"
        order = [str(output), database.url, job, letters, write, concurrency, step, nth, workers]
        forks.stdin.write(json.dumps(order) + "\n")
        forks.stdin.flush()
        code = int(forks.stdout.readline())
        assert code == -signal.SIGKILL, f"{code}: {output.read_text()}"

    return call


def check(database, job, giants=frozenset()):
    written = [row for row in crash_job.EXPECTED if row[0] not in giants]
    failed = crash_job.FAILING | giants
    assert database.rows("SELECT id, doubled FROM out ORDER BY id") == written
    assert sorted(json.loads(key)[0] for key in dead_letters(job)["key"]) == sorted(failed)
    found = status(job)
    assert found.status == "complete"
    tally = found.tally
    assert (tally.read, tally.written, tally.failed) == (crash_job.ROWS, len(written), len(failed))


@pytest.mark.parametrize("step", crash_job.STEPS)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_upsert(numbers, killed, job, tmp_path, step, concurrency):
    numbers.run("CREATE UNIQUE INDEX out_id ON out (id)")
    arguments = (numbers, job, str(tmp_path / "letters"), "upsert", concurrency)
    killed(*arguments, step, nth=4)
    crash_job.run(numbers.url, *arguments[1:])
    check(numbers, job)


def ledger(database):
    return database.rows("SELECT chunk FROM prefect_batch_chunks")


@pytest.mark.parametrize("step", ["after bury", "before commit", "after commit", "before advance", "before complete"])
def test_append_with_the_ledger(numbers, killed, job, tmp_path, step):
    """The table has no unique key: a row written twice would be there twice."""
    arguments = (numbers, job, str(tmp_path / "letters"), "append", 4)
    killed(*arguments, step, nth=4)
    crash_job.run(numbers.url, *arguments[1:])
    check(numbers, job)
    assert ledger(numbers) == [(CLOSED,)]


@pytest.mark.parametrize(("step", "nth"), [("before mark", 1), ("after mark", 3), ("after split", 4)])
def test_a_chunk_that_is_split(numbers, killed, job, tmp_path, step, nth):
    """tests/laws/test_splits.py dies at each step, in one process."""
    arguments = (numbers, job, str(tmp_path / "letters"), "append giant", 1)
    killed(*arguments, step, nth=nth)
    crash_job.run(numbers.url, *arguments[1:])
    check(numbers, job, giants={crash_job.GIANT})
    assert ledger(numbers) == [(CLOSED,)]


def test_insert_with_the_ledger(numbers, killed, job, tmp_path):
    """A chunk that is repeated would find its own rows there, and take each of them for a failure."""
    numbers.run("CREATE UNIQUE INDEX out_id ON out (id)")
    arguments = (numbers, job, str(tmp_path / "letters"), "insert", 4)
    killed(*arguments, "after commit", nth=4)
    crash_job.run(numbers.url, *arguments[1:])
    check(numbers, job)
    assert ledger(numbers) == [(CLOSED,)]


@pytest.mark.parametrize("write", ["update in place", "upsert in place"])
def test_in_place_with_the_ledger(numbers, killed, job, tmp_path, write):
    """A chunk that is repeated would read what it has written, and change it again."""
    arguments = (numbers, job, str(tmp_path / "letters"), write, 2)
    killed(*arguments, "after commit", nth=4)
    crash_job.run(numbers.url, *arguments[1:])
    assert numbers.rows("SELECT id, n FROM numbers ORDER BY id") == [(n, n + 1) for n in range(crash_job.ROWS)]
    assert status(job).tally.written == crash_job.ROWS
    assert ledger(numbers) == [(CLOSED,)]


def test_append_without_the_ledger_writes_a_chunk_twice_that_was_committed_and_not_yet_counted(
    numbers, killed, job, tmp_path
):
    arguments = (numbers, job, str(tmp_path / "letters"), "append unledgered", 1)
    killed(*arguments, "after commit", nth=4)
    crash_job.run(numbers.url, *arguments[1:])
    twice = [row for row in crash_job.EXPECTED if 3 * crash_job.CHUNK <= row[0] < 4 * crash_job.CHUNK]
    assert numbers.rows("SELECT id, doubled FROM out ORDER BY id") == sorted(crash_job.EXPECTED + twice)


WORKER_STEPS = ["mid batch", "before bury", "after bury", "before commit", "after commit"]


@pytest.mark.parametrize("step", WORKER_STEPS)
def test_killed_below_worker_processes(numbers, killed, job, tmp_path, step):
    """A worker kills the run and goes on; what it does then is done once, by it or by the next run."""
    arguments = (numbers, job, str(tmp_path / "letters"), "append", 2)
    killed(*arguments, step, nth=2, workers="processes")
    crash_job.run(numbers.url, *arguments[1:])
    check(numbers, job)


@pytest.mark.parametrize("crash_database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("step", WORKER_STEPS)
def test_a_worker_that_is_killed_and_a_run_that_is_not(numbers, job, tmp_path, monkeypatch, step):
    monkeypatch.setenv("CRASH_WORKERS", step)
    monkeypatch.setenv("CRASH_ONCE", str(tmp_path / "once"))
    crash_job.run(numbers.url, job, str(tmp_path / "letters"), "append", 2, workers="processes", retry_delay_seconds=0)
    assert (tmp_path / "once").exists()
    assert status(job).tally.retries == 1
    check(numbers, job)


def test_killed_again_and_again_with_other_sizes(numbers, killed, job, tmp_path, monkeypatch):
    numbers.run("CREATE UNIQUE INDEX out_id ON out (id)")
    arguments = (numbers, job, str(tmp_path / "letters"), "upsert")
    killed(*arguments, 4, "after bury", nth=3)
    killed(*arguments, 1, "before advance", nth=2)
    monkeypatch.setattr(crash_job, "CHUNK", 17)
    crash_job.run(numbers.url, *arguments[1:], 2)
    check(numbers, job)


def test_with_a_restart_of_the_prefect_server(numbers, killed, job, tmp_path, server):
    """The dead owner is replaced at once, whatever the server has forgotten."""
    numbers.run("CREATE UNIQUE INDEX out_id ON out (id)")
    arguments = (numbers, job, str(tmp_path / "letters"), "upsert", 1)
    killed(*arguments, "before advance", nth=4)
    server.stop()
    server.start()
    crash_job.run(numbers.url, *arguments[1:])
    check(numbers, job)


def write_nonsense(cache):
    entries = [entry for entry in cache.rglob("*") if entry.is_file()]
    assert entries
    for entry in entries:
        entry.write_bytes(b"nonsense")


@pytest.mark.parametrize("spoil", [shutil.rmtree, write_nonsense])
def test_with_a_spoilt_result_cache(numbers, killed, job, tmp_path, spoil):
    """The cursor is the truth, the cache a saving."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

    numbers.run("CREATE UNIQUE INDEX out_id ON out (id)")
    arguments = (numbers, job, str(tmp_path / "letters"), "upsert", 4)
    killed(*arguments, "before advance", nth=4)
    spoil(PREFECT_LOCAL_STORAGE_PATH.value() / f"prefect-batch-{job}")
    crash_job.run(numbers.url, *arguments[1:])
    check(numbers, job)


def test_finished_chunks_come_from_the_cache(numbers, killed, job, tmp_path):
    """A chunk whose result was stored, but not yet in the cursor, is not worked on again."""
    numbers.run("CREATE UNIQUE INDEX out_id ON out (id)")
    arguments = (numbers, job, str(tmp_path / "letters"), "upsert", 1)
    killed(*arguments, "before advance", nth=4)
    assert status(job).tally.read == 120
    seen = []
    crash_job._on_record[0] = seen.append
    sys.modules["crash_job"] = crash_job
    try:
        crash_job.run(numbers.url, *arguments[1:])
    finally:
        crash_job._on_record[0] = lambda _n: None
        del sys.modules["crash_job"]
    assert min(seen) == 160
    check(numbers, job)
