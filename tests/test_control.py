"""Stopping, tuning, waiting and slowing a run while it is at work, and the time and the disks that it may take."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import CancelledRun

from prefect_batch import Table, process_records, status
from prefect_batch.blocks.databases.connections import close_engines
from prefect_batch.blocks.errors import BadParameter, DiskNearlyFull, FailureRateExceeded, NotAtWork, UnknownJob
from prefect_batch.blocks.health import look
from prefect_batch.blocks.parameters.health_check import HealthCheck
from prefect_batch.blocks.parameters.run_window import RunWindow
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.requests import RunRequest, read_request, send_request
from prefect_batch.flows.operations.control import is_at_work, stop, tune
from prefect_batch.flows.run import resources, walk, watch
from prefect_batch.tasks import run_chunk
from prefect_batch.tasks.work import stop_signals
from tests import worker_job

pytestmark = pytest.mark.usefixtures("server")
ROWS = 6000


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look around more often than a run of hours has to."""
    monkeypatch.setattr(watch, "LISTEN_SECONDS", 0.05)
    monkeypatch.setattr(walk, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(resources, "SAMPLE_SECONDS", 0.05)


@pytest.fixture
def numbers(sqlite):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY, n INTEGER)")
    sqlite.run("CREATE TABLE pressure (n INTEGER)", "INSERT INTO pressure VALUES (0)")
    sqlite.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(ROWS)])
    return sqlite


@pytest.fixture
def run(numbers, job, tmp_path):
    def call(process, **parameters):
        parameters = {"chunk_size": 500, "concurrency": 1, **parameters}
        ends = {"source": Table(numbers.url, "t", key="id"), "sink": Table(numbers.url, "out", key="id")}
        return process_records(job=job, process=process, dead_letters=str(tmp_path / "letters"), **ends, **parameters)

    return call


def out(record):
    return {"id": record["id"], "n": 1}


class Meeting:
    """Where the function `meets` does something, what, and whether it has: not its own, which would define the job."""

    place, action, over = ROWS, None, False


def meets(record):
    if record["id"] >= Meeting.place:
        if not Meeting.over:
            Meeting.over = True
            Meeting.action()
        time.sleep(0.001)
    return out(record)


def at(place, action):
    """A function that does something once, when it meets the record at this place, and hurries no further then."""
    Meeting.place, Meeting.action, Meeting.over = place, action, False
    return meets


def state_of(job):
    run_id = status(job).run_id
    return call_api(lambda client: client.read_flow_run(run_id)).state


def check_complete(run, numbers, job, process=None):
    """The next run goes on to the same end as an undisturbed one."""
    run(process or at(ROWS, None))
    assert status(job).status == "complete"
    assert status(job).tally.read == ROWS
    assert numbers.rows("SELECT count(*), min(id), max(id) FROM out") == [(ROWS, 0, ROWS - 1)]


def test_a_run_that_is_asked_to_stop_finishes_its_chunk_says_why_and_goes_on(run, numbers, job):
    with pytest.raises(CancelledRun):
        run(at(1200, lambda: stop(job)))
    found = status(job)
    assert found.status == "stopped"
    assert found.message.startswith("stopped by ")
    assert found.tally.read in range(1500, ROWS, 500)
    assert numbers.rows("SELECT count(*) FROM out") == [(found.tally.read,)]
    state = state_of(job)
    assert (state.type.value, state.name) == ("CANCELLED", "Stopped")
    assert state.message == f"{job} was {found.message}; call it again to go on"
    assert not is_at_work(job)
    check_complete(run, numbers, job)


def test_a_run_that_is_asked_to_stop_now_rolls_its_chunk_back(run, numbers, job):
    asked = []

    def process(record):
        if record["id"] == 1200 and not asked:
            asked.append(stop(job, now=True))
            wait_for(lambda: stop_signals.is_abandoned(asked[0].run_id))
        return out(record)

    with pytest.raises(CancelledRun):
        run(process, chunk_size=1000)
    assert status(job).status == "stopped"
    assert status(job).tally.read == numbers.rows("SELECT count(*) FROM out")[0][0] == 1000
    check_complete(run, numbers, job, process)


