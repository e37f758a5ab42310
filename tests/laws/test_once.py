"""A chunk may be done twice: each way of writing, and of dying, ends as an undisturbed run does.

The table of `docs/concepts.md`, cell by cell, without Prefect. Real deaths by SIGKILL are in test_crashes.py.
"""

import json
import uuid
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from prefect_batch import Files, Table, complete_files
from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.chunks import ChunkRange, Tally
from prefect_batch.blocks.databases.sink import SqlTransaction
from prefect_batch.blocks.files.writing.transaction import PartTransaction
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.read import read_letters
from prefect_batch.blocks.letters.replay_list import list_path, write_replay_list
from prefect_batch.blocks.opening import introduce, open_sink, open_source
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.tasks.letters.choose import Selection, Unfinished, choose
from prefect_batch.tasks.work.work_chunk import ChunkJob, forget, work_chunk

ROWS, CHUNK = 60, 20
FAILING = {n for n in range(ROWS) if n % 7 == 3}
FILTERED = {n for n in range(ROWS) if n % 5 == 1} - FAILING
KEPT = set(range(ROWS)) - FAILING - FILTERED
# What is done at the end of the second chunk, while it is about to be written.
beside = {"do": lambda: None}


class Death(BaseException):
    """The process is gone."""


def add_one(record):
    if record["id"] == 2 * CHUNK - 1:
        beside["do"]()
    if record["id"] in FAILING:
        raise ValueError("seven")
    return None if record["id"] in FILTERED else {"id": record["id"], "v": record["v"] + 1}


def mended(record):
    """Of the letters, the second chunk ends with number 5."""
    if record["id"] == sorted(FAILING)[5]:
        beside["do"]()
    return {"id": record["id"], "v": record["v"] + 1}


class Once:
    """A job with its ends, of which chunks are worked on as a run does."""

    def __init__(self, database, place, way):
        self.database, self.place, self.way = database, place, way
        unique = "" if "append" in way else "PRIMARY KEY"
        database.run(
            "CREATE TABLE numbers (id INTEGER PRIMARY KEY, v INTEGER)",
            f"CREATE TABLE outs (id INTEGER {unique}, v INTEGER)",
        )
        rows = [{"id": n} for n in range(ROWS)]
        database.many("INSERT INTO numbers VALUES (:id, 0)", rows)
        if way == "update":
            database.many("INSERT INTO outs VALUES (:id, -1)", rows)
        name = "numbers" if "in place" in way else "outs"
        self.source = Table(database.url, "numbers", key="id")
        write = way.replace("replayed ", "").split()[0]
        to_files = write == "files"
        self.sink = Files(f"{place}/out", "parquet") if to_files else Table(database.url, name, key="id", write=write)
        self.job = self._opened(ChunkJob("law", 1, "x", "", self.source, self.sink, add_one, f"{place}/letters"))
        self.chunks = [ChunkRange((n - 1,) if n else None, (n + CHUNK - 1,)) for n in range(0, ROWS, CHUNK)]
        if way.startswith("replayed"):
            self._replay()

    def _opened(self, job):
        source, sink = open_source(job.source), open_sink(job.sink)
        job = replace(job, in_place=introduce(sink, source))
        sink.check(source.schema)
        sink.begin_pass(self.ref(job))
        return job

    def ref(self, job):
        return PassRef(job.job, job.pass_number, job.pass_id, adds="--" in job.job)

    def _replay(self):
        self.run(self.chunks)
        place = open_place(self.job.dead_letters)
        open_sink(self.job.sink, self.job.in_place).end_pass(self.ref(self.job))
        found = choose(place, "law", Selection(), Unfinished()).replay_list
        write_replay_list(place, list_path("law", 1), found)
        records = "source" if "in place" in self.way else "letter"
        at = (self.job.dead_letters, list_path("law", 1))
        letters = Letters(self.job.dead_letters, "law", 1, at, records, self.source, {})
        self.job = self._opened(replace(self.job, job="law--replay", pass_id="y", source=letters, process=mended))
        self.chunks = [ChunkRange((n,) if n else None, (min(n + 3, found.count),)) for n in range(0, found.count, 3)]

    def run(self, chunks):
        """Work on these chunks, each again after a passing error, and return what they did altogether."""
        job, tally = replace(self.job, run_id=uuid.uuid4().hex), Tally()
        try:
            for chunk in chunks:
                tally = tally + self._chunk(job, chunk).tally
        finally:
            forget(job.run_id)
        return tally

    def _chunk(self, job, chunk):
        for _ in range(3):
            try:
                return work_chunk(job, chunk)
            except Exception as error:
                if not blame_of(error).passes:
                    raise
        raise AssertionError("it does not pass")

    def rows(self):
        if isinstance(self.sink, Files):
            open_sink(self.sink).end_pass(self.ref(self.job))
            tables = [pq.read_table(file).to_pylist() for file in complete_files(self.sink.path)]
            return sorted((row["id"], row["v"]) for table in tables for row in table)
        return sorted(self.database.rows(f"SELECT id, v FROM {self.sink.name}"))

    def check(self, tally):
        again = self.way.startswith("replayed")
        written = KEPT | FAILING if again else KEPT
        others = {"update": -1, "in place": 0}.get("in place" if "in place" in self.way else self.way)
        rest = [] if others is None else [(n, others) for n in range(ROWS) if n not in written]
        assert self.rows() == sorted([*((n, 1) for n in written), *rest])
        letters = read_letters(self.job.dead_letters, "law", 1)
        assert sorted(json.loads(key)[0] for key in letters["key"]) == sorted(FAILING)
        assert set(letters["status"]) == {"resolved" if again else "open"}
        if again:
            assert (tally.read, tally.written, tally.failed) == (len(FAILING), len(FAILING), 0)
        else:
            assert (tally.read, tally.written, tally.failed) == (ROWS, len(KEPT), len(FAILING))


