"""One owner of a job: the living is respected, the dead replaced, and a race has one winner."""

import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from prefect.client.schemas.actions import VariableCreate
from prefect.states import Completed, Running

from prefect_batch import LostOwnership, Table, process_records, status
from prefect_batch.blocks.errors import JobIsOwned
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state import ownership
from prefect_batch.blocks.state.cursor_store import load_cursor
from prefect_batch.blocks.state.ownership import Owner, own_job

pytestmark = pytest.mark.usefixtures("server")


def now():
    return datetime.now(UTC)


def an_owner(**fields):
    values = {
        "token": "former",
        "run_id": str(uuid.uuid4()),
        "attempt": 1,
        "host": ownership._host(),
        "pid": os.getpid(),
        "started_at": ownership._started_at(os.getpid()),
        "since": now().isoformat(),
        "heartbeat": now().isoformat(),
    }
    return Owner(**{**values, **fields})


def put(job, owner):
    value = VariableCreate(name=ownership._variable(job), value=asdict(owner))
    return call_api(lambda client: client.create_variable(value))


def gone(job):
    return call_api(lambda client: client.read_variable_by_name(ownership._variable(job))) is None


def own(job):
    return own_job(job, str(uuid.uuid4()), 1)


def test_it_is_free_again_afterwards(job):
    for _ in range(2):
        with own(job):
            assert not gone(job)
        assert gone(job)


def test_a_second_run_is_refused_and_told_who_is_at_work(job):
    run_id = str(uuid.uuid4())
    with own_job(job, run_id, 1):
        sentence = f"{job} is already at work: flow run {run_id} on .* (pid {os.getpid()}), since 20"
        with pytest.raises(JobIsOwned, match=re.escape(sentence).replace(r"\.\*", ".*")), own(job):
            pass
    with own(job):
        pass


def test_a_second_flow_run_is_refused(job, sqlite, tmp_path):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    table = Table(sqlite.url, "t", key="id")
    with own(job), pytest.raises(JobIsOwned, match="wait for it, or stop it"):
        process_records(job=job, source=table, process=dict, sink=table, dead_letters=str(tmp_path))


def test_a_process_that_is_gone_is_dead(job):
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    put(job, an_owner(pid=int(child.stdout)))
    with own(job) as owned:
        assert owned.owner.generation == 2


def test_a_process_that_has_the_same_number_is_another(job):
    put(job, an_owner(started_at=ownership._started_at(os.getpid()) - 100))
    with own(job):
        pass


def test_a_zombie_is_dead(job):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    put(job, an_owner(pid=child.pid, started_at=ownership._started_at(child.pid)))
    with pytest.raises(JobIsOwned), own(job):
        pass
    child.send_signal(signal.SIGKILL)
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    with own(job):
        pass
    child.wait()


def test_a_clock_that_was_set_kills_nobody(job, monkeypatch):
    """Linux reckons the start of a process from the time of the boot, which moves with the clock."""
    with own(job):
        ask = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: ask(self) + 3600)
        with pytest.raises(JobIsOwned), own(job):
            pass


def test_an_owner_of_this_process_that_was_not_released_is_dead(job):
    put(job, an_owner())
    with own(job):
        pass


def make_flow_run(state):
    from prefect import flow

    @flow
    def somewhere():
        pass

    return str(call_api(lambda client: client.create_flow_run(somewhere, state=state)).id)


@pytest.mark.parametrize(
    ("state", "age", "dead"),
    [(Running(), 5, False), (Running(), 120, True), (Completed(), 5, True), (None, 5, True)],
)
def test_elsewhere_its_flow_run_and_its_heartbeat_tell(job, state, age, dead):
    run_id = make_flow_run(state) if state else str(uuid.uuid4())
    heartbeat = (now() - timedelta(seconds=age)).isoformat()
    put(job, an_owner(host="elsewhere", run_id=run_id, heartbeat=heartbeat))
    if dead:
        with own(job):
            pass
    else:
        with pytest.raises(JobIsOwned, match="on elsewhere"), own(job):
            pass


def test_a_flow_run_that_prefect_starts_anew_replaces_itself(job):
    run_id = make_flow_run(Running())
    put(job, an_owner(host="elsewhere", run_id=run_id, attempt=1))
    with own_job(job, run_id, 2):
        pass


def test_a_flow_run_that_prefect_starts_anew_waits_for_a_process_that_still_lives(job):
    run_id = make_flow_run(Running())
    with own_job(job, run_id, 1), pytest.raises(JobIsOwned), own_job(job, run_id, 2):
        pass


def test_of_many_that_start_at_once_one_wins(job):
    put(job, an_owner(pid=2**22 + 1))
    results, together, hold = [], threading.Barrier(8), threading.Event()

    def start():
        together.wait()
        try:
            with own(job):
                results.append("won")
                hold.wait(20)
        except JobIsOwned:
            results.append("refused")
        if results.count("refused") == 7:
            hold.set()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused"] * 7 + ["won"]


def test_the_heart_beats(job, monkeypatch):
    monkeypatch.setattr(ownership, "HEARTBEAT_SECONDS", 0.05)
    with own(job) as owned:
        first = owned.owner.heartbeat
        beaten = threading.Event()
        for _ in range(100):
            saved = call_api(lambda client: client.read_variable_by_name(ownership._variable(job)))
            if ownership._owner(saved.value).heartbeat != first:
                beaten.set()
                break
            beaten.wait(0.05)
        assert beaten.is_set()


def test_who_was_taken_for_dead_stops_without_saving(job, sqlite, tmp_path):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY)")
    sqlite.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(3000)])

    def process(record):
        if record["id"] == 2100:
            taken = call_api(lambda client: client.read_variable_by_name(ownership._variable(job)))
            call_api(lambda client: ownership._delete(client, taken.id))
            put(job, replace(an_owner(), token="the new one", host="elsewhere"))
        return record

    with pytest.raises(LostOwnership, match="taken over by another run"):
        process_records(
            job=job,
            source=Table(sqlite.url, "t", key="id"),
            process=process,
            sink=Table(sqlite.url, "out", key="id"),
            chunk_size=500,
            concurrency=1,
            dead_letters=str(tmp_path),
        )
    assert status(job).tally.read == 2000
    assert load_cursor(job).status == "running"
    # And the new owner's right is left alone.
    assert not gone(job)
    taken = call_api(lambda client: client.read_variable_by_name(ownership._variable(job)))
    call_api(lambda client: ownership._delete(client, taken.id))
    put(job, an_owner(token="killed", heartbeat="2026-01-02T03:04:05+00:00"))
    assert status(job).status == "died"
    assert status(job).message == (
        "the run gave its last sign of life at 2026-01-02 03:04:05 UTC; the next run resumes the pass"
    )
