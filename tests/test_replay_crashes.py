"""kill -9 in a replay and in a discard: called again, each letter is resolved, or discarded, once; no row is twice."""

import json
import signal
from pathlib import Path

import pytest

from prefect_batch import dead_letters, status
from tests import crash_job
from tests.test_crashes import forks  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def buried(sqlite, job, tmp_path, monkeypatch):
    """A complete pass with letters, into a table without a unique key."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(crash_job, "CHUNK", 200)
    return _buried(sqlite, job, tmp_path, "append")


def _buried(database, job, tmp_path, write):
    database.run(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, n INTEGER)",
        "CREATE TABLE out (id INTEGER, doubled INTEGER CHECK (doubled >= 0))",
    )
    database.many("INSERT INTO numbers VALUES (:id, :id)", [{"id": n} for n in range(crash_job.ROWS)])
    crash_job.run(database.url, job, str(tmp_path / "letters"), write, 1)
    return database


@pytest.fixture
def killed(forks, tmp_path):  # noqa: F811
    """Do something with the job in a process that dies at this step."""

    def call(action, database, job, step, nth, concurrency=1):
        output = tmp_path / "output"
        place = str(tmp_path / "letters")
        arguments = [str(output), database.url, job, place, "append", concurrency, step, nth, None, action]
        forks.stdin.write(json.dumps(arguments) + "\n")
        forks.stdin.flush()
        code = int(forks.stdout.readline())
        assert code == -signal.SIGKILL, f"{code}: {output.read_text()}"

    return call


def keys(frame):
    return sorted(json.loads(key)[0] for key in frame["key"])


def ids_of_acts(tmp_path, job):
    """The ids that the acts name, with repetitions."""
    found = []
    for file in (tmp_path / "letters" / job / "_status").glob("*.json"):
        for letters, runs in json.loads(file.read_text())["letters"].items():
            found += [(letters, row) for first, last in runs for row in range(first, last + 1)]
    return found


def check(database, job, tmp_path):
    resolved = crash_job.FAILING - crash_job.STILL_FAILING
    rows = sorted([*crash_job.EXPECTED, *((n, 2 * n) for n in resolved)])
    assert database.rows("SELECT id, doubled FROM out ORDER BY id") == rows
    frame = dead_letters(job)
    assert keys(frame[frame["status"] == "resolved"]) == sorted(resolved)
    assert keys(frame[frame["status"] == "open"]) == sorted(crash_job.STILL_FAILING)
    assert len(frame) == len(crash_job.FAILING)
    assert set(frame[frame["status"] == "open"]["attempts"]) == {2}
    acted = ids_of_acts(tmp_path, job)
    assert len(acted) == len(set(acted)) == len(resolved)
    assert status(f"{job}--replay").status == "complete"


STEPS = (
    *("after choose", "after plan", "after bury", "before commit", "after commit"),
    *("after settle", "before advance", "before complete"),
)


@pytest.mark.parametrize("step", STEPS)
def test_a_replay_into_a_table_without_a_key(buried, killed, job, tmp_path, step):
    killed("replay", buried, job, step, 1 if "choose" in step else 3)
    crash_job.replay(None, job, None, None, 1)
    check(buried, job, tmp_path)


def test_a_killed_replay_that_is_given_up_is_settled_by_the_ledger(buried, killed, job, tmp_path):
    """What it had committed is not replayed again, though nobody had written down that it was resolved."""
    from prefect_batch import replay_dead_letters

    killed("replay", buried, job, "after commit", 3)
    replay_dead_letters(job, process="crash_job:repaired", restart=True)
    frame = dead_letters(job)
    assert keys(frame[frame["status"] == "open"]) == sorted(crash_job.STILL_FAILING)
    assert len(ids_of_acts(tmp_path, job)) == len(crash_job.FAILING - crash_job.STILL_FAILING)
    assert buried.rows("SELECT count(*), count(DISTINCT id) FROM out") == [
        (len(crash_job.EXPECTED) + len(frame[frame["status"] == "resolved"]),) * 2
    ]


def test_a_replay_of_several_chunks_at_once(postgresql, killed, job, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(crash_job, "CHUNK", 200)
    _buried(postgresql, job, tmp_path, "append")
    killed("replay", postgresql, job, "after commit", 3, concurrency=3)
    crash_job.replay(None, job, None, None, 3)
    check(postgresql, job, tmp_path)


@pytest.mark.parametrize("step", ["before rename", "before act", "after act"])
def test_a_discard(buried, killed, job, tmp_path, step):
    killed("discard", buried, job, step, 1)
    crash_job.discard(None, job, None, None, 1)
    frame = dead_letters(job)
    assert keys(frame[frame["status"] == "discarded"]) == sorted(n for n in crash_job.FAILING if n > 100)
    assert keys(frame[frame["status"] == "open"]) == sorted(n for n in crash_job.FAILING if n <= 100)
    acted = ids_of_acts(tmp_path, job)
    assert len(acted) == len(set(acted))
