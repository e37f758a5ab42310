"""The circuit breaker: a sink that takes nothing stops the run, and nothing of the chunks that it refused is buried."""

import contextlib
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_batch import ChunkFailed, CircuitOpen, Table, dead_letters, process_records, status
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, Tally
from prefect_batch.blocks.databases.connections import close_engines
from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.errors import SinkRefuses, UnknownColumn
from prefect_batch.blocks.letters.bury import DeadLetters
from prefect_batch.blocks.opening import open_source
from prefect_batch.flows.run.circuit_breaker import Circuit
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item
from prefect_batch.tasks.work.refusals import ENOUGH_RECORDS, Refusals
from prefect_batch.tasks.work.work_chunk import ChunkJob, forget, work_chunk

ROWS, CHUNK = 600, 50
ALL = [(n, n) for n in range(ROWS)]


def copy(record):
    return {"id": record["id"], "n": record["id"]}


@pytest.fixture(params=["sqlite"])
def ends(request, tmp_path):
    database = request.getfixturevalue(request.param)
    database.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY)",
        "CREATE TABLE out (id INTEGER PRIMARY KEY, n INTEGER, CHECK (n < 10000))",
    )
    database.many("INSERT INTO numbers VALUES (:id)", [{"id": n} for n in range(ROWS)])
    return database


@pytest.fixture
def run(server, ends, job, tmp_path):
    def call(process=copy, **parameters):
        parameters = {"chunk_size": CHUNK, "concurrency": 1, "max_failure_rate": 1, **parameters}
        return process_records(
            job=job,
            source=Table(ends.url, "numbers", key="id"),
            process=process,
            sink=Table(ends.url, "out", key="id"),
            dead_letters=str(tmp_path / "letters"),
            **parameters,
        )

    return call


def break_sink(database, condition="NEW.id >= 0"):
    """From now on a trigger refuses every such row, as one does whose own table was changed under it."""
    if database.kind == "sqlite":
        database.run(
            f"CREATE TRIGGER broken BEFORE INSERT ON out WHEN {condition} "
            "BEGIN SELECT RAISE(ABORT, 'out of order'); END"
        )
        return
    database.run(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'out of order'; END$$",
        f"CREATE TRIGGER broken BEFORE INSERT ON out FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()",
    )


def mend_sink(database):
    database.run("DROP TRIGGER broken" + (" ON out" if database.kind == "postgresql" else ""))


def written(database):
    return database.rows("SELECT id, n FROM out ORDER BY id")


BOTH = pytest.mark.parametrize("ends", ["sqlite", "postgresql"], indirect=True)


@BOTH
def test_a_sink_that_refuses_everything_opens_the_circuit_and_buries_nothing(run, ends, job, tmp_path):
    break_sink(ends)
    with pytest.raises(
        CircuitOpen, match=r"took not one record of \d chunks in a row, \(start, 49\] to .*out of order"
    ):
        run(concurrency=2)
    assert len(dead_letters(job)) == 0
    assert [file for file in (tmp_path / "letters").rglob("*") if file.is_file() and file.name != "_place"] == []
    found = status(job)
    assert (found.status, found.tally.read, found.finished_upto) == ("failed", 0, None)
    assert "took not one record" in found.message
    mend_sink(ends)
    assert run().status == "complete"
    assert written(ends) == ALL
    assert (status(job).tally.read, status(job).tally.failed) == (ROWS, 0)


def test_a_sink_that_breaks_on_the_way_leaves_the_cursor_before_the_refused_chunks(run, ends, job):
    break_sink(ends, "NEW.id >= 220")
    with pytest.raises(CircuitOpen, match=r"3 chunks in a row, \(249, 299\] to \(349, 399\], and refused 150"):
        run()
    # The chunk in which some were taken counts, and its refused records are buried.
    assert status(job).finished_upto == "249"
    assert len(dead_letters(job)) == 30
    mend_sink(ends)
    run()
    assert written(ends) == [(n, m) for n, m in ALL if not 220 <= n < 250]
    tally = status(job).tally
    assert (tally.read, tally.written, tally.failed) == (ROWS, ROWS - 30, 30)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_chunks_that_hold_only_bad_records_are_buried_once_the_sink_is_known_to_be_well(run, ends, job, concurrency):
    bad = {*range(100, 200), *range(550, 600)}
    report = run(lambda r: {"id": r["id"], "n": r["id"] + 10_000 * (r["id"] in bad)}, concurrency=concurrency)
    assert (report.status, report.run.failed) == ("complete", 150)
    assert written(ends) == [(n, m) for n, m in ALL if n not in bad]
    assert len(dead_letters(job)) == 150


def test_it_can_be_turned_off(run, ends, job):
    break_sink(ends)
    report = run(circuit_breaker=None)
    assert (report.status, report.run.failed) == ("complete", ROWS)
    assert len(dead_letters(job)) == ROWS


@pytest.mark.parametrize("ends", ["postgresql"], indirect=True)
def test_in_worker_processes_too(run, ends, job):
    break_sink(ends)
    with pytest.raises(CircuitOpen, match="out of order"):
        run(workers="processes", concurrency=2)
    assert len(dead_letters(job)) == 0


