"""Replay: open letters go through the function again, and each of them is resolved once."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from prefect_batch import (
    FailureRateExceeded,
    NotFinished,
    Table,
    dead_letters,
    discard_dead_letters,
    failures,
    process_records,
    purge_dead_letters,
    replay_dead_letters,
    status,
)
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadParameter, BadPlace, BadProcessor, JobIsOwned, UnknownJob
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.blocks.state.ownership import own_job
from prefect_batch.blocks.state.position import Planned, Position

pytestmark = pytest.mark.usefixtures("server")


def broken(record):
    if record["n"] % 10 == 3:
        raise ValueError(f"three in {record['n']}")
    if record["n"] % 10 == 7:
        raise KeyError("seven")
    return {"id": record["id"], "doubled": 2 * record["n"]}


def mended(record):
    if record["n"] % 20 == 3:
        raise ValueError("still three")
    return None if record["n"] % 20 == 13 else {"id": record["id"], "doubled": 2 * record["n"]}


@pytest.fixture
def flown(sqlite, job, tmp_path):
    """A job with 20 letters among 100 records."""
    sqlite.run(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)", "CREATE TABLE out (id INTEGER PRIMARY KEY, doubled)"
    )
    sqlite.many("INSERT INTO t VALUES (:id, :id)", [{"id": n} for n in range(100)])
    process_records(
        job=job,
        source=Table(sqlite.url, "t", key="id"),
        process=broken,
        sink=Table(sqlite.url, "out", key="id"),
        chunk_size=30,
        max_failure_rate=0.5,
        dead_letters=str(tmp_path / "letters"),
    )
    return sqlite


def keys(frame):
    return sorted(json.loads(key)[0] for key in frame["key"])


def test_what_succeeds_resolves_its_letter_and_what_fails_stays_open_with_one_attempt_more(flown, job):
    report = replay_dead_letters(job, process=mended, chunk_size=6)
    assert (report.run.read, report.run.written, report.run.filtered, report.run.failed) == (20, 10, 5, 5)
    frame = dead_letters(job)
    assert len(frame) == 20
    still = frame[frame["status"] == "open"]
    assert keys(still) == [3, 23, 43, 63, 83]
    assert set(still["attempts"]) == {2}
    assert set(still["generation"]) == {1}
    assert set(still["error_message"]) == {"still three"}
    assert set(frame[frame["status"] == "resolved"]["decided_by"]) == {"replay 1"}
    assert flown.rows("SELECT count(*), sum(doubled = 2 * id) FROM out") == [(90, 90)]
    again = replay_dead_letters(job, process=lambda record: {"id": record["id"], "doubled": 0})
    assert (again.run.read, again.run.written) == (5, 5)
    assert dead_letters(job, status="open").empty
    assert replay_dead_letters(job, process=mended).run.read == 0


def test_failures_are_grouped_and_counted(flown, job):
    frame = failures(job)
    assert list(frame["count"]) == [10, 10]
    assert list(frame["message"]) == ["<text>", "three in <n>"]
    assert list(frame["error_type"]) == ["KeyError", "ValueError"]
    assert frame.loc[1, "example_key"] == "7"
    assert frame.loc[2, "where"].startswith("test_replay.py:")
    assert frame.loc[2, "where"].endswith(" in broken")


def test_a_dry_run_writes_and_resolves_nothing(flown, job, tmp_path):
    before = sorted(map(str, (tmp_path / "letters").rglob("*")))
    seen = []
    report = replay_dead_letters(job, process=lambda record: seen.append(record["id"]), dry_run=True, key=["13", "27"])
    assert (report.status, report.run.read, sorted(seen)) == ("dry run", 2, [13, 27])
    assert sorted(map(str, (tmp_path / "letters").rglob("*"))) == before


def test_a_job_that_never_ran_has_nothing_to_replay():
    with pytest.raises(UnknownJob, match="no job nobody has run"):
        replay_dead_letters("nobody")


def test_a_function_that_is_not_importable_must_be_named(flown, job):
    with pytest.raises(BadProcessor, match=r"is not marked: .*; or name the function for this replay with process="):
        replay_dead_letters(job)


def test_a_replay_that_helps_nothing_fails_and_the_next_one_begins_anew(flown, job):
    with pytest.raises(FailureRateExceeded, match="20 of 20 records failed") as failed:
        replay_dead_letters(job, process=broken)
    assert "replay again: all letters that are open then are replayed" in str(failed.value)
    assert status(f"{job}--replay").status == "failed"
    assert set(dead_letters(job)["attempts"]) == {2}
    assert replay_dead_letters(job, process=mended).run.read == 20


def test_an_interrupted_replay_goes_on_with_the_letters_that_were_chosen(flown, job):
    first = replay_dead_letters(job, process=mended, chunk_size=5, limit=10)
    assert (first.status, first.run.read) == ("stopped", 10)
    second = replay_dead_letters(job, process=mended, chunk_size=5)
    assert (second.run.read, second.whole.read, second.pass_number) == (10, 20, 1)
    assert keys(dead_letters(job, status="open")) == [3, 23, 43, 63, 83]


def test_an_interrupted_replay_gives_way_to_another(flown, job):
    replay_dead_letters(job, process=mended, chunk_size=5, limit=10)
    other = replay_dead_letters(job, process=mended, chunk_size=5, where="record.n > 50")
    assert other.pass_number == 2
    assert len(dead_letters(job, status="resolved")) + len(dead_letters(job, status="open")) == 20
    assert [key for key in keys(dead_letters(job, status="open")) if key > 50] == [63, 83]


def test_the_source_is_read_again_by_key(flown, job):
    flown.run("UPDATE t SET n = 1000 WHERE id = 3", "DELETE FROM t WHERE id = 13")
    report = replay_dead_letters(job, process=mended, from_="source")
    assert report.run.failed == 5
    assert flown.rows("SELECT doubled FROM out WHERE id = 3") == [(2000,)]
    left = dead_letters(job, status="open").set_index("key")
    assert left.loc["[13]", "error_type"].endswith("RecordIsGone")
    assert left.loc["[13]", "error_message"] == "table t has no record with the key 13 any more: discard the letter"
    assert left.loc["[13]", "stage"] == "read"
    assert left.loc["[13]", "record"] == {"id": 13, "n": 13}


def test_a_key_that_several_records_share_is_not_guessed(sqlite, job, tmp_path):
    sqlite.run("CREATE TABLE t (k INTEGER, n INTEGER)", "CREATE TABLE out (n INTEGER PRIMARY KEY)")
    sqlite.many("INSERT INTO t VALUES (:k, :n)", [{"k": n // 2, "n": n} for n in range(10)])

    def picky(record):
        if record["n"] == 4:
            raise ValueError("four")
        return {"n": record["n"]}

    source, sink = Table(sqlite.url, "t", key="k"), Table(sqlite.url, "out", key="n")
    process_records(
        job=job, source=source, process=picky, sink=sink, max_failure_rate=1, dead_letters=str(tmp_path / "letters")
    )
    with pytest.raises(FailureRateExceeded, match="KeyIsShared: table t has 2 records with the key 2"):
        replay_dead_letters(job, process=lambda record: {"n": record["n"]}, from_="source")
    assert replay_dead_letters(job, process=lambda record: {"n": record["n"]}).run.written == 1
    assert len(sqlite.rows("SELECT n FROM out")) == 10


def test_replay_and_job_keep_out_of_each_others_way(flown, job):
    with own_job(job, "00000000-0000-0000-0000-000000000001", 1):
        with pytest.raises(JobIsOwned, match="is already at work"):
            replay_dead_letters(job, process=mended)
        with pytest.raises(JobIsOwned, match="is already at work"):
            discard_dead_letters(job, reason="test data")


def test_discarded_letters_are_kept_with_the_reason_and_not_replayed(flown, job):
    assert discard_dead_letters(job, reason="test data", by="ada", error_type="KeyError") == 10
    assert discard_dead_letters(job, reason="again", error_type="KeyError") == 0
    frame = dead_letters(job, status="discarded")
    assert keys(frame) == list(range(7, 100, 10))
    assert set(zip(frame["decided_by"], frame["reason"], strict=True)) == {("ada", "test data")}
    assert replay_dead_letters(job, process=mended).run.read == 10
    with pytest.raises(BadParameter, match="reason must say why"):
        discard_dead_letters(job, reason=" ")


def test_letters_of_unfinished_chunks_are_left_alone(flown, job, tmp_path):
    """A crash between bury and commit leaves letters that the next run buries again."""
    store = CursorStore(job)
    cursor = store.load()
    chunk = ChunkRange((59,), (89,))
    position = Position(None, (99,), (59,), (Planned((89,)), Planned((99,), done=True)))
    store.save(replace(cursor, status="failed", position=position))
    assert f"pass-000001/{chunk.digest}.parquet" in "".join(map(str, (tmp_path / "letters").rglob("*.parquet")))
    assert replay_dead_letters(job, process=mended).run.read == 14
    with pytest.raises(NotFinished, match=r"6 of these letters .* belong to chunks that an interrupted run"):
        discard_dead_letters(job, reason="x")


def test_purge_removes_only_what_was_resolved_long_ago(flown, job, tmp_path):
    replay_dead_letters(job, process=mended)
    assert purge_dead_letters(job, older_than=timedelta(hours=1)) == 0
    discard_dead_letters(job, reason="test data", key="3")
    assert purge_dead_letters(job, older_than=timedelta()) == 15
    frame = dead_letters(job)
    assert (keys(frame), sorted(frame["status"])) == ([3, 23, 43, 63, 83], ["discarded", *["open"] * 4])
    assert [p.name[:7] for p in sorted((tmp_path / "letters" / job / "_status").iterdir())] == ["discard"]
    assert replay_dead_letters(job, process=lambda record: {"id": record["id"], "doubled": 0}).run.read == 4


def test_purge_waits_for_an_interrupted_replay(flown, job):
    replay_dead_letters(job, process=mended, chunk_size=5, limit=10)
    with pytest.raises(NotFinished, match="was interrupted and needs the letters as they are"):
        purge_dead_letters(job, older_than=timedelta())


def test_what_was_discarded_meanwhile_is_not_replayed(flown, job):
    replay_dead_letters(job, process=mended, chunk_size=5, limit=5)
    waiting = keys(dead_letters(job, status="open"))[-1]
    discard_dead_letters(job, reason="x", key=str(waiting))
    report = replay_dead_letters(job, process=mended, chunk_size=5)
    assert report.whole.read == 19
    assert keys(dead_letters(job, status="discarded")) == [waiting]
    assert flown.rows(f"SELECT count(*) FROM out WHERE id = {waiting}") == [(0,)]


def test_the_failures_are_a_table_in_prefects_pages(flown, job):
    def table(key):
        mine = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        return json.loads(call_api(lambda client: client.read_artifacts(artifact_filter=mine))[-1].data)

    rows = table(f"batch-failures-{job}")
    assert [(row["records"], row["error"], row["message"]) for row in rows] == [
        (10, "KeyError", "<text>"),
        (10, "ValueError", "three in <n>"),
    ]
    assert rows[1]["its key"] == "3"
    assert rows[1]["in"].endswith(" in broken")
    replay_dead_letters(job, process=mended)
    assert [row["records"] for row in table(f"batch-failures-{job}--replay")] == [5]


def test_letters_in_memory_are_kept_out_of_worker_processes(flown, job):
    table = Table(flown.url, "t", key="id")
    with pytest.raises(
        BadPlace, match="only this process can reach the dead letters in memory://letters, in its memory"
    ):
        process_records(
            job=f"{job}-2", source=table, process=dict, sink=table, record_timeout=1, dead_letters="memory://letters"
        )
