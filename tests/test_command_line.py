"""The command line, and what it prints."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_batch import Table, process_records, status
from prefect_batch.blocks.credentials import url_of
from prefect_batch.blocks.state.ownership import own_job
from prefect_batch.flows.command_line.main import app, main
from prefect_batch.flows.command_line.output import Ending


@pytest.fixture
def flown(server, sqlite, job, tmp_path):
    """A job with an unfinished pass."""
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY)")
    sqlite.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(1000)])

    def run(**parameters):
        ends = {"source": Table(sqlite.url, "t", key="id"), "sink": Table(sqlite.url, "out", key="id")}
        return process_records(job=job, process=dict, dead_letters=str(tmp_path), chunk_size=100, **ends, **parameters)

    run(limit=300)
    return run


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_status_of_a_job(flown, job, capsys):
    assert call("status", job) == Ending.DONE
    shown = capsys.readouterr().out
    assert f"{job}: pass 1 (full) stopped\n  the limit of this run is reached\n" in shown
    assert "  300 of about 1,000 records (30.0%)\n  300 written, 0 filtered, 0 failed (0.00%)\n" in shown
    assert "  finished up to key 299\n" in shown


def test_status_as_json(flown, job, capsys):
    call("status", job, "--json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["job"], shown["status"], shown["tally"]["read"], shown["total"]) == (job, "stopped", 300, 1000)
    call("status", "--json")
    assert job in [one["job"] for one in json.loads(capsys.readouterr().out)]


def test_status_of_all_jobs(flown, job, capsys):
    call("status")
    assert f"{job}: pass 1 (full) stopped" in capsys.readouterr().out


def test_an_unknown_job(server, capsys):
    for command in (("status", "nobody"), ("reset", "nobody", "--yes")):
        assert call(*command) == Ending.REFUSED
        said = "no job nobody has run against this Prefect API; prefect-batch status lists those that have"
        assert capsys.readouterr().err == f"prefect-batch: {said}\n"


def test_reset_starts_from_the_beginning(flown, job, capsys):
    call("reset", job, "--yes")
    assert f"{job} will start a new pass when it runs next" in capsys.readouterr().out
    assert status(job).status == "reset"
    report = flown()
    assert (report.pass_number, report.run.read) == (2, 1000)


@pytest.mark.parametrize(("answer", "after"), [("y", "reset"), ("", "stopped"), ("no", "stopped")])
def test_reset_asks(flown, job, monkeypatch, answer, after):
    monkeypatch.setattr("builtins.input", lambda _question: answer)
    call("reset", job)
    assert status(job).status == after


def test_reset_is_not_done_where_nobody_can_be_asked(flown, job, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert call("reset", job) == Ending.REFUSED
    assert capsys.readouterr().err == "nothing was changed\n"
    assert status(job).status == "stopped"


def test_a_job_at_work_is_not_reset(flown, job, capsys):
    with own_job(job, "00000000-0000-0000-0000-000000000001", 1):
        assert call("reset", job, "--yes") == Ending.AT_WORK
    assert "is already at work" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["statsu"], ["status", "--jsno"], ["reset"]])
def test_a_command_that_is_not_understood(arguments, capsys):
    assert call(*arguments) == Ending.USAGE
    shown = capsys.readouterr()
    assert arguments[-1] in shown.out + shown.err or "JOB" in shown.out + shown.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_the_commands_and_their_options(shell):
    script = app.generate_completion(shell=shell)
    for word in ("status", "reset", "json"):
        assert word in script


def test_a_reader_that_has_gone_is_no_error(flown):
    command = [sys.executable, "-m", "prefect_batch.flows", "status"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert (child.stderr.read(), child.wait()) == (b"", Ending.DONE)


@pytest.mark.parametrize("command", [("status",), ("history", "x"), ("stop", "x"), ("failures", "x"), ("secret", "x")])
def test_a_server_that_is_away_is_said_in_a_sentence_at_once(command, capsys):
    began = time.monotonic()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert call(*command) == Ending.NO_SERVER
    assert time.monotonic() - began < 6
    sentence = r"prefect-batch: the Prefect API at http://127.0.0.1:9/api does not answer \(.*\): check PREFECT_API_URL"
    assert re.match(sentence, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("url", "way_out"), [("{}", "which ends with /api"), ("nonsense", "which ends"), ("{}/x/api", "404")]
)
def test_an_address_where_there_is_no_api(url, way_out, server, capsys):
    with temporary_settings({PREFECT_API_URL: url.format(server.url.removesuffix("/api"))}):
        assert call("status") == Ending.NO_SERVER
    assert way_out in capsys.readouterr().err


def start_demo(directory, **streams):
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")}
    environment["HOME"] = str(directory)
    command = [sys.executable, "-m", "prefect_batch.flows", "demo", "--directory", str(directory / "demo")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **streams)


def demo(directory):
    process = start_demo(directory, stderr=subprocess.PIPE)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def of_demo(directory):
    """The processes of a demo that are still there."""
    found = [p.info for p in psutil.process_iter(["cmdline", "environ"])]
    return [info["cmdline"] for info in found if (info["environ"] or {}).get("HOME") == str(directory)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_demo_that_is_killed_leaves_no_process(tmp_path, number):
    process = start_demo(tmp_path)
    for line in process.stdout:
        if "up after" in line:
            break
    assert len(of_demo(tmp_path)) >= 2
    process.send_signal(number)
    process.wait()
    deadline = time.monotonic() + 60
    while of_demo(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert of_demo(tmp_path) == []
    process.stdout.close()


def test_the_demo_from_its_start_to_its_end_over_what_another_one_left(tmp_path):
    place = tmp_path / "demo"
    for left in ("dead-letters/flights/pass-000007/a.parquet", "prefect/prefect.db", "flights.db", "flights.db-wal"):
        (place / left).parent.mkdir(parents=True, exist_ok=True)
        (place / left).write_text("of another demo")
    (place / ".prefect-batch-demo").touch()
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "336,776 rows in" in done.stdout
    assert "failed        9,430 (2.80%)" in done.stdout
    assert "flights-killed: pass 1 (full) died" in done.stdout
    assert "the same 327,346 rows and the same 9,430 letters" in done.stdout
    assert "The same 327,346 rows, in the same order, in the Parquet files" in done.stdout
    assert "agrees: 336,776 in the source: 336,776 in the sink, 0 filtered, 0 in open letters" in done.stdout
    for word in ("Traceback", "Warning", "ERROR", "WARNING"):
        assert word not in done.stdout + done.stderr
    assert of_demo(tmp_path) == []


def test_the_demo_leaves_a_directory_alone_that_is_not_its_own(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "prefect").mkdir()
    done = demo(tmp_path)
    assert done.returncode == 1
    assert "is not of an earlier demo; name another one with --directory" in done.stderr
    assert (tmp_path / "demo" / "prefect").exists()


@pytest.fixture
def typed(monkeypatch):
    """What is typed, or comes through a pipe, at a command."""

    def type_in(*lines):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    return type_in


def test_a_secret_is_stored_and_not_shown(server, job, typed, capsys):
    typed("postgresql://me:hunter2@host/shop")
    assert call("secret", job) == Ending.DONE
    shown = capsys.readouterr()
    assert f"write secret/{job} where" in shown.out
    assert "hunter2" not in shown.out + shown.err
    assert url_of(f"secret/{job}") == "postgresql://me:hunter2@host/shop"


def test_a_secret_that_exists_is_replaced_by_a_person_only(server, job, typed, capsys):
    for text, options, ending in (
        ("one", (), Ending.DONE),
        ("two", ("--yes",), Ending.DONE),
        ("n", (), Ending.REFUSED),
    ):
        typed(text)
        assert call("secret", job, *options) == ending
    assert "nothing was changed" in capsys.readouterr().err
    assert url_of(f"secret/{job}") == "two"


@pytest.mark.parametrize(("name", "text", "message"), [("a b", "x", "the name 'a b' must"), ("a", "", "nothing was")])
def test_a_secret_without_a_name_or_a_text(server, name, text, message, typed, capsys):
    typed(text)
    assert call("secret", name) == Ending.REFUSED
    assert message in capsys.readouterr().err


def test_a_secret_is_asked_for_at_a_terminal(server, job, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "typed")
    assert call("secret", job) == Ending.DONE
    assert url_of(f"secret/{job}") == "typed"
