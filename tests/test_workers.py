"""Worker processes: what they survive, what they never do, and what a record may do to them."""

import json
import linecache
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import CodeType

import psutil
import pytest

from prefect_batch import RunStopped, Table, dead_letters, failures, process_records, status
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.flows.run import run_job
from prefect_batch.tasks.workers.send_function import send_function

pytestmark = pytest.mark.usefixtures("server")
HERE = Path(__file__).parent
ROWS = 4000


@pytest.fixture(autouse=True)
def importable(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("WORKER_JOB", str(tmp_path))


def fill(database):
    database.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY, n INTEGER)"
    )
    database.many("INSERT INTO numbers VALUES (:id)", [{"id": n} for n in range(ROWS)])
    return database


@pytest.fixture
def numbers(crash_database):
    return fill(crash_database)


@pytest.fixture
def run(job, tmp_path):
    def call(database, process, **parameters):
        defaults = {"chunk_size": 1000, "workers": "processes", "concurrency": 2, "retry_delay_seconds": 0.1}
        return process_records(
            job=job,
            source=Table(database.url, "numbers", key="id"),
            process=f"worker_job:{process}" if isinstance(process, str) else process,
            sink=Table(database.url, "out", key="id"),
            dead_letters=str(tmp_path / "letters"),
            **{**defaults, **parameters},
        )

    return call


def written(database):
    return [n for (n,) in database.rows("SELECT id FROM out ORDER BY id")]


def without(*failed):
    return [n for n in range(ROWS) if n not in failed]


def is_ours(process):
    """Whether a worker is of this test: other runs of the tests have some, too."""
    try:
        return process.environ().get("WORKER_JOB") == os.environ["WORKER_JOB"]
    except psutil.Error:
        return False


def no_worker_is_left():
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        workers = [
            p
            for p in psutil.process_iter(["cmdline"])
            if "prefect_batch.tasks.workers.worker" in (p.info["cmdline"] or [])
        ]
        if not any(map(is_ours, workers)):
            return True
        time.sleep(0.05)
    return False


def test_they_do_the_work_and_end_with_the_run(numbers, run):
    report = run(numbers, "plain")
    assert (report.run.read, report.run.failed) == (ROWS, 0)
    assert written(numbers) == without()
    assert no_worker_is_left()


def test_functions_of_a_test_a_notebook_or_a_script_are_sent_by_value(sqlite, run):
    fill(sqlite)
    factor = 3

    def times(record):
        return {"id": record["id"], "n": factor * record["id"]}

    run(sqlite, times)
    assert sqlite.rows("SELECT n FROM out WHERE id = 7") == [(21,)]


SCRIPT = """
import os
from pathlib import Path
from prefect_batch import Table, process_records
Path({marks!r}, str(os.getpid())).touch()
def keep(record):
    return {{"id": record["id"], "n": os.getpid()}}
process_records(job={job!r}, source=Table({url!r}, "numbers", key="id"), process=keep, chunk_size=1000,
    sink=Table({url!r}, "out", key="id"), dead_letters={letters!r}, workers="processes", concurrency=2)
"""


def test_a_script_without_a_main_guard_is_imported_once(sqlite, job, tmp_path):
    fill(sqlite)
    (tmp_path / "marks").mkdir()
    script = tmp_path / "script.py"
    values = {"marks": str(tmp_path / "marks"), "job": job, "url": sqlite.url, "letters": str(tmp_path / "letters")}
    script.write_text(SCRIPT.format(**values))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "marks").iterdir())) == 1
    pids = {n for (n,) in sqlite.rows("SELECT DISTINCT n FROM out")}
    assert len(pids) in (1, 2)
    assert int(next((tmp_path / "marks").iterdir()).name) not in pids


FAILING = """
import sys
from prefect_batch import Table, process_records
def share(n):
    return 1 // (n % 1000)
class Clean:
    def __call__(self, record):
        return {"id": record["id"], "n": share(record["id"])}
url, job, letters = sys.argv[1:]
process_records(job=job, source=Table(url, "numbers", key="id"), process=Clean(), chunk_size=1000,
    sink=Table(url, "out", key="id"), dead_letters=letters, workers="processes", concurrency=2)
"""


