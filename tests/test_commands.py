"""The commands for jobs in files, for running jobs, and for what jobs have done."""

import json
import re
import threading
from pathlib import Path

import pytest
import yaml
from prefect.exceptions import CancelledRun

import prefect_batch
from prefect_batch import Table, process_records, status
from prefect_batch.blocks.errors import UnknownJob
from prefect_batch.blocks.parameters.run_window import RunWindow
from prefect_batch.blocks.state.cursor import MOST_RUNS, remember
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.blocks.state.ownership import own_job
from prefect_batch.flows.command_line import state as command_state
from prefect_batch.flows.command_line.output import Ending
from prefect_batch.flows.operations.control import is_at_work
from prefect_batch.flows.operations.status import history
from prefect_batch.flows.run import walk, watch
from tests.test_command_line import call
from tests.test_control import closed_window, wait_for

pytestmark = pytest.mark.usefixtures("server")
ROWS = 2000
PROCESSORS = """
import time
from prefect_batch import processor

@processor
def plain(record):
    return {"id": record["id"], "n": 1}

@processor
def fails(record):
    raise ValueError("no")

@processor
def slow(record):
    time.sleep(0.002)
    return {"id": record["id"], "n": 1}
"""


@pytest.fixture
def shop(database, job, tmp_path, monkeypatch):
    """A directory with processors, and a function that writes a job's file into it."""
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out_t (id INTEGER PRIMARY KEY, n INTEGER)")
    database.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(ROWS)])
    module = f"shop_{job.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(PROCESSORS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setattr(watch, "LISTEN_SECONDS", 0.05)
    monkeypatch.setattr(walk, "TICK_SECONDS", 0.05)

    def write(process="plain", **parameters):
        described = {
            "job": job,
            "source": {"connection": database.url, "name": "t", "key": "id"},
            "sink": {"connection": database.url, "name": "out_t", "key": "id"},
            "process": f"{module}:{process}",
            "dead_letters": str(tmp_path / "letters"),
            "chunk_size": 500,
            "workers": "threads",
            **parameters,
        }
        (tmp_path / "job.yaml").write_text(yaml.safe_dump({k: v for k, v in described.items() if v is not None}))
        return "job.yaml"

    return write


sqlite_only = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@sqlite_only
def test_a_job_in_a_file_runs_and_goes_on(shop, database, job, capsys):
    file = shop()
    assert call("run", file, "-p", "limit=500", "-p", "concurrency=1") == Ending.DONE
    assert f"{job}: pass 1 stopped: the limit of this run is reached" in capsys.readouterr().out
    assert call("run", file, "--json") == Ending.DONE
    report = json.loads(capsys.readouterr().out)
    assert (report["status"], report["run"]["read"], report["whole"]["read"]) == ("complete", ROWS - 500, ROWS)
    assert database.rows("SELECT count(*) FROM out_t") == [(ROWS,)]


@sqlite_only
def test_how_a_run_ends_is_told_by_its_code(shop, job, capsys):
    assert call("run", shop("fails")) == Ending.LIMIT
    assert "more than max_failure_rate=0.05 allows" in capsys.readouterr().err
    assert call("run", shop("fails", run_window=closed_window())) == Ending.STOPPED
    assert "did not run: its run window" in capsys.readouterr().err
    with own_job(job, "00000000-0000-0000-0000-000000000001", 1):
        assert call("run", shop("fails")) == Ending.AT_WORK
    assert call("run", shop("plain")) == Ending.REFUSED
    assert "another definition" in capsys.readouterr().err


