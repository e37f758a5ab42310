"""The flow, called directly, on a real Prefect server."""

import asyncio
import json
import logging
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import CrashedRun
from prefect.futures import PrefectConcurrentFuture
from prefect.settings import PREFECT_HOME

from prefect_batch import (
    ChunkFailed,
    FailureRateExceeded,
    Files,
    RunStopped,
    SkipRecord,
    StopBatch,
    Table,
    dead_letters,
    process_records,
    status,
)
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.flows.run.parameters import JobParameters, Parameters
from prefect_batch.flows.run.run_job import preview

pytestmark = pytest.mark.usefixtures("server")


def double(record):
    if record["n"] % 50 == 49:
        raise ValueError(f"cannot double {record['n']}")
    return {"id": record["id"], "doubled": 2 * record["n"]}


@pytest.fixture
def numbers(sqlite):
    sqlite.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, n INTEGER)", "CREATE TABLE out (id INTEGER PRIMARY KEY, doubled)"
    )
    sqlite.many("INSERT INTO numbers VALUES (:id, :n)", [{"id": i, "n": i} for i in range(3000)])
    return sqlite


@pytest.fixture
def run(numbers, job, tmp_path):
    def call(process=double, source=None, sink=None, **parameters):
        return process_records(
            job=job,
            source=source or Table(numbers.url, "numbers", key="id"),
            process=process,
            sink=sink or Table(numbers.url, "out", key="id"),
            **{"chunk_size": 500, "dead_letters": str(tmp_path / "letters"), **parameters},
        )

    return call


EXPECTED = [(i, 2 * i) for i in range(3000) if i % 50 != 49]


def test_every_record_is_in_the_sink_or_in_a_letter(run, numbers, job):
    report = run()
    assert numbers.rows("SELECT * FROM out ORDER BY id") == EXPECTED
    letters = dead_letters(job)
    assert sorted(json.loads(key)[0] for key in letters["key"]) == list(range(49, 3000, 50))
    assert report.status == "complete"
    assert (report.run.read, report.run.written, report.run.filtered, report.run.failed) == (3000, 2940, 0, 60)
    assert report.errors[0].error_type == "ValueError"
    assert report.errors[0].count == 60
    first = letters.iloc[0]
    assert first["error_message"] == "cannot double 49"
    assert first["stage"] == "process"
    assert "in double" in first["traceback"]
    assert "prefect_batch" not in first["traceback"]
    assert first["record"] == {"id": 49, "n": 49}


def test_a_second_call_starts_the_next_pass(run, job):
    assert run().pass_number == 1
    assert run().pass_number == 2
    assert len(dead_letters(job)) == 60
    assert len(dead_letters(job, pass_number=1)) == 60


def test_none_and_skip_record_filter(run, numbers):
    def process(record):
        if record["n"] % 2:
            raise SkipRecord
        return {"id": record["id"], "doubled": 0} if record["n"] % 4 else None

    report = run(process)
    assert (report.run.filtered, report.run.written, report.run.failed) == (2250, 750, 0)
    assert numbers.rows("SELECT count(*) FROM out") == [(750,)]


def test_one_record_may_write_several_rows(run, numbers):
    report = run(lambda r: [{"id": 10 * r["id"], "doubled": 1}, {"id": 10 * r["id"] + 1, "doubled": 2}], limit=500)
    assert (report.run.written, report.run.rows_written) == (500, 1000)
    assert numbers.rows("SELECT count(*) FROM out") == [(1000,)]


def test_an_output_that_is_no_record_is_a_failure_of_its_record(run):
    with pytest.raises(FailureRateExceeded, match="BadOutput"):
        run(lambda record: record["n"])


def test_an_interrupt_before_a_chunk_is_watched_does_not_wait_for_ever(run, numbers, job, monkeypatch):
    watch = PrefectConcurrentFuture.add_done_callback
    watched = []

    def interrupted(self, callback):
        watched.append(self)
        if len(watched) == 3:
            raise KeyboardInterrupt
        watch(self, callback)

    monkeypatch.setattr(PrefectConcurrentFuture, "add_done_callback", interrupted)
    with pytest.raises((KeyboardInterrupt, CrashedRun)):
        run(concurrency=3)
    assert status(job).status == "stopped"
    monkeypatch.undo()
    run()
    assert numbers.rows("SELECT * FROM out ORDER BY id") == EXPECTED