def test_a_worker_that_never_ends_is_stopped_now(run, numbers, job, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKER_JOB", str(tmp_path))
    asked = threading.Thread(target=lambda: (wait_for((tmp_path / "begun").exists), stop(job, now=True)))
    asked.start()
    with pytest.raises(CancelledRun):
        run(worker_job.never_ends, workers="processes", chunk_size=1000)
    asked.join()
    assert numbers.rows("SELECT count(*) FROM out") == [(status(job).tally.read,)]
    assert numbers.rows("SELECT count(*) FROM out WHERE id BETWEEN 1000 AND 1999") == [(0,)]
    check_complete(run, numbers, job, worker_job.never_ends)


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


CHILD = """
import sys
from prefect_batch import Table, process_records
from prefect_batch.flows.run import walk

walk.GRACE_SECONDS = 0.5
url, job, letters = sys.argv[1:]
process_records(job=job, source=Table(url, "t", key="id"), sink=Table(url, "out", key="id"), dead_letters=letters,
    process="worker_job:never_ends", workers="processes", concurrency=1, chunk_size=1000)
"""


def test_after_a_signal_a_chunk_that_does_not_end_is_rolled_back_in_time(numbers, job, tmp_path):
    """Prefect kills a cancelled run 30 s after the signal: the cursor is saved before."""
    environment = {**os.environ, "WORKER_JOB": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CHILD, numbers.url, job, str(tmp_path / "letters")]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for((tmp_path / "begun").exists)
    child.send_signal(signal.SIGTERM)
    shown, _ = child.communicate(timeout=120)
    assert child.returncode != 0
    assert (status(job).status, status(job).message) == ("stopped", "ended by a cancellation or SIGTERM"), shown
    assert numbers.rows("SELECT count(*) FROM out WHERE id BETWEEN 1000 AND 1999") == [(0,)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert status(job).status == "complete"
    assert numbers.rows("SELECT count(*) FROM out") == [(ROWS,)]


def test_a_chunk_that_waits_for_its_next_attempt_is_not_tried_again_once_the_run_stops(run, numbers, job, monkeypatch):
    attempts, working = [], run_chunk.work_chunk

    def work(chunk_job, range_):
        if range_.upto == (999,):
            attempts.append(time.monotonic())
            stop(job)
            raise ConnectionError("gone")
        return working(chunk_job, range_)

    monkeypatch.setattr(run_chunk, "work_chunk", work)
    with pytest.raises(CancelledRun):
        run(at(ROWS, None), retry_delay_seconds=1)
    assert len(attempts) == 1
    assert status(job).tally.read == 500
    monkeypatch.setattr(run_chunk, "work_chunk", working)
    check_complete(run, numbers, job)


def test_a_request_for_a_former_run_stops_no_later_one(run, numbers, job):
    send_request(job, RunRequest("of a former run", "somebody", "now"))
    assert run(out).status == "complete"
    assert read_request(job, "of a former run").stop == "now"


def test_requests_for_one_run_add_up(job):
    send_request(job, RunRequest("one", "a", changes={"concurrency": 2}))
    send_request(job, RunRequest("one", "b", "drain"))
    send_request(job, RunRequest("one", "c", changes={"max_rate": 5.0}))
    assert read_request(job, "one") == RunRequest("one", "c", "drain", {"concurrency": 2, "max_rate": 5.0})
    assert read_request(job, "two") is None
    send_request(job, RunRequest("two", "d"))
    assert read_request(job, "two") == RunRequest("two", "d")


def test_nobody_is_asked_where_nobody_is_at_work(job):
    with pytest.raises(NotAtWork, match="no run works on"):
        stop(job)
    with pytest.raises(NotAtWork):
        tune(job, concurrency=2)


@pytest.mark.parametrize("longest", [2, timedelta(seconds=2)])
def test_after_its_longest_duration_a_run_stops_and_the_next_goes_on(run, numbers, job, longest):
    with pytest.raises(CancelledRun):
        run(at(0, lambda: None), max_duration=longest, chunk_size=200)
    assert status(job).message == "stopped after its max_duration of 2 s"
    assert 0 < status(job).tally.read < ROWS
    check_complete(run, numbers, job)


def closed_window():
    """A window that opens in an hour at the earliest."""
    hour = (datetime.now(UTC).hour + 2) % 24
    return f"{hour:02}:00-{hour:02}:30 UTC"


def test_outside_its_window_a_run_ends_at_once_and_says_when_it_opens(run, numbers, job):
    window = closed_window()
    with pytest.raises(CancelledRun, match=f"{job} did not run: its run window {window} opens at"):
        run(out, run_window=window)
    assert numbers.rows("SELECT count(*) FROM out") == [(0,)]
    with pytest.raises(UnknownJob):
        status(job)
    state = run(out, run_window=window, return_state=True)
    assert (state.type.value, state.name) == ("CANCELLED", "OutsideRunWindow")


def test_when_its_window_closes_a_run_stops_and_the_next_goes_on(run, numbers, job, monkeypatch):
    closed_at = []
    monkeypatch.setattr(
        RunWindow, "is_open", lambda _self, now: not closed_at or now > closed_at[0] + timedelta(hours=16)
    )
    with pytest.raises(CancelledRun):
        run(at(1200, lambda: closed_at.append(datetime.now(UTC))), run_window="22:00-06:00 Europe/Berlin")
    assert status(job).message == "stopped because its run window 22:00-06:00 Europe/Berlin closed"
    assert "its next run goes on where it stood, once the window has opened again at" in state_of(job).message
    closed_at.clear()
    check_complete(run, numbers, job)


def test_more_workers_while_it_runs(run, numbers, job, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKER_JOB", str(tmp_path))

    def at_work():
        return {file.name for file in tmp_path.glob("pid-*")}

    asked = threading.Thread(target=lambda: (wait_for(at_work), tune(job, concurrency=3)))
    asked.start()
    run(worker_job.until_three, workers="processes", chunk_size=100)
    asked.join()
    assert len(at_work()) >= 3
    assert status(job).limits["concurrency"] == 3
    assert status(job).status == "complete"


def test_another_limit_of_failures_while_it_runs(run, numbers, job):
    def process(record):
        if record["id"] == 1200:
            tune(job, max_failures=0)
        time.sleep(0.0005)
        if record["id"] == 3:
            raise ValueError("three")
        return out(record)

    with pytest.raises(FailureRateExceeded, match="more than max_failures=0"):
        run(process)
    assert status(job).tally.read < ROWS


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "say what to change"),
        ({"chunk_size": 5}, "chunk_size cannot be changed while a job runs"),
        ({"concurrency": 0}, "must be from 1 to 256"),
        ({"concurrency": None}, "must be a whole number"),
        ({"concurrency": 1.5}, "must be a whole number"),
        ({"max_rate": 0}, "must be more than 0"),
        ({"max_rate": float("nan")}, "must be more than 0"),
        ({"max_failure_rate": 2}, "must be a share from 0 to 1"),
        ({"max_failure_rate": None}, "must be a number"),
        ({"max_failures": -1}, "must be 0 or more"),
        ({"max_failures": "many"}, "must be a whole number"),
    ],
)
def test_limits_that_may_not_be(job, change, sentence):
    with pytest.raises(BadParameter, match=sentence):
        tune(job, **change)


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_a_rate_is_kept_over_all_chunks_at_work_and_within_them(run, numbers, job, workers):
    """Also where one chunk would be the whole pass."""
    began = time.monotonic()
    run(worker_job.plain, max_rate=3000, workers=workers, concurrency=2, chunk_size=2000, limit=ROWS)
    seconds = time.monotonic() - began
    # A second's worth may be made up for, and each worker's first batch comes for nothing.
    assert seconds > (ROWS - 2 * 3000) / 3000 + 0.5
    assert all(b.read > a.read or b.at > a.at for a, b in pairwise(status_samples(job)))