@sqlite_only
@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        ({"chunk_sise": 5}, "there is no parameter chunk_sise; did you mean chunk_size?"),
        ({"zzz": 5}, "there is no parameter zzz; there are alert, chunk_size, "),
        ({"sink": None, "source": None}, "source, sink must be given, too"),
        ({"chunk_size": "many"}, "chunk_size: Input should be a valid integer"),
        ({"source": {"name": "t", "key": "id"}}, r"source\.table\.connection: Field required"),
        ({"health": [{"sql": "SELECT 1"}]}, "a health check of a database needs a connection"),
        ({"max_duration": -1}, "must be more than 0 seconds"),
        ({"run_window": "at night"}, "must end with a time zone"),
        ({"max_rate": 0}, "must be more than 0 records per second"),
        ({"process": "nowhere:f"}, "cannot be imported"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(shop, job, capsys, described, sentence):
    for command in ("plan", "run"):
        assert call(command, shop(**described)) == Ending.REFUSED
        assert re.search(sentence, capsys.readouterr().err)
    with pytest.raises(UnknownJob):
        status(job)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "cannot be read as YAML"),
        ("- 1", "must hold a mapping"),
        ("", "must hold a mapping"),
        (None, "No such"),
    ],
)
def test_a_file_that_is_none(tmp_path, capsys, text, sentence):
    if text is not None:
        (tmp_path / "job.yaml").write_text(text)
    assert call("run", str(tmp_path / "job.yaml")) == Ending.REFUSED
    assert sentence in capsys.readouterr().err


def test_a_change_that_is_none(tmp_path, capsys):
    assert call("run", "job.yaml", "-p", "chunk_size") == Ending.REFUSED
    assert "must look like -p chunk_size=20000" in capsys.readouterr().err


def test_a_plan_tells_what_a_run_would_do_and_changes_nothing(shop, database, job, capsys):
    file = shop()
    assert call("plan", file) == Ending.DONE
    shown = capsys.readouterr().out
    assert f"{job}: starts pass 1 (full)\n  reads table t, keys 0 to {ROWS - 1}\n" in shown
    assert "about 2,000 records to go; chunks of 500 records: about 4" in shown
    flat = " ".join(shown.split())
    assert "The first chunk: SELECT id FROM t WHERE id <= 499 ORDER BY id " in flat
    assert "after a restart: SELECT id FROM t WHERE id > 499 AND id <= 999 ORDER BY id " in flat
    assert "The database: every chunk " in shown
    with pytest.raises(UnknownJob):
        status(job)
    assert database.rows("SELECT count(*) FROM out_t") == [(0,)]
    call("run", file, "-p", "limit=1000", "-p", "concurrency=1")
    capsys.readouterr()
    assert call("plan", file, "--json") == Ending.DONE
    plan = json.loads(capsys.readouterr().out)
    assert plan["begins"] == "goes on with pass 1 (full) after key 999"
    assert (plan["first_key"], plan["records"], plan["chunks"]) == ("1000", 1000, 2)


def test_a_plan_names_what_a_missing_index_costs(shop, database, capsys):
    database.run("CREATE TABLE heap (id INTEGER NOT NULL, n INTEGER)", "INSERT INTO heap SELECT id, id FROM t")
    if database.kind == "postgresql":
        database.run("ANALYZE heap")
    file = shop(source={"connection": database.url, "name": "heap", "key": "id"})
    assert call("plan", file, "--json") == Ending.DONE
    plan = json.loads(capsys.readouterr().out)
    assert plan["verdict"] == "every chunk reads and sorts all of the source: create an index on the key"
    assert plan["explain"]


@sqlite_only
def test_a_plan_of_an_empty_source(shop, database, capsys):
    database.run("DELETE FROM t")
    assert call("plan", shop()) == Ending.DONE
    assert "keys (none) to (none)\n  about 0 records to go; chunks of 500 records: about 0" in capsys.readouterr().out


