"""``prefect-batch doctor``: what stands in the way of a run."""

import json
import re
import sys
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_batch.blocks import prefect_api
from prefect_batch.flows.command_line.output import Ending
from prefect_batch.flows.operations import doctor
from prefect_batch.flows.operations.doctor import examine
from tests.test_command_line import call


def found(**settings):
    with temporary_settings({PREFECT_API_URL: settings.get("url", "http://127.0.0.1:9/api")}):
        return {(one.subject, one.verdict): one.sentence for one in examine(settings.get("parameters"))}


def answering(monkeypatch, status=200, body="3.9.1", date=None):
    """Let the Prefect API answer so."""

    def get(url, **_options):
        request = httpx.Request("GET", url)
        return httpx.Response(status, json=body, headers={"date": date or formatdate(usegmt=True)}, request=request)

    monkeypatch.setattr(prefect_api.httpx, "get", get)
    monkeypatch.setattr(doctor, "_workers", lambda: doctor.Finding("workers", "ok", "1 online in batch"))


def test_all_is_well(server, capsys):
    assert call("doctor") == Ending.DONE
    shown = capsys.readouterr().out
    assert "ok    Prefect API" in shown
    assert "note  workers       none is online" in shown or "ok    workers" in shown


def test_as_json(server, capsys):
    assert call("doctor", "--json") == Ending.DONE
    assert {one["subject"] for one in json.loads(capsys.readouterr().out)} >= {"versions", "Prefect API", "workers"}


def test_no_api_is_configured():
    assert "starts a temporary server" in found(url=None)["Prefect API", "note"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://me:hunter2@127.0.0.1:9/api", "nonsense"])
def test_the_api_does_not_answer(url):
    sentence = found(url=url)["Prefect API", "fault"]
    assert "check PREFECT_API_URL" in sentence
    assert "hunter2" not in sentence


def test_the_api_is_not_at_this_path(server):
    sentence = found(url=server.url.removesuffix("/api"))["Prefect API", "fault"]
    assert re.search("404.*check PREFECT_API_URL, which ends with /api", sentence)


def test_the_server_is_too_old(monkeypatch):
    answering(monkeypatch, body="3.8.8")
    assert "update the server to 3.9.1 or later" in found()["Prefect API", "fault"]


@pytest.mark.parametrize(("seconds", "told"), [(5, False), (60, True), (-60, True)])
def test_clocks_that_differ(seconds, told, monkeypatch):
    answering(monkeypatch, date=formatdate(doctor.time.time() + seconds, usegmt=True))
    assert (("clock", "note") in found()) is told


def test_a_driver_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    assert found()["drivers", "note"] == "none for mysql:// yet: pip install 'prefect-batch[mysql]' to use it"


@pytest.fixture
def job_file(sqlite, job, tmp_path):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    ends = {name: {"connection": sqlite.url, "name": "t", "key": "id"} for name in ("source", "sink")}
    parameters = {"job": job, **ends, "process": "worker_job:plain", "dead_letters": str(tmp_path / "letters")}

    def write(**changes):
        (tmp_path / "job.yaml").write_text(yaml.safe_dump({**parameters, **changes}))
        return str(tmp_path / "job.yaml")

    return write


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_a_job_that_can_run(server, job_file, capsys):
    assert call("doctor", job_file()) == Ending.DONE
    shown = capsys.readouterr().out
    for subject in ("job", "source", "sink", "dead letters"):
        assert f"ok    {subject}" in shown


@pytest.mark.parametrize(
    ("changes", "subject", "sentence"),
    [
        ({"process": "nowhere:clean"}, "job", "cannot be imported"),
        ({"chunk_size": 0}, "job", "chunk_size"),
        ({"dead_letters": "/proc/nothing"}, "dead letters", "dead letters cannot be written"),
        ({"health": [{"sql": "SELECT 1 FROM nothing", "limit": 1, "connection": "sqlite://"}]}, "health", "nothing"),
    ],
)
def test_a_job_that_cannot(server, job_file, changes, subject, sentence, capsys):
    assert call("doctor", job_file(**changes)) == Ending.REFUSED
    shown = capsys.readouterr().out
    assert sentence in next(line for line in shown.splitlines() if line.startswith(f"fault {subject}"))


@pytest.mark.parametrize("end", ["source", "sink"])
def test_an_end_that_is_missing_does_not_hide_the_other(server, sqlite, job_file, end, capsys):
    missing = {"connection": sqlite.url, "name": "nothing", "key": "id"}
    assert call("doctor", job_file(**{end: missing})) == Ending.REFUSED
    shown = capsys.readouterr().out
    assert f"fault {end}" in shown
    assert "ok    dead letters" in shown
