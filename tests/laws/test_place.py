"""A place of letters that is away, such as a disk that is not mounted, is never taken for an empty one."""

import pytest

from prefect_batch import (
    ChunkFailed,
    Table,
    dead_letters,
    discard_dead_letters,
    failures,
    process_records,
    reconcile,
    replay_dead_letters,
    status,
)
from prefect_batch.blocks.errors import BadPlace
from prefect_batch.flows.operations.reset import reset_job

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "disk" / "letters"


@pytest.fixture
def run(sqlite, job, place):
    sqlite.run("CREATE TABLE numbers (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY)")
    sqlite.many("INSERT INTO numbers VALUES (:id)", [{"id": n} for n in range(200)])

    def call(at=lambda _: None, **parameters):
        def some(record):
            at(record["id"])
            if record["id"] % 50 == 7:
                raise ValueError("seven")
            return record

        return process_records(
            job=job,
            source=Table(sqlite.url, "numbers", key="id"),
            process=some,
            sink=Table(sqlite.url, "out", key="id"),
            **{"chunk_size": 50, "workers": "threads", "dead_letters": str(place), **parameters},
        )

    return call


def unmount(place):
    place.parent.rename(place.parent.with_name("away"))


def mount(place):
    place.parent.with_name("away").rename(place.parent)


def test_it_is_refused_and_nothing_is_written_below_the_mount_point(run, job, place):
    run(limit=100)
    unmount(place)
    for asks in (
        run,
        lambda: failures(job),
        lambda: dead_letters(job),
        lambda: replay_dead_letters(job, process=dict),
        lambda: reconcile(job),
        lambda: discard_dead_letters(job, reason="old"),
    ):
        with pytest.raises(BadPlace, match="is a disk not mounted"):
            asks()
    assert not place.parent.exists()
    mount(place)
    assert run().status == "complete"
    assert len(dead_letters(job)) == status(job).tally.failed == 4


def test_it_goes_away_during_a_run(run, job, place):
    with pytest.raises(ChunkFailed, match="is a disk not mounted"):
        run(at=lambda n: unmount(place) if n == 100 else None, retries=0)
    assert not place.parent.exists()
    mount(place)
    assert run(at=lambda _: None).status == "complete"
    assert len(dead_letters(job)) == status(job).tally.failed == 4


def test_after_a_reset_the_place_is_a_new_one(run, job, place):
    run(limit=100)
    unmount(place)
    reset_job(job)
    assert run().status == "complete"
    assert len(dead_letters(job)) == 4