def status_samples(job):
    from prefect_batch.blocks.state.cursor_store import CursorStore

    return CursorStore(job).load().run.series.samples


def test_a_rate_can_be_lifted_while_it_runs(run, numbers, job):
    asked = threading.Thread(
        target=lambda: (wait_for(lambda: is_at_work(job) and _read(job)), tune(job, max_rate=None))
    )
    asked.start()
    began = time.monotonic()
    run(out, max_rate=20, chunk_size=None)
    asked.join()
    assert time.monotonic() - began < ROWS / 20 / 2
    assert status(job).limits["max_rate"] is None


def _read(job):
    try:
        return status(job).tally.read
    except UnknownJob:
        return 0


def test_a_check_that_is_above_its_limit_makes_the_run_wait_and_the_reason_is_shown(run, numbers, job, caplog):
    check = HealthCheck(connection=numbers.url, sql="SELECT n FROM pressure", limit=5, every_seconds=0.1)
    shown = []

    def relieve():
        shown.append(wait_for(lambda: _waiting(job)))
        shown.append(str(status(job)))
        numbers.run("UPDATE pressure SET n = 5")

    relief = threading.Thread(target=relieve)
    relief.start()
    with caplog.at_level("INFO", logger="prefect"):
        report = run(at(1200, lambda: numbers.run("UPDATE pressure SET n = 7")), health=[check])
    relief.join()
    assert report.status == "complete"
    assert shown[0] == "SELECT n FROM pressure is 7, above 5"
    assert "  waits: SELECT n FROM pressure is 7, above 5\n" in shown[1]
    told = [r.getMessage() for r in caplog.records if r.name == "prefect.flow_runs" and "wait" in r.getMessage()]
    assert told == [f"{job}: waits: SELECT n FROM pressure is 7, above 5"]
    assert status(job).waiting == ""


