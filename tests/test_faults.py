"""Faults that a night brings: each ends in a retry, or in a clear sentence and a state to go on from."""

import json
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import event

from prefect_batch import ChunkFailed, Table, dead_letters, process_records, status
from prefect_batch.blocks.databases.connections import open_engine
from prefect_batch.blocks.errors import BadCursor
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.flows.operations.reset import reset_job

ROWS = 7000


def fill(database, sink_rows=0):
    database.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY, n INTEGER)"
    )
    database.many("INSERT INTO numbers VALUES (:id)", [{"id": n} for n in range(ROWS)])
    if sink_rows:
        database.many("INSERT INTO out VALUES (:id, 0)", [{"id": n} for n in range(sink_rows)])


@pytest.fixture
def run(server, job, tmp_path):
    def call(database, process, **parameters):
        return process_records(
            job=job,
            source=Table(database.url, "numbers", key="id"),
            process=process,
            sink=Table(database.url, "out", key="id"),
            **{
                "dead_letters": str(tmp_path / "letters"),
                "chunk_size": ROWS,
                "retry_delay_seconds": 0.2,
                "concurrency": 1,
                **parameters,
            },
        )

    return call


def complete(database):
    return database.rows("SELECT id, n FROM out ORDER BY id") == [(n, 1) for n in range(ROWS)]


def once(at, action):
    """A processor that does something the first time it sees this record."""
    left = [1]

    def process(record):
        if record["id"] == at and left:
            left.clear()
            action()
        return {"id": record["id"], "n": 1}

    return process


def test_connections_that_are_killed_in_mid_chunk(postgresql, run):
    fill(postgresql)

    def kill():
        killed = postgresql.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert len(killed) >= 2  # Reading and writing.

    report = run(postgresql, once(6500, kill))
    assert complete(postgresql)
    assert report.run.retries == 1
    assert (report.run.read, report.run.failed) == (ROWS, 0)


def test_a_deadlock(postgresql, run):
    fill(postgresql, sink_rows=ROWS)
    other = postgresql.engine.connect()

    def wait_and_let_go():
        other.exec_driver_sql("UPDATE out SET n = 2 WHERE id = 2000")
        other.rollback()

    waiting = threading.Thread(target=wait_and_let_go)

    def collide():
        """Lock a row of the second batch, and wait for one of the first; who waits less long loses."""
        other.exec_driver_sql("SET deadlock_timeout = '60s'")
        other.exec_driver_sql("UPDATE out SET n = 2 WHERE id = 6900")
        waiting.start()

    report = run(postgresql, once(6500, collide))
    waiting.join()
    other.close()
    assert report.run.retries == 1
    assert report.run.failed == 0
    assert complete(postgresql)


def test_a_database_that_is_locked(sqlite, run):
    fill(sqlite)

    @event.listens_for(open_engine(sqlite.url), "connect")
    def impatient(connection, _record):
        connection.execute("PRAGMA busy_timeout = 50")

    locks = sqlite3.connect(sqlite.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)

    def lock():
        locks.execute("BEGIN IMMEDIATE")
        threading.Timer(0.6, locks.execute, ("ROLLBACK",)).start()

    report = run(sqlite, once(2, lock))
    locks.close()
    assert report.run.retries >= 1
    assert complete(sqlite)