def test_stop_batch_stops_the_run_and_leaves_it_resumable(run, numbers, job):
    def process(record):
        if record["n"] == 1700 and armed:
            raise StopBatch("the price list is missing")
        return double(record)

    armed = [True]
    with pytest.raises(RunStopped, match="the price list is missing"):
        run(process)
    assert status(job).status == "failed"
    assert status(job).tally.read == 1500
    armed.clear()
    report = run(process)
    assert report.run.read == 1500
    assert numbers.rows("SELECT * FROM out ORDER BY id") == EXPECTED


def test_more_failures_than_the_rate_allows_stop_the_run_with_reasons(run, job, numbers):
    def process(record):
        if record["n"] >= 1000 and record["n"] % 5 == 0:
            raise KeyError("price")
        return {"id": record["id"], "doubled": 1}

    with pytest.raises(FailureRateExceeded) as raised:
        run(process)
    message = str(raised.value)
    assert "100 of 1,500 records failed (6.67%), more than max_failure_rate=0.05 allows" in message
    assert "100 × KeyError: 'price' (key 1000)" in message
    assert "letters" in message
    assert status(job).status == "failed"
    # The chunk that crosses the limit is complete, and counted.
    assert status(job).tally.read == 1500
    assert len(dead_letters(job)) == 100
    assert numbers.rows("SELECT count(*) FROM out") == [(1400,)]
    # It goes on where it stopped, and the rate is of the new run alone.
    report = run(process, max_failure_rate=0.2)
    assert report.run.read == 1500
    assert report.whole.read == 3000


def test_exactly_the_rate_is_allowed(run):
    def process(record):
        if record["n"] % 20 == 0:
            raise ValueError
        return {"id": record["id"], "doubled": 1}

    assert run(process).run.failed == 150


def test_a_small_run_is_judged_at_its_end(run, numbers):
    numbers.run("DELETE FROM numbers WHERE id >= 10")

    def process(record):
        if record["n"] == 3:
            raise ValueError
        return {"id": record["id"], "doubled": 1}

    with pytest.raises(FailureRateExceeded, match=r"1 of 10 records failed \(10.00%\)"):
        run(process)


def test_max_failures_is_a_count(run):
    with pytest.raises(FailureRateExceeded, match="10 records failed, more than max_failures=5"):
        run(max_failures=5, concurrency=1)


def test_prefect_does_not_retry_what_the_limit_stopped(numbers, job, tmp_path):
    calls = []

    def process(record):
        calls.append(record["id"])
        raise ValueError

    with pytest.raises(FailureRateExceeded):
        process_records.with_options(retries=3, retry_delay_seconds=0)(
            job=job,
            source=Table(numbers.url, "numbers", key="id"),
            process=process,
            sink=Table(numbers.url, "out", key="id"),
            chunk_size=1000,
            dead_letters=str(tmp_path),
        )
    assert len(calls) == 1000


def test_a_failure_is_a_sentence_in_the_log_and_no_traceback(run, caplog):
    with pytest.raises(FailureRateExceeded) as raised:
        run(max_failures=0)
    assert "Traceback" not in caplog.text
    assert raised.traceback[-1].name != "result"


def test_a_limit_stops_and_the_next_run_goes_on(run, job, numbers):
    report = run(limit=700)
    assert (report.status, report.run.read) == ("stopped", 700)
    assert run(limit=700).whole.read == 1400
    report = run()
    assert (report.status, report.run.read, report.whole.read) == ("complete", 1600, 3000)
    assert numbers.rows("SELECT * FROM out ORDER BY id") == EXPECTED
    assert len(dead_letters(job)) == 60


def test_a_dry_run_processes_and_changes_nothing(run, job, numbers, tmp_path):
    report = run(dry_run=True)
    assert (report.status, report.run.read, report.run.failed) == ("dry run", 3000, 60)
    assert numbers.rows("SELECT count(*) FROM out") == [(0,)]
    assert not (tmp_path / "letters").exists()
    with pytest.raises(KeyError, match="no job"):
        status(job)


class Traces:
    """All that a run may leave: files, tables, and what Prefect keeps of a job besides the runs themselves."""

    def __init__(self, job, place, database):
        self.job, self.place, self.database = job, place, database
        self.seen = self.look()

    def look(self):
        files = sorted(str(path) for path in self.place.rglob("*") if not path.name.startswith("test.db"))
        home = sorted(str(path) for path in Path(PREFECT_HOME.value()).rglob("*") if self.job in str(path))
        return self.kept(), files, home, self.database.rows("SELECT name FROM sqlite_master ORDER BY name")

    def kept(self):
        answers = [
            call_api(
                partial(SyncPrefectClient.request, method="POST", path=f"/{kind}/filter", json={"sort": by})
            ).json()
            for kind, by in (
                ("variables", "CREATED_DESC"),
                ("artifacts", "CREATED_DESC"),
                ("block_documents", "NAME_ASC"),
            )
        ]
        names = [one.get("name") or one.get("key") or "" for found in answers for one in found]
        return sorted(name for name in names if self.job in name or self.job.replace("-", "_") in name)

    def check(self):
        assert self.look() == self.seen