def test_the_place_of_a_failure_is_told_for_functions_of_a_script(sqlite, job, tmp_path):
    fill(sqlite)
    script = tmp_path / "script.py"
    script.write_text(FAILING)
    command = [sys.executable, script, sqlite.url, job, str(tmp_path / "letters")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert failures(job)["where"].tolist() == ["script.py:5 in share"]
    trace = dead_letters(job)["traceback"].iloc[0]
    for line, function, source in (
        (8, "__call__", 'return {"id": record["id"], "n": share(record["id"])}'),
        (5, "share", "return 1 // (n % 1000)"),
    ):
        assert f'  File "{script}", line {line}, in {function}\n    {source}\n' in trace


def test_the_place_of_a_failure_is_told_for_functions_of_a_cell(sqlite, run, job):
    """Its lines are in no file: they are known to the kernel only."""
    fill(sqlite)
    cell, namespace = "<cell 7>", {"__name__": "a_cell"}
    source = "def process(record):\n    return {'id': record['id'], 'n': 1 // (record['id'] % 1000)}\n"
    exec(compile(source, cell, "exec"), namespace)
    linecache.cache[cell] = (len(source), None, source.splitlines(keepends=True), cell)
    run(sqlite, namespace["process"])
    assert failures(job)["where"].tolist() == ["<cell 7>:2 in process"]
    assert f"in process\n    {source.splitlines()[1].strip()}\n" in dead_letters(job)["traceback"].iloc[0]


def test_code_is_sent_with_its_file_whatever_refers_to_it():
    def outer():
        return lambda: [2 * n for n in range(3)]

    def files_of(code):
        return {code.co_filename}.union(*(files_of(c) for c in code.co_consts if isinstance(c, CodeType)))

    received = pickle.loads(send_function(outer))
    assert received is not outer
    assert files_of(received.__code__) == {__file__}
    assert received.__code__ == outer.__code__
    assert received()() == [0, 2, 4]


def test_a_worker_imports_neither_prefect_nor_pandas():
    code = "import sys, prefect_batch.tasks.workers.worker; sys.exit(bool({'prefect', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_worker_that_dies_costs_its_chunk_one_attempt(numbers, run):
    report = run(numbers, "dies_once")
    assert (report.run.retries, report.run.failed) == (1, 0)
    assert written(numbers) == without()


def test_a_record_that_kills_its_worker_twice_is_a_dead_letter(numbers, run, job):
    report = run(numbers, "dies")
    assert report.run.failed == 1
    assert written(numbers) == without(1500)
    letter = dead_letters(job).iloc[0]
    assert (letter["key"], letter["error_type"].rpartition(".")[2]) == ("[1500]", "WorkerDied")
    assert no_worker_is_left()


@pytest.mark.parametrize(("process", "failed"), [("sleeps", [1500, 1501]), ("loops", [1500]), ("blocks", [1500])])
def test_a_record_that_takes_too_long_is_a_dead_letter(numbers, run, job, process, failed):
    started = time.monotonic()
    report = run(numbers, process, record_timeout=1.0)
    assert time.monotonic() - started < 120  # And not for ever; the machines are noisy, and the server may stall.
    assert report.run.failed == len(failed)
    assert written(numbers) == without(*failed)
    letters = dead_letters(job)
    assert sorted(json.loads(key)[0] for key in letters["key"]) == failed
    assert set(letters["stage"]) == {"timeout"}
    assert all("took longer than 1 s" in message for message in letters["error_message"])
    assert report.run.retries == 0


def test_records_in_time_are_not_touched_by_the_limit(sqlite, run):
    fill(sqlite)
    assert run(sqlite, "slow", record_timeout=0.5).run.failed == 0


def test_a_timeout_needs_processes(sqlite, run):
    fill(sqlite)
    with pytest.raises(BadParameter, match="a thread that hangs cannot be ended"):
        run(sqlite, "plain", record_timeout=1, workers="threads")
    with pytest.raises(BadParameter, match=r"record_timeout=0\.0 must be more than 0 seconds"):
        run(sqlite, "plain", record_timeout=0)


def test_what_cannot_be_sent_is_refused_or_done_in_threads(sqlite, run):
    fill(sqlite)
    lock = threading.Lock()

    def locked(record):
        with lock:
            return {"id": record["id"], "n": 1}

    assert send_function(locked) is None
    with pytest.raises(BadParameter, match="holds something that cannot be pickled"):
        run(sqlite, locked)
    assert run(sqlite, locked, workers=None).run.written == ROWS


def test_log_lines_and_warnings_of_the_function_reach_the_log(sqlite, run, caplog):
    fill(sqlite)
    run(sqlite, "talks")
    lines = {record.getMessage() for record in caplog.records if record.name == "prefect.task_runs"}
    assert "the price of 1500 is odd" in lines
    assert any("an old price list" in line for line in lines)


def test_a_time_limit_does_not_cut_a_log_line_short(sqlite, run, caplog):
    fill(sqlite)
    report = run(sqlite, "talks_all_the_time", record_timeout=0.3)
    assert (report.run.failed, report.run.retries) == (6, 0)
    lengths = {len(record.getMessage()) for record in caplog.records if record.name == "prefect.task_runs"}
    assert lengths >= {50_000, 200_000}
    assert written(sqlite) == without(*range(1500, 1506))


def test_stop_batch_stops_the_run(sqlite, run, job):
    fill(sqlite)
    with pytest.raises(RunStopped, match="the processor stopped the run: no price list"):
        run(sqlite, "stops", concurrency=1)
    assert status(job).tally.read == 1000


def test_a_secret_url_is_handed_to_the_workers(sqlite, run, job):
    from prefect.blocks.system import Secret

    fill(sqlite)
    Secret(value=sqlite.url).save(job, _sync=True)
    report = process_records(
        job=job,
        source=Table(f"secret/{job}", "numbers", key="id"),
        process="worker_job:plain",
        sink=Table(f"secret/{job}", "out", key="id"),
        workers="processes",
        chunk_size=1000,
    )
    assert report.run.written == ROWS


CHILD = """
import sys
from prefect_batch import Table, process_records
url, job, letters, process = sys.argv[1:]
process_records(job=job, source=Table(url, "numbers", key="id"), process="worker_job:" + process, chunk_size=1000,
    sink=Table(url, "out", key="id"), dead_letters=letters, workers="processes", concurrency=2)
"""


def child(database, job, tmp_path, process):
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", CHILD, database.url, job, str(tmp_path / "letters"), process]
    # In a group of its own, which a terminal would send its Ctrl-C to.
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_they_do_not_outlive_their_parent_nor_write_after_its_death(numbers, run, job, tmp_path):
    killed = child(numbers, job, tmp_path, "kills_its_parent")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert no_worker_is_left()
    before = written(numbers)
    assert 2500 not in before
    run(numbers, "kills_its_parent")
    assert written(numbers) == without()


def wait_until_both_are_at_work(database, tmp_path):
    """The first chunk is written, and each worker has another in hand."""
    while len(list(tmp_path.glob("at-*"))) < 2 or not database.rows("SELECT 1 FROM out WHERE id = 999"):
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_lets_them_finish_the_chunk_in_hand(sqlite, run, job, tmp_path, number):
    fill(sqlite)
    stopped = child(sqlite, job, tmp_path, "held")
    wait_until_both_are_at_work(sqlite, tmp_path)
    os.killpg(stopped.pid, number)
    time.sleep(1)
    (tmp_path / "go").touch()
    stopped.communicate(timeout=120)
    assert no_worker_is_left()
    assert (status(job).status, status(job).tally.read) == ("stopped", 3000)
    assert len(written(sqlite)) == 3000
    run(sqlite, "held")
    assert written(sqlite) == without()


def test_two_interrupts_end_them_at_once(sqlite, run, job, tmp_path):
    fill(sqlite)
    stopped = child(sqlite, job, tmp_path, "held")
    wait_until_both_are_at_work(sqlite, tmp_path)
    os.killpg(stopped.pid, signal.SIGINT)
    time.sleep(1)
    os.killpg(stopped.pid, signal.SIGINT)
    stopped.communicate(timeout=120)
    assert no_worker_is_left()
    assert (status(job).status, status(job).message) == ("stopped", "interrupted twice by Ctrl-C")
    assert status(job).tally.read == 1000
    (tmp_path / "go").touch()
    run(sqlite, "held")
    assert written(sqlite) == without()


def test_a_lost_connection_in_a_worker_is_retried(postgresql, run, monkeypatch):
    # Several batches, so that the chunk has a transaction when its connection is lost.
    monkeypatch.setattr(run_job, "BATCH_ROWS", 200)
    fill(postgresql)
    url = postgresql.url.replace("postgresql://", "postgresql://", 1)

    def process(record):
        if record["id"] == 1500 and not Path(os.environ["WORKER_JOB"], "done").exists():
            Path(os.environ["WORKER_JOB"], "done").touch()
            import psycopg

            with psycopg.connect(url, autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        return {"id": record["id"], "n": 1}

    report = run(postgresql, process)
    assert report.run.retries >= 1
    assert written(postgresql) == without()