def _waiting(job):
    try:
        return status(job).waiting
    except UnknownJob:
        return ""


def test_a_run_that_waits_can_be_stopped(run, numbers, job):
    numbers.run("UPDATE pressure SET n = 7")
    check = HealthCheck(connection=numbers.url, sql="SELECT n FROM pressure", limit=5, every_seconds=0.1)
    asked = threading.Thread(target=lambda: (wait_for(lambda: _waiting(job)), stop(job)))
    asked.start()
    with pytest.raises(CancelledRun, match="was stopped by"):
        run(out, health=[check])
    asked.join()
    assert status(job).tally.read == 0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "needs one of check"),
        ({"sql": "SELECT 1", "check": "replica_lag"}, "needs one of check"),
        ({"sql": "SELECT 1"}, "needs a connection, and the limit"),
        ({"sql": "SELECT 1", "connection": "sqlite://"}, "needs a connection, and the limit"),
        ({"sql": "SELECT 1", "limit": 1, "connection": "postgresql://a:hunter2@b/c"}, "carries a password"),
    ],
)
def test_checks_that_make_no_sense(fields, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        HealthCheck(**fields)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [("SELECT n FROM nowhere", "does not work: no such table"), ("SELECT 'a'", "must give a number, and not str")],
)
def test_a_check_that_does_not_work_refuses_the_run(run, numbers, job, sql, sentence):
    with pytest.raises(BadParameter, match=sentence):
        run(out, health=[HealthCheck(connection=numbers.url, sql=sql, limit=1)])
    with pytest.raises(UnknownJob):
        status(job)


@pytest.mark.parametrize("ready", ["replica_lag", "active_connections", "long_transactions"])
def test_ready_checks_of_postgresql(postgresql, ready):
    def seen(limit):
        return look(HealthCheck(ready, limit, postgresql.url))

    assert seen(limit=10_000) is None
    if ready != "long_transactions":
        return
    with postgresql.engine.begin() as transaction:
        transaction.exec_driver_sql("SET LOCAL application_name = 'somebody else'")
        wait_for(lambda: seen(limit=0))
        assert "the age of the oldest transaction is" in seen(limit=0)