def raises(kind):
    def replacement():
        raise kind

    return replacement


SINKS = {
    "upsert": lambda url, _: Table(url, "out", key="id"),
    "append": lambda url, _: Table(url, "out", key="id", write="append"),
    "in place": lambda url, _: Table(url, "numbers", key="id", write="update"),
    "to be made": lambda url, _: Table(url, "new", key="id", create=True),
    "a new database": lambda _, place: Table(f"sqlite:///{place}/new.db", "new", key="id", create=True, write="append"),
    "files": lambda _, place: Files(f"{place}/new/files", "parquet"),
}


@pytest.mark.parametrize("sink", SINKS)
def test_a_dry_run_and_a_plan_leave_no_trace(run, numbers, job, tmp_path, monkeypatch, sink):
    for name, replacement in (("_known", []), ("_saved", raises(ValueError)), ("_create", raises(AssertionError))):
        monkeypatch.setattr(f"prefect_batch.blocks.letters.redaction.{name}", replacement)
    to = SINKS[sink](numbers.url, tmp_path)
    traces = Traces(job, tmp_path, numbers)
    assert run(dry_run=True, sink=to, redact=["n"], chunk_size=2000, workers="threads").run.read == 3000
    what = JobParameters(job=job, source=Table(numbers.url, "numbers", key="id"), process=double, sink=to)
    preview(Parameters(what), None, logging.getLogger(__name__))
    traces.check()


def test_restart_gives_an_unfinished_pass_up(run):
    run(limit=1000)
    report = run(restart=True)
    assert (report.pass_number, report.run.read, report.status) == (2, 3000, "complete")


def test_another_chunk_size_and_concurrency_go_on_where_it_stood(run, numbers):
    run(limit=1200, chunk_size=400)
    report = run(chunk_size=77, concurrency=3)
    assert report.run.read == 1800
    assert numbers.rows("SELECT * FROM out ORDER BY id") == EXPECTED


def test_incremental_reads_only_what_is_new(run, numbers):
    run(mode="incremental")
    assert run(mode="incremental").run.read == 0
    numbers.many("INSERT INTO numbers VALUES (:id, :n)", [{"id": i, "n": 0} for i in range(3000, 3010)])
    assert run(mode="incremental").run.read == 10
    assert run(mode="incremental", overlap=5).run.read == 5


def test_an_incremental_pass_without_new_rows_keeps_its_place(run, numbers):
    run(mode="incremental")
    run(mode="incremental")
    numbers.run("INSERT INTO numbers VALUES (3000, 0)")
    assert run(mode="incremental").run.read == 1


def test_a_duration_overlaps_keys_of_time(postgresql, run):
    postgresql.run("CREATE TABLE events (at timestamp PRIMARY KEY, id int)", "CREATE TABLE seen (id int PRIMARY KEY)")
    postgresql.run(
        "INSERT INTO events SELECT '2024-01-01'::timestamp + i * interval '1 minute', i FROM generate_series(1, 100) i"
    )
    again = partial(
        run,
        lambda r: {"id": r["id"]},
        source=Table(postgresql.url, "events", key="at"),
        sink=Table(postgresql.url, "seen", key="id"),
        mode="incremental",
    )
    assert again().run.read == 100
    assert again(overlap=timedelta(minutes=10)).run.read == 10


def test_record_retries_try_a_record_again(run):
    seen = {}

    def process(record):
        seen[record["n"]] = seen.get(record["n"], 0) + 1
        if record["n"] == 7 and seen[7] < 3:
            raise TimeoutError
        if record["n"] == 8:
            raise ValueError
        return {"id": record["id"], "doubled": 1}

    report = run(process, record_retries=2, limit=500)
    assert report.run.failed == 1
    assert (seen[7], seen[8], seen[9]) == (3, 3, 1)


def test_the_letter_counts_the_attempts(run, job):
    run(record_retries=1, limit=500)
    assert set(dead_letters(job)["attempts"]) == {2}


