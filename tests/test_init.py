"""A new job made by ``prefect-batch init`` runs at once, is tested, and can be deployed."""

import re
import sqlite3
import subprocess
import sys

import pytest
import yaml

from prefect_batch import process_records
from prefect_batch.flows.command_line import init as command
from prefect_batch.flows.command_line.output import Ending
from prefect_batch.flows.scaffold.examples import EXAMPLES, write_example
from tests.test_command_line import call

MADE = {"job.yaml", "functions.py", "test_functions.py", "prefect.yaml", ".env.example"}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty directory to work in, of which Python forgets the modules afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield tmp_path
    sys.modules.pop("functions", None)


@pytest.mark.parametrize(("reads", "writes"), [*((kind, "table") for kind in EXAMPLES), ("table", "parquet")])
def test_a_new_job_runs_at_once(reads, writes, empty, server, job, capsys):
    assert call("init", "--from", reads, "--to", writes, "--job", job) == Ending.DONE
    assert {path.name for path in empty.iterdir()} == MADE | {EXAMPLES[reads]}
    assert call("run", "job.yaml") == Ending.DONE
    shown = capsys.readouterr().out
    assert re.search(r"read +1,000", shown)
    assert "10  TypeError" in shown


def test_its_function_has_a_test_that_passes(empty):
    call("init")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=prepend", "."]
    tested = subprocess.run(command, cwd=empty, capture_output=True, text=True)
    assert "1 passed" in tested.stdout, tested.stdout + tested.stderr


def test_its_deployment_has_the_same_parameters(empty):
    call("init")
    (deployment,) = yaml.safe_load((empty / "prefect.yaml").read_text())["deployments"]
    job = yaml.safe_load((empty / "job.yaml").read_text())
    assert deployment["parameters"].items() <= job.items()
    assert deployment["work_pool"]["job_variables"] == {"working_dir": str(empty)}
    process_records.validate_parameters({**deployment["parameters"], "process": dict})


def test_a_table_of_ones_own_is_read_by_its_primary_key(empty, sqlite):
    sqlite.run("CREATE TABLE lines (n INTEGER, a TEXT, b REAL, day DATE, PRIMARY KEY (a, n))")
    assert call("init", "mine", "--source", sqlite.url, "--table", "lines", "--to", "jsonl") == Ending.DONE
    job = yaml.safe_load((empty / "mine" / "job.yaml").read_text())
    assert (job["job"], job["source"]) == ("lines", {"connection": sqlite.url, "name": "lines", "key": ["a", "n"]})
    assert '{"n": 1, "a": "text", "b": 1.5, "day": None}' in (empty / "mine" / "test_functions.py").read_text()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_files_of_ones_own_are_named_by_their_full_path(kind, empty):
    write_example(kind, empty / f"mine.{kind}")
    assert call("init", "new", "--from", kind, "--source", f"mine.{kind}", "--key", "id") == Ending.DONE
    job = yaml.safe_load((empty / "new" / "job.yaml").read_text())
    assert (job["source"]["path"], job["sink"]["key"]) == (str(empty / f"mine.{kind}"), "id")


def test_an_sqlite_file_is_named_by_its_full_path_from_elsewhere(empty):
    write_example("table", empty / "shop.db")
    call("init", "new", "--source", "sqlite:///shop.db", "--table", "orders")
    call("init", "--source", "sqlite:///shop.db", "--table", "orders")
    found = [
        yaml.safe_load((place / "job.yaml").read_text())["source"]["connection"] for place in (empty / "new", empty)
    ]
    assert found == [f"sqlite:///{empty / 'shop.db'}", "sqlite:///shop.db"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "orders"], "say where that is: --source CONNECTION"),
        (["--source", "sqlite:///shop.db"], "name the table to read: --table NAME"),
        (["--source", "sqlite:///shop.db", "--table", "order"], "there is no table order"),
        (["--source", "sqlite:///shop.db", "--table", "bare"], "--key COLUMN, of a, b"),
        (["--source", "sqlite:///shop.db", "--table", "bare", "--key", "c"], "has no key column c"),
        (["--source", "postgresql://me:hunter2@host/x", "--table", "orders"], "carries a password"),
        (["--from", "csv", "--source", "nothing.csv", "--key", "id"], "nothing.csv"),
        (["--from", "csv", "--source", "shop.csv"], "--key COLUMN"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(arguments, message, empty, capsys):
    write_example("table", empty / "shop.db")
    write_example("csv", empty / "shop.csv")
    with sqlite3.connect(empty / "shop.db") as shop:
        shop.execute("CREATE TABLE bare (a INTEGER, b TEXT)")
    shop.close()
    assert call("init", "new", *arguments) == Ending.REFUSED
    shown = capsys.readouterr().err
    assert message in shown
    assert "hunter2" not in shown
    assert not (empty / "new").exists()


@pytest.mark.parametrize("name", [*sorted(MADE), "example.db"])
def test_what_is_there_is_kept(name, empty, capsys):
    (empty / name).write_text("mine")
    assert call("init") == Ending.REFUSED
    assert f"has {name} already" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in empty.iterdir()] == [(name, "mine")]


def test_a_person_is_asked(empty, monkeypatch):
    answers = iter(["csv", ""])
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: next(answers))
    assert call("init") == Ending.DONE
    job = yaml.safe_load((empty / "job.yaml").read_text())
    assert (job["source"]["path"], job["sink"]["name"]) == ("example.csv", "totals")


def test_an_answer_that_is_none_of_them(empty, monkeypatch, capsys):
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: "tables")
    assert call("init") == Ending.REFUSED
    assert "'tables' is none of table, csv, jsonl, parquet" in capsys.readouterr().err