def dying(monkeypatch, nth, before=None, after=None):
    """Let the nth commit do this before or after what it does."""
    left = [nth]
    for owner in (SqlTransaction, PartTransaction):
        former = owner.commit

        def commit(self, former=former):
            left[0] -= 1
            now = left[0] == 0
            if now and before:
                raise before
            former(self)
            if now and after:
                raise after

        monkeypatch.setattr(owner, "commit", commit)


def undisturbed(monkeypatch, once):
    del monkeypatch
    return once.run(once.chunks)


def restarted(once):
    with pytest.raises(Death):
        once.run(once.chunks)
    # The cursor knows of the first chunk only.
    return once.run(once.chunks)


def killed_before_the_commit(monkeypatch, once):
    dying(monkeypatch, 2, before=Death())
    return restarted(once)


def killed_after_the_commit(monkeypatch, once):
    dying(monkeypatch, 2, after=Death())
    return restarted(once)


def commit_unknown_and_done(monkeypatch, once):
    dying(monkeypatch, 2, after=ConnectionResetError("lost"))
    return once.run(once.chunks)


def commit_unknown_and_not_done(monkeypatch, once):
    dying(monkeypatch, 2, before=ConnectionResetError("lost"))
    return once.run(once.chunks)


def done_by_two_at_once(monkeypatch, once):
    """Another run reads and writes the same chunk, while this one has read it and is about to write."""

    def other():
        beside["do"] = lambda: None
        once.run(once.chunks[1:2])

    monkeypatch.setitem(beside, "do", other)
    return once.run(once.chunks)


WAYS = {
    "postgresql": [
        *("upsert", "insert", "append", "update", "update in place", "upsert in place"),
        *("replayed append", "replayed update in place"),
    ],
    "sqlite": ["append", "upsert in place", "replayed upsert", "files", "replayed files"],
}
FAULTS = [
    undisturbed,
    killed_before_the_commit,
    killed_after_the_commit,
    commit_unknown_and_done,
    commit_unknown_and_not_done,
    done_by_two_at_once,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize(
    ("crash_database", "way"), [(kind, way) for kind, ways in WAYS.items() for way in ways], indirect=["crash_database"]
)
def test_whatever_happens_to_a_chunk_it_counts_once(crash_database, tmp_path, monkeypatch, way, fault):
    once = Once(crash_database, tmp_path, way)
    once.check(fault(monkeypatch, once))


@pytest.mark.parametrize("write", ["update", "upsert"])
def test_without_the_ledger_a_job_in_place_would_count_twice(sqlite, tmp_path, monkeypatch, write):
    """That the tests above can fail."""
    once = Once(sqlite, tmp_path, f"{write} in place")
    once.job = replace(once.job, in_place="no")
    killed_after_the_commit(monkeypatch, once)
    assert {v for _, v in once.rows()} == {0, 1, 2}