def test_a_record_that_the_sink_refuses_is_buried_alone(run, numbers, job):
    numbers.run("DROP TABLE out", "CREATE TABLE out (id INTEGER PRIMARY KEY, doubled INTEGER CHECK (doubled <> 600))")
    report = run(lambda r: {"id": r["id"], "doubled": 2 * r["n"]})
    assert (report.run.failed, report.run.written) == (1, 2999)
    letter = dead_letters(job).iloc[0]
    assert (letter["stage"], letter["key"], letter["error_type"]) == ("write", "[300]", "sqlite3.IntegrityError")
    assert "CHECK constraint failed" in letter["error_message"]


def test_a_sink_that_refuses_everything_fails_the_chunk_and_buries_nothing(run, numbers, job):
    numbers.run("CREATE TRIGGER gone BEFORE INSERT ON out WHEN NEW.id = 1800 BEGIN SELECT * FROM missing; END")
    with pytest.raises(ChunkFailed, match="no such table"):
        run(lambda r: {"id": r["id"], "doubled": 1})
    numbers.run("DROP TRIGGER gone")
    assert len(dead_letters(job)) == 0
    run(lambda r: {"id": r["id"], "doubled": 1})
    assert numbers.rows("SELECT count(*) FROM out") == [(3000,)]


def test_an_empty_source_is_a_complete_pass(run, numbers):
    numbers.run("DELETE FROM numbers")
    report = run()
    assert (report.status, report.run.read, report.run.chunks) == ("complete", 0, 0)


def test_appended_rows_are_not_repeated(run, numbers):
    numbers.run("DROP TABLE out", "CREATE TABLE out (id INTEGER, doubled INTEGER)")
    run(sink=Table(numbers.url, "out", key="id", write="append"), limit=1000)
    run(sink=Table(numbers.url, "out", key="id", write="append"))
    assert numbers.rows("SELECT * FROM out ORDER BY id") == EXPECTED
    assert numbers.rows("SELECT chunk FROM prefect_batch_chunks") == [("closed",)]


def test_a_pass_that_inserts_everything_again_is_warned_of(run, numbers, caplog):
    numbers.run("DROP TABLE out", "CREATE TABLE out (id INTEGER, doubled INTEGER)")
    again = partial(run, sink=Table(numbers.url, "out", key="id", write="append"))
    again()
    assert "reads every record again" not in caplog.text
    again(limit=500)
    sentence = "pass 2 reads every record again, and the rows that pass 1 has inserted stay: empty the sink first"
    assert sentence in caplog.text
    again(restart=True, write_again=True, limit=500)
    assert "pass 3 reads every record again" in caplog.text


def test_letters_that_stay_in_another_place_are_spoken_of(run, job, tmp_path, caplog):
    run(limit=1000)
    run(dead_letters=str(tmp_path / "elsewhere"))
    former, now = tmp_path / "letters", tmp_path / "elsewhere"
    assert f"the dead letters that this pass has buried so far stay in {former}: move them to {now}" in caplog.text
    for file in (former / job / "pass-000001").iterdir():
        file.rename(now / job / "pass-000001" / file.name)
    assert len(dead_letters(job)) == 60


def test_a_deployments_string_names_the_processor(run, monkeypatch, tmp_path):
    (tmp_path / "shop_orders.py").write_text(
        "from prefect_batch import processor\n@processor\ndef clean(r):\n    return {'id': r['id'], 'doubled': 5}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert run("shop_orders:clean").run.written == 3000


def test_it_runs_where_an_event_loop_is_running(run):
    async def cell():
        return run(limit=500)

    assert asyncio.run(cell()).run.read == 500


def test_a_script_without_a_main_guard_runs(numbers, tmp_path, job):
    script = tmp_path / "script.py"
    script.write_text(
        "from prefect_batch import Table, process_records\n"
        f"url = {numbers.url!r}\n"
        "def keep(r):\n    return {'id': r['id'], 'doubled': 1}\n"
        f"print(process_records(job={job!r}, source=Table(url, 'numbers', key='id'), process=keep,\n"
        f"      sink=Table(url, 'out', key='id'), dead_letters={str(tmp_path / 'letters')!r}))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert f"{job}: pass 1 complete" in done.stdout
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_a_table_is_made_from_the_first_records(run, numbers):
    numbers.run("DROP TABLE out")
    run(sink=Table(numbers.url, "out", key="id", create=True))
    assert numbers.rows("SELECT * FROM out ORDER BY id") == EXPECTED
