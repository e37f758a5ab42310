"""The commands for dead letters, from the list of failures to the purge."""

import json
import os
import stat

import pandas as pd
import pytest

from prefect_batch import Table, dead_letters, process_records
from prefect_batch.flows.command_line.letters import _export
from prefect_batch.flows.command_line.output import Ending
from tests.test_command_line import call

MODULE = """
from prefect_batch import processor


@processor
def mended(record):
    if record["n"] == 53:
        raise ValueError("still")
    return {"id": record["id"], "doubled": 2 * record["n"]}
"""


def broken(record):
    if record["n"] % 10 == 3:
        raise ValueError(f"three in {record['n']}")
    if record["n"] % 20 == 7:
        raise KeyError("seven")
    return {"id": record["id"], "doubled": 2 * record["n"]}


@pytest.fixture
def flown(server, sqlite, job, tmp_path, monkeypatch):
    """A job with 10 ValueErrors and 5 KeyErrors among 100 records; the present directory has a module shop."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"shop_{job[-6:]}.py").write_text(MODULE)
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
    sqlite.many("INSERT INTO t VALUES (:id, :id)", [{"id": n} for n in range(100)])
    ends = {"source": Table(sqlite.url, "t", key="id"), "sink": Table(sqlite.url, "out", key="id", create=True)}
    process_records(job=job, process=broken, max_failure_rate=1, dead_letters=str(tmp_path / "letters"), **ends)
    return sqlite


def test_from_the_list_of_failures_to_the_purge(flown, job, capsys, monkeypatch, tmp_path):
    call("failures", job)
    shown = capsys.readouterr().out
    assert f"{job}: pass 1: 15 dead letters: 15 open, 0 resolved, 0 discarded\n" in shown
    assert "  1. 10 × ValueError: three in <n>\n" in shown
    assert "  2. 5 × KeyError: <text>\n" in shown
    assert "     key 3: three in 3\n     at test_letter_commands.py:" in shown
    call("failures", job, "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["counts"]["open"], [group["count"] for group in found["groups"]]) == (15, [10, 5])

    call("failures", job, "--group", "2")
    assert '  KeyError: \'seven\'\n  {"id": 7, "n": 7}\n' in capsys.readouterr().out
    call("failures", job, "--group", "2", "--json")
    assert [letter["key"] for letter in json.loads(capsys.readouterr().out)] == [[7], [27], [47], [67], [87]]
    assert call("failures", job, "--group", "3") == Ending.REFUSED
    assert "no group 3 of failures" in capsys.readouterr().err

    call("failures", job, "--export", "csv")
    assert f"15 letters written to {job}-failures.csv" in capsys.readouterr().out
    exported = pd.read_csv(f"{job}-failures.csv")
    assert sorted(exported["record.n"]) == sorted(exported["record.id"])
    assert stat.S_IMODE(os.stat(f"{job}-failures.csv").st_mode) == 0o600
    call("failures", job, "--export", "parquet", "--group", "1", "--output", "some.parquet")
    assert len(pd.read_parquet("some.parquet")) == 10

    process = f"shop_{job[-6:]}:mended"
    assert call("replay", job, "--group", "1", "--process", process) == Ending.DONE
    assert "replay 1 complete" in capsys.readouterr().out
    assert call("replay", job, "--process", process, "--key", "7", "--key", "27", "--json") == Ending.DONE
    assert json.loads(capsys.readouterr().out.partition("{")[2].join("{ "))["run"]["written"] == 2
    assert call("replay", job, "--key", "53", "--process", process) == Ending.LIMIT

    answers = iter(["n", "y"])
    monkeypatch.setattr("builtins.input", lambda _question: next(answers))
    assert call("discard", job, "--where", "record.n = 53", "--reason", "test data") == Ending.REFUSED
    assert len(dead_letters(job, status="discarded")) == 0
    call("discard", job, "--where", "record.n = 53", "--reason", "test data", "--by", "ada")
    assert f"1 letters of {job} were discarded" in capsys.readouterr().out
    call("failures", job, "--status", "all")
    assert "15 dead letters: 3 open, 11 resolved, 1 discarded" in capsys.readouterr().out
    call("purge", job, "--older-than", "30d", "--yes")
    call("purge", job, "--older-than", "0s", "--yes")
    shown = capsys.readouterr().out
    assert f"0 resolved letters of {job} were removed\n11 resolved letters of {job} were removed\n" in shown
    call("failures", job, "--status", "discarded")
    assert "still" in capsys.readouterr().out


def test_nothing_is_exported_where_nothing_failed(tmp_path):
    from prefect_batch.blocks.errors import BadParameter

    with pytest.raises(BadParameter, match="there are no such letters"):
        _export([], "csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