@sqlite_only
def test_the_history_of_a_job(shop, job, capsys):
    file = shop("plain")
    call("run", file, "-p", "limit=500", "-p", "concurrency=1")
    call("run", file)
    cursor = CursorStore(job).load()
    store = CursorStore(job)
    store.load()
    store.save(cursor.__class__(**{**vars(cursor), "status": "running", "message": ""}))
    assert [run.status for run in history(job).runs] == ["died", "stopped"]
    assert (status(job).status, status(job).seconds_left) == ("died", None)
    assert status(job).message == "the run ended without saving how; the next run resumes the pass"
    assert call("status", job) == Ending.DONE
    assert call("status", job, "--watch") == Ending.STOPPED
    assert f"{job}: pass 1 (full) died" in capsys.readouterr().out
    call("run", file, "-p", "restart=true")
    capsys.readouterr()
    assert call("history", job) == Ending.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{job}: 3 runs, the latest first"
    assert re.match(r"started \(UTC\) +took +pass  ended as +read  written  filtered  failed", lines[1])
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \d+ s +2 +complete +2,000 +2,000 +0 +0$", lines[2])
    assert " 1     died " in lines[3]
    assert lines[4].endswith("  the limit of this run is reached")
    call("history", job, "--json")
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["read"] for run in runs] == [2000, 1500, 500]
    assert all(run["seconds"] >= 0 for run in runs)


@sqlite_only
def test_a_history_is_bounded_and_older_cursors_have_none(shop, job):
    call("run", shop("plain"))
    cursor = CursorStore(job).load()
    for _ in range(MOST_RUNS + 10):
        cursor = cursor.__class__(**{**vars(cursor), "history": remember(cursor)})
    assert len(cursor.history) == MOST_RUNS
    fields = cursor.encode()
    assert cursor.decode(fields) == cursor
    del fields["history"], fields["run"]["series"], fields["run"]["waiting"], fields["run"]["limits"]
    assert cursor.decode(fields).history == ()


@sqlite_only
def test_a_running_job_is_watched_tuned_and_stopped(shop, database, job, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(command_state, "WATCH_SECONDS", 0.1)
    endings = []

    def talk():
        wait_for(lambda: is_at_work(job) and _read(job))
        endings.append(call("tune", job, "max_rate=20000", "max-failures=none"))
        wait_for(lambda: status(job).limits["max_rate"] == 20_000)
        watcher = threading.Thread(target=lambda: endings.append(call("status", job, "--watch", "--json")))
        watcher.start()
        endings.append(call("stop", job))
        watcher.join()

    talker = threading.Thread(target=talk)
    talker.start()
    ends = {name: Table(database.url, table, key="id") for name, table in (("source", "t"), ("sink", "out_t"))}
    with pytest.raises(CancelledRun):
        process_records(
            job=job, process=_slow, chunk_size=100, concurrency=1, dead_letters=str(tmp_path / "letters"), **ends
        )
    talker.join()
    assert endings == [Ending.DONE] * 3
    shown = capsys.readouterr().out
    assert "was asked to go on with max_rate=20,000, max_failures=none" in shown
    assert "was asked to stop after the chunks at work" in shown
    assert f"{job}: pass 1 (full) stopped\n  stopped by " in shown
    watched = [json.loads(line)[0] for line in shown.splitlines() if line.startswith("[")]
    assert watched[0]["status"] == "running"


def _slow(record):
    threading.Event().wait(0.002)
    return {"id": record["id"], "n": 1}


def _read(job):
    try:
        return status(job).tally.read
    except UnknownJob:
        return 0


def test_a_job_that_is_not_at_work_is_not_stopped_or_tuned(job, capsys):
    for arguments in (("stop", job), ("stop", job, "--now"), ("tune", job, "concurrency=2")):
        assert call(*arguments) == Ending.REFUSED
        assert f"no run works on {job} just now" in capsys.readouterr().err
    assert call("tune", job, "concurrency") == Ending.REFUSED
    assert "must look like concurrency=8" in capsys.readouterr().err


def test_the_job_of_the_documentation_is_valid():
    page = (Path(prefect_batch.__file__).parent / "docs" / "command-line.md").read_text()
    described = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    validated = process_records.validate_parameters(described)
    assert validated["health"][0].limit == 60
    assert RunWindow(validated["run_window"]).minutes == [(22 * 60, 6 * 60)]
