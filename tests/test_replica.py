"""The health check `replica_lag` on real replicas: while one is behind, a run waits and says so."""

import threading
import time

import pytest
from sqlalchemy.exc import DBAPIError

from prefect_batch import HealthCheck, Table, process_records, status
from prefect_batch.blocks.errors import BadParameter, UnknownJob
from prefect_batch.blocks.health import look
from tests import replicas

ROWS = 2000


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def pair(request):
    """A primary with a table of numbers, and its replica."""
    with getattr(replicas, f"{request.param}_pair")() as pair:
        pair.primary.run(
            "CREATE TABLE numbers (id INTEGER PRIMARY KEY)", "CREATE TABLE written (id INTEGER PRIMARY KEY, n INTEGER)"
        )
        yield pair


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def has_caught_up(pair):
    """The replica has the newest row of the primary."""
    newest = "SELECT max(id) FROM numbers"
    try:
        return pair.replica.rows(newest) == pair.primary.rows(newest)
    except DBAPIError:  # Not even the table.
        return False


def lag(database, limit=0.0):
    return look(HealthCheck("replica_lag", limit, database.url))


def write(pair):
    pair.primary.run("INSERT INTO numbers SELECT coalesce(max(id), 0) + 1 FROM numbers")


def test_it_is_told_how_far_behind_a_replica_is(pair):
    write(pair)
    wait_for(lambda: has_caught_up(pair) and lag(pair.replica, 1) is None)
    with pair.held():
        write(pair)
        assert wait_for(lambda: lag(pair.replica, 1)).startswith("the replica lag is ")
        assert wait_for(lambda: lag(pair.replica, 2)).endswith(" s, above 2 s")
        assert lag(pair.replica, 3600) is None
    wait_for(lambda: has_caught_up(pair) and lag(pair.replica, 1) is None)


def test_a_replica_that_is_cut_off_is_a_reason_to_wait(pair):
    """It may be any time behind, and does not know it."""
    write(pair)
    wait_for(lambda: has_caught_up(pair) and lag(pair.replica, 1) is None)
    with pair.cut_off():
        assert wait_for(lambda: lag(pair.replica, 3600)) == "the replica lag gives no number"
    wait_for(lambda: lag(pair.replica, 3600) is None)


def test_a_primary_knows_the_slowest_of_its_replicas(pair):
    if pair.primary.kind == "mariadb":
        with pytest.raises(BadParameter, match="name the connection of a replica for replica_lag"):
            lag(pair.primary)
        return
    with pair.held():
        write(pair)
        assert wait_for(lambda: lag(pair.primary, 1)).startswith("the replica lag is ")
    wait_for(lambda: lag(pair.primary, 1) is None)


def test_a_run_waits_for_the_replica(pair, server, job, tmp_path):
    pair.primary.run("DELETE FROM numbers", "DELETE FROM written")
    pair.primary.many("INSERT INTO numbers VALUES (:id)", [{"id": n} for n in range(ROWS)])
    wait_for(lambda: has_caught_up(pair))
    behind, shown = threading.Event(), []

    def hold():
        with pair.held():
            write(pair)
            wait_for(lambda: lag(pair.replica, 1))
            behind.set()
            shown.append(wait_for(lambda: waits_for(job)))

    holding = threading.Thread(target=hold)
    holding.start()
    behind.wait(60)
    report = process_records(
        job=job,
        source=Table(pair.primary.url, "numbers", key="id"),
        process=lambda record: {"id": record["id"], "n": 1},
        sink=Table(pair.primary.url, "written", key="id"),
        health=[HealthCheck("replica_lag", 1, pair.replica.url, every_seconds=0.2)],
        dead_letters=str(tmp_path),
    )
    holding.join()
    assert report.status == "complete"
    assert shown[0].startswith("the replica lag is ")
    assert shown[0].endswith(" s, above 1 s")
    assert pair.primary.rows("SELECT count(*) FROM written") == [(ROWS + 1,)]


def waits_for(job):
    try:
        return status(job).waiting
    except UnknownJob:
        return ""