@pytest.mark.parametrize("ready", ["replica_lag", "active_connections", "long_transactions"])
def test_a_role_from_which_others_are_hidden_is_told_what_it_lacks(postgresql, job, ready):
    """To it, all these numbers would be 0."""
    role = job.replace("-", "_")
    postgresql.run(f"CREATE ROLE {role} LOGIN")
    place = postgresql.url.partition("@")[2]
    check = HealthCheck(ready, 10_000, f"postgresql://{role}@{place}")
    try:
        with pytest.raises(BadParameter, match=f"GRANT pg_read_all_stats TO {role}"):
            look(check)
        postgresql.run(f"GRANT pg_read_all_stats TO {role}")
        assert look(check) is None
    finally:
        close_engines()
        postgresql.run(f"DROP ROLE {role}")


@pytest.mark.parametrize("ready", ["threads_running", "active_connections", "long_transactions"])
def test_ready_checks_of_mariadb(mariadb_server_url, ready):
    def seen(limit):
        return look(HealthCheck(ready, limit, mariadb_server_url))

    assert seen(limit=10_000) is None
    if ready != "long_transactions":
        assert " is " in seen(limit=0)


def test_a_server_that_is_no_replica_has_no_lag(mariadb_server_url):
    with pytest.raises(BadParameter, match="is no replica"):
        look(HealthCheck("replica_lag", 5, mariadb_server_url))


def test_a_limit_of_prefect_without_a_free_slot_is_a_reason_to_wait(job):
    with pytest.raises(BadParameter, match=f"make it with: prefect gcl create {job}"):
        look(HealthCheck(prefect_limit=job))
    limit = GlobalConcurrencyLimitCreate(name=job, limit=2, active_slots=1)
    call_api(lambda client: client.create_global_concurrency_limit(limit))
    assert look(HealthCheck(prefect_limit=job)) is None
    assert look(HealthCheck(prefect_limit=job, limit=0)) == f"Prefect's limit {job} has 1 slots taken, above 0"
    call_api(lambda client: client.increment_concurrency_slots(names=[job], slots=1, mode="concurrency"))
    assert look(HealthCheck(prefect_limit=job)) == f"Prefect's limit {job} has no free slot (2 of 2 taken)"


def test_before_a_disk_is_full_a_run_stops_and_the_next_goes_on(run, numbers, job, monkeypatch):
    def fill():
        monkeypatch.setattr(shutil, "disk_usage", lambda _place: SimpleNamespace(free=300 * 2**20))

    with pytest.raises(
        DiskNearlyFull, match=r"only 300 MB are free where .* less than min_free_disk_mb=500"
    ) as stopped:
        run(at(1200, fill))
    assert "call the job again: it goes on where it stopped" in str(stopped.value)
    assert status(job).status == "failed"
    assert 1500 <= status(job).tally.read < ROWS
    with pytest.raises(DiskNearlyFull):
        run(at(ROWS, None))
    monkeypatch.undo()
    check_complete(run, numbers, job)


def test_what_a_run_takes_is_in_its_report_and_its_status(run, numbers, job):
    shown = []
    watcher = threading.Thread(target=lambda: shown.append(wait_for(lambda: _read(job) and status(job))))
    watcher.start()
    report = run(worker_job.plain, workers="processes", concurrency=2, max_rate=4000)
    watcher.join()
    for used in (report.resources, shown[0].resources):
        assert used["rss_bytes"] > 50 * 2**20
        assert used["peak_rss_bytes"] >= used["rss_bytes"]
        assert set(used["free_bytes"]) == {"dead letters", "results", "rows of the sink"}
        assert used["connections"] >= 1
    assert report.resources["cpu_seconds"] > 0  # The status may be of the first measurement, before any was spent.
    assert "2 chunks at once, at most 4,000/s; " in str(shown[0])
    assert "GB free for dead letters" in str(shown[0])
    samples = status_samples(job)
    assert samples[-1].read == ROWS
    assert samples[-1].rss_bytes > 100 * 2**20  # The parent and two workers.
