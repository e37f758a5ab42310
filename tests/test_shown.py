"""What a person sees: lines, artifacts, the bar on a terminal, events; and the hooks that write them."""

import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from uuid import UUID

import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)

from prefect_batch import FailureRateExceeded, Table, process_records
from prefect_batch.blocks.chunks import Tally
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.flows.reporting import hooks

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def run(sqlite, job, tmp_path):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY)")
    sqlite.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(3000)])

    def process(record):
        if record["id"] % 100 == 99:
            raise ValueError("a | <b>")
        return record

    def call(**parameters):
        ends = {"source": Table(sqlite.url, "t", key="id"), "sink": Table(sqlite.url, "out", key="id")}
        return process_records(
            job=job, process=process, dead_letters=str(tmp_path), chunk_size=1000, concurrency=1, **ends, **parameters
        )

    return call


def artifacts(run_id):
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run_id)]))
    return {a.key: a for a in call_api(lambda client: client.read_artifacts(artifact_filter=mine))}


def test_a_run_leaves_a_progress_artifact_and_a_report(run, job):
    report = run()
    found = artifacts(report.run_id)
    progress = found[f"batch-{job}"]
    assert (progress.type, progress.data) == ("progress", 100.0)
    # The page shows the beginning only, below the job's name.
    assert progress.description.startswith("100.0%, about 0 s left: 3,000 of 3,000 records, ")
    shown = found[f"batch-report-{job}"]
    assert shown.type == "markdown"
    assert f"## {job}: pass 1 complete" in shown.data
    assert "| failed | 30 | 1.00%; more than 5% stop a run |" in shown.data
    assert "runs/flow-run/" + report.run_id in shown.data
    letters = found[f"batch-letters-{job}"]
    assert letters.type == "table"
    assert str(letters.id) in shown.data
    rows = json.loads(letters.data)
    assert {int(row["key"].replace(",", "")) for row in rows} <= set(range(99, 3000, 100))
    assert {(row["error"], row["message"], row["status"]) for row in rows} == {("ValueError", "a | <b>", "open")}
    assert "| 30 | ValueError | a \\| &lt;b> | 99 |" in shown.data
    assert report._repr_html_().count("<tr>") >= 5
    assert "a | &lt;b&gt;" in report._repr_html_()


def test_task_runs_are_named_by_their_range(run, job):
    report = run()
    mine = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[UUID(report.run_id)]))

    def names():
        return {task.name for task in call_api(lambda client: client.read_task_runs(task_run_filter=mine))}

    for _ in range(100):  # Prefect stores task runs a little later.
        if len(found := names()) == 3:
            break
    assert found == {f"{job} (start, 999]", f"{job} (999, 1999]", f"{job} (1999, 2999]"}


def test_the_log_tells_of_the_start_and_the_end(run, job, caplog):
    with caplog.at_level("INFO", logger="prefect"):
        run()
    lines = [record.getMessage() for record in caplog.records if record.name == "prefect.flow_runs"]
    told = [line for line in lines if line.startswith(job)]
    assert told[0] == f"{job}: pass 1 starts: about 3,000 records to go in chunks of 1,000, 1 at once"
    assert re.fullmatch(
        rf"{job}: pass 1 complete: 3,000 read, 2,970 written, 0 filtered, 30 failed \(1\.00%\) in \d+ s", told[-1]
    )


def test_many_chunks_are_warned_of(run, job, caplog, monkeypatch):
    from prefect_batch.flows.run import show

    monkeypatch.setattr(show, "MANY_CHUNKS", 2)
    run()
    assert f"{job}: this makes 3 chunks" in caplog.text
    assert "leave chunk_size out, or take 1_500" in caplog.text


def test_a_stopped_run_has_one_report_though_a_hook_writes_it_again(run, job):
    with pytest.raises(FailureRateExceeded):
        run(max_failures=0)
    run_id = CursorStore(job).load().run.run_id
    reports = [key for key in artifacts(run_id) if key.startswith("batch-report")]
    assert len(reports) == 1
    assert "more than max_failures=0" in artifacts(run_id)[reports[0]].data


def test_the_hook_forces_a_run_to_failed_that_should_have_been(run, job):
    """The backstop: the flow has returned, and the counts that it saved say that it should not have."""
    report = run()
    store = CursorStore(job)
    cursor = store.load()
    store.save(replace(cursor, run=replace(cursor.run, tally=Tally(1000, 900, 0, 100))))
    flow_run = call_api(lambda client: client.read_flow_run(UUID(report.run_id)))
    assert flow_run.state_name == "Completed"
    hooks.enforce_threshold(process_records, flow_run, flow_run.state)
    assert call_api(lambda client: client.read_flow_run(UUID(report.run_id))).state_name == "Failed"
    assert "100 of 1,000 records failed" in artifacts(report.run_id)[f"batch-report-{job}"].data
    # It may be called twice.
    hooks.enforce_threshold(process_records, flow_run, flow_run.state)


def test_a_hook_leaves_the_report_of_a_later_run_alone(run, job):
    first = run()
    second = run()
    flow_run = call_api(lambda client: client.read_flow_run(UUID(first.run_id)))
    before = artifacts(second.run_id)[f"batch-report-{job}"].data
    hooks.report_crash(process_records, flow_run, flow_run.state)
    assert artifacts(second.run_id)[f"batch-report-{job}"].data == before


SCRIPT = """
import sys
from prefect_batch import Table, process_records
url, job, letters = sys.argv[1:]
def process(record):
    return record
process_records(job=job, source=Table(url, "t", key="id"), process=process, chunk_size=100,
    sink=Table(url, "out", key="id"), dead_letters=letters)
"""


def test_a_terminal_gets_a_bar_and_log_lines_above_it(run, sqlite, job, tmp_path):
    ours, theirs = pty.openpty()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "TERM": "xterm-256color", "PREFECT_LOGGING_LEVEL": "INFO", "COLUMNS": "200"}
    command = [sys.executable, script, sqlite.url, job, str(tmp_path)]
    child = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # The other end is closed.
            break
    assert child.wait() == 0
    text = shown.decode()
    assert "━━━" in text
    assert re.search(r"[\d,]+ of 3,000 records \(\d+\.\d%\)", text)
    # Each log line begins at the beginning of a line.
    for line in re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)):
        assert " | INFO " not in line[25:], line


def test_without_a_terminal_there_is_no_bar(run, sqlite, job, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, sqlite.url, job, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "━" not in done.stdout + done.stderr