def test_a_column_whose_privilege_was_revoked_buries_nothing(postgresql, server, job, tmp_path):
    role = f"batch_{job.replace('-', '_')}"
    postgresql.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY)",
        "CREATE TABLE out (id INTEGER PRIMARY KEY, n INTEGER)",
        "INSERT INTO numbers SELECT generate_series(0, 599)",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT, INSERT (id), UPDATE (id) ON out TO {role}",
    )
    try:
        with pytest.raises(ChunkFailed, match="permission denied"):
            process_records(
                job=job,
                source=Table(postgresql.url, "numbers", key="id"),
                process=copy,
                sink=Table(postgresql.url.replace("root@", f"{role}@"), "out", key="id"),
                dead_letters=str(tmp_path / "letters"),
            )
        assert status(job).tally.read == 0
        assert len(dead_letters(job)) == 0
    finally:
        close_engines()
        postgresql.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_letters_of_a_killed_attempt_go_when_the_chunk_is_held_back(ends, tmp_path, job):
    source, sink = Table(ends.url, "numbers", key="id"), Table(ends.url, "out", key="id")
    place = str(tmp_path / "letters")
    chunk = ChunkRange(None, (49,))
    with DeadLetters(place, job, 1, open_source(source).schema).open(chunk, "of a killed attempt") as burial:
        burial.add([DeadLetter((7,), "write", "E", "", "", 1, datetime.now(UTC), {"id": 7})])
        path = Path(burial.finish())
    break_sink(ends)
    asked = ChunkJob(job, 1, "id", f"run-{job}", source, sink, copy, place, hold_refused=True)
    with pytest.raises(SinkRefuses, match="took none of the first 50 records"):
        work_chunk(asked, chunk)
    forget(asked.run_id)
    assert not path.exists()


class Dead:
    """A sink's transaction that takes nothing."""

    calls = 0

    def write(self, _records):
        self.calls += 1
        raise ValueError("out of order")

    def savepoint(self):
        return contextlib.nullcontext()


def test_a_sink_that_takes_nothing_is_given_up_long_before_all_was_tried():
    dead = Dead()
    with pytest.raises(SinkRefuses, match=f"first {ENOUGH_RECORDS:,} records"):
        isolate(dead, [Item(n, [{}]) for n in range(50_000)], Refusals(hold=True))
    assert dead.calls < 2 * ENOUGH_RECORDS + math.log2(50_000) + 1


def test_what_the_processor_did_wrong_is_not_the_sinks_fault():
    refusals = Refusals(hold=True)
    refusals.refused(UnknownColumn("table out has no column m"))
    for _ in range(2 * ENOUGH_RECORDS):
        refusals.refused(ValueError("out of order"))
    refusals.end()


CHUNKS = [ChunkRange(None if n == 0 else (n - 1,), (n,)) for n in range(12)]


@given(st.lists(st.sampled_from(["written", "refused", "filtered"]), max_size=12), st.integers(1, 5))
def test_one_after_the_other_it_opens_at_the_nth_refused_chunk_without_a_written_one_between(outcomes, limit):
    circuit, opened, in_a_row = Circuit("j", limit), None, 0
    for clock, (chunk, outcome) in enumerate(zip(CHUNKS, outcomes, strict=False)):
        if outcome == "refused":
            opened = circuit.hold(chunk, SinkRefuses(1, "E"), clock + 0.5)
            in_a_row += 1
        else:
            circuit.see(ChunkResult(chunk, Tally(1, outcome == "written", outcome == "filtered"), started_at=clock))
            in_a_row = 0 if outcome == "written" else in_a_row
        assert bool(opened) is (in_a_row >= limit)
        assert len(circuit.held) == in_a_row
        if opened:
            return
    # Nothing is forgotten: what was refused is held, or may be buried.
    refused = {chunk for chunk, outcome in zip(CHUNKS, outcomes, strict=False) if outcome == "refused"}
    assert circuit.settle() is None
    assert circuit.held == set()
    assert {chunk for chunk in CHUNKS if circuit.may_bury(chunk)} == refused


@given(st.lists(st.integers(1, 900), min_size=1, max_size=2), st.booleans())
def test_few_refused_records_are_no_sign_of_a_dead_sink_and_many_are_when_none_was_taken(refused, taken):
    """With fewer chunks than the limit, at the end of the pass."""
    circuit = Circuit("j", 3)
    if taken:
        circuit.see(ChunkResult(CHUNKS[5], Tally(1, 1)))
    for chunk, records in zip(CHUNKS, refused, strict=False):
        assert circuit.hold(chunk, SinkRefuses(records, "E"), 1.0) is None
    many = sum(refused) >= ENOUGH_RECORDS and not taken
    assert bool(circuit.settle()) is many
    assert len(circuit.held) == (len(refused) if many else 0)


def test_a_chunk_that_began_before_another_was_refused_proves_nothing():
    circuit = Circuit("j", 3)
    circuit.hold(CHUNKS[0], SinkRefuses(1, "E"), 10.0)
    circuit.see(ChunkResult(CHUNKS[1], Tally(1, 1), started_at=9.0))
    assert circuit.held == {CHUNKS[0]}
    circuit.see(ChunkResult(CHUNKS[2], Tally(1, 1), started_at=10.0))
    assert circuit.held == set()
    assert circuit.may_bury(CHUNKS[0])