def test_an_error_that_lasts_ends_with_what_it_was(sqlite, run, job):
    fill(sqlite)

    @event.listens_for(open_engine(sqlite.url), "connect")
    def impatient(connection, _record):
        connection.execute("PRAGMA busy_timeout = 50")

    locks = sqlite3.connect(sqlite.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    process = once(2, lambda: locks.execute("BEGIN IMMEDIATE"))
    with pytest.raises(ChunkFailed, match=r"chunk \(start, 999\] failed and was rolled back: .*database is locked"):
        run(sqlite, process, retries=2)
    assert status(job).status == "failed"
    locks.execute("ROLLBACK")
    locks.close()
    run(sqlite, process)
    assert complete(sqlite)


def test_a_place_that_vanishes_on_the_way(sqlite, run, job, tmp_path):
    fill(sqlite)
    place, aside = tmp_path / "letters" / job, tmp_path / "aside"

    def spoil():
        place.rename(aside)
        place.write_text("in the way")

    def process(record):
        spoiling(record)
        if record["id"] % 100 == 0:
            raise ValueError
        return {"id": record["id"], "n": 1}

    spoiling = once(1500, spoil)
    with pytest.raises(ChunkFailed, match="its marker _place is not there"):
        run(sqlite, process, chunk_size=1000)
    # The chunk whose letters could not be buried was not written either.
    assert sqlite.rows("SELECT max(id) FROM out") == [(999,)]
    place.unlink()
    aside.rename(place)
    run(sqlite, process, chunk_size=1000)
    assert sqlite.rows("SELECT count(*) FROM out") == [(ROWS - ROWS // 100,)]
    assert status(job).tally.read == ROWS


FULL = """
import os, resource, signal, sys
from prefect_batch import ChunkFailed, Table, process_records
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
url, job, letters = sys.argv[1:]
def process(record):
    raise ValueError(os.urandom(2000).hex())
try:
    process_records(job=job, source=Table(url, "numbers", key="id"), process=process, chunk_size=1000,
        sink=Table(url, "out", key="id"), dead_letters=letters, max_failure_rate=1, concurrency=1)
except ChunkFailed as error:
    print("refused:", error)
"""


def test_a_place_that_is_full(postgresql, server, job, tmp_path):
    fill(postgresql)
    command = [sys.executable, "-c", FULL, postgresql.url, job, str(tmp_path / "letters")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "refused:" in done.stdout, done.stdout + done.stderr
    assert "File too large" in done.stdout
    assert status(job).tally.read == 0
    # No half file is left.
    assert [f for f in (tmp_path / "letters").rglob("*") if f.is_file() and f.name != "_place"] == []


def test_the_prefect_server_away_for_twenty_seconds(sqlite, run, server, job):
    fill(sqlite)

    def stop():
        server.stop()
        threading.Timer(20, server.start).start()

    started = time.monotonic()
    run(sqlite, once(2500, stop), chunk_size=500)
    assert time.monotonic() - started > 20
    assert complete(sqlite)
    assert status(job).status == "complete"


def test_a_cursor_edited_to_nonsense_is_refused_and_can_be_reset(sqlite, run, job, tmp_path):
    from prefect.client.schemas.actions import BlockDocumentUpdate

    fill(sqlite)

    def process(record):
        if record["id"] % 100 == 0:
            raise ValueError
        return {"id": record["id"], "n": 1}

    run(sqlite, process, limit=2000, chunk_size=1000)
    store = CursorStore(job)
    store.load()
    for field, value in (("position", {"upper": 7}), ("schema_version", 99), ("tally", "x"), ("run", {})):
        saved = call_api(lambda client: client.read_block_document(store._id)).data
        broken = BlockDocumentUpdate(data={**saved, field: value}, merge_existing_data=False)
        call_api(lambda client: client.update_block_document(store._id, broken))  # noqa: B023
        with pytest.raises(BadCursor, match=f"prefect-batch reset {job}"):
            run(sqlite, process)
        restore = BlockDocumentUpdate(data=saved, merge_existing_data=False)
        call_api(lambda client: client.update_block_document(store._id, restore))  # noqa: B023
    unknown = BlockDocumentUpdate(data={**saved, "schema_version": 99}, merge_existing_data=False)
    call_api(lambda client: client.update_block_document(store._id, unknown))
    sentence = f"the cursor of {job} has version 99, and this prefect-batch reads version 1: use the version that wrote"
    with pytest.raises(BadCursor, match=sentence):
        status(job)
    call_api(lambda client: client.update_block_document(store._id, broken))
    reset_job(job)
    report = run(sqlite, process)
    # The letters of the pass that was given up are not mixed with the new one's.
    assert (report.pass_number, report.run.read) == (2, ROWS)
    assert len(dead_letters(job)) == ROWS // 100
    assert len(dead_letters(job, pass_number=1)) == 20


SLOW = """
import sys, time
from prefect_batch import Table, process_records
url, job, letters = sys.argv[1:]
def process(record):
    if record["id"] % 100 == 50:
        time.sleep(0.1)
    if record["id"] == 1050:
        print("in the second chunk", flush=True)
    return {"id": record["id"], "n": 1}
process_records(job=job, source=Table(url, "numbers", key="id"), process=process, chunk_size=1000,
    sink=Table(url, "out", key="id"), dead_letters=letters, concurrency=1)
"""


@pytest.fixture
def slow(sqlite, server, job, tmp_path):
    """A run in a process of its own, about in the middle of its second chunk, and a function that runs it again."""
    fill(sqlite)
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    command = [sys.executable, script, sqlite.url, job, str(tmp_path / "letters")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "in the second chunk\n"
    yield child, lambda: subprocess.run(command, capture_output=True, text=True, check=True)
    child.kill()
    child.communicate()


def flow_run_state(job):
    run_id = status(job).run_id
    return call_api(lambda client: client.read_flow_run(run_id)).state


def test_one_interrupt_finishes_the_chunk_in_hand_and_stops(slow, sqlite, job):
    child, again = slow
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode != 0
    assert "CancelledRun" in errors
    assert status(job).tally.read == 2000
    assert status(job).status == "stopped"
    assert status(job).message == "interrupted by Ctrl-C"
    state = flow_run_state(job)
    assert (state.type.value, state.name) == ("CANCELLED", "Stopped")
    assert "call it again to go on" in state.message
    again()
    assert complete(sqlite)


def test_two_interrupts_stop_at_once_and_roll_the_chunk_back(slow, sqlite, job):
    child, again = slow
    child.send_signal(signal.SIGINT)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=120)
    assert child.returncode != 0
    assert status(job).tally.read in (1000, 2000)
    assert status(job).status == "stopped"
    again()
    assert complete(sqlite)


def test_sigterm_finishes_the_chunk_in_hand_and_stops(slow, sqlite, job):
    child, again = slow
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=120)
    assert child.returncode != 0
    assert status(job).tally.read == 2000
    assert status(job).status == "stopped"
    assert "SIGTERM" in status(job).message
    again()
    assert complete(sqlite)


def test_resources_are_let_go(sqlite, run):
    """No file stays open, and no thread, when a run has ended."""
    fill(sqlite)
    run(sqlite, once(-1, None))
    before = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        run(sqlite, once(-1, None))
    time.sleep(0.5)
    after = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + 5
    assert json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE))
