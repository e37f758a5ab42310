"""Law 7: a chunk that fails for its size is done in parts, exactly once, whatever dies when."""

import contextlib
import itertools
import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from unittest import mock

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from prefect_batch import Files, Table
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, Split, Tally, decode_outcome
from prefect_batch.blocks.databases.sink import SqlTransaction
from prefect_batch.blocks.errors import ChunkIsDone, CircuitOpen, WorkerDied
from prefect_batch.blocks.files.writing.manifest import complete_files
from prefect_batch.blocks.files.writing.transaction import PartTransaction
from prefect_batch.blocks.letters.bury import Burial, DeadLetters
from prefect_batch.blocks.letters.read import read_letters
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.blocks.state.cursor import Cursor, RunState
from prefect_batch.blocks.state.position import Position
from prefect_batch.blocks.stores.local import LocalStore
from prefect_batch.flows.run.circuit_breaker import Circuit
from prefect_batch.flows.run.run_limits import RunLimits
from prefect_batch.flows.run.stopping import StopRequest
from prefect_batch.flows.run.walk import Walk
from prefect_batch.tasks.plan.chunk_size import ChunkSizer
from prefect_batch.tasks.plan.planner import Planner
from prefect_batch.tasks.report.progress import Progress
from prefect_batch.tasks.work import split_chunk as split_module
from prefect_batch.tasks.work import work_chunk as work_module
from prefect_batch.tasks.work.split_chunk import work_or_split
from prefect_batch.tasks.work.work_chunk import ChunkJob, forget, work_chunk
from tests.conftest import Database

ROWS = 16
BAD = {n for n in range(ROWS) if n % 7 == 5}
FILTERED = {n for n in range(ROWS) if n % 11 == 3}


def work(record):
    if record["id"] in BAD:
        raise ValueError("bad")
    return None if record["id"] in FILTERED else {"id": record["id"], "n": 2 * record["id"]}


class Killed(BaseException):
    """The process is dead. Nothing that it does from now on has an effect."""


@dataclass
class Death:
    """Kills the process at its nth effect on anything that lasts, or at the nth of a split alone."""

    at: int | None
    of_splits: bool = False
    seen: int = 0
    done: bool = False
    splitting: bool = False

    def effect(self):
        self.seen += self.splitting or not self.of_splits
        if self.done or self.seen == self.at:
            self.done = True
            raise Killed


@contextlib.contextmanager
def deadly(death):
    """Before and after each effect the process may die."""
    places = [
        (SqlTransaction, "record"),
        (SqlTransaction, "commit"),
        (PartTransaction, "commit"),
        (Burial, "finish"),
        (DeadLetters, "mark"),
        (LocalStore, "put_first"),
        (LocalStore, "remove"),
    ]

    def around(former):
        def replacement(*args, **kwargs):
            death.effect()
            result = former(*args, **kwargs)
            death.effect()
            return result

        return replacement

    def splitting(former):
        def replacement(*args):
            death.splitting = True
            return former(*args)

        return replacement

    with contextlib.ExitStack() as stack:
        former = split_module._write_down
        stack.enter_context(mock.patch.object(split_module, "_write_down", splitting(former)))
        for owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, around(getattr(owner, name))))
        yield


class Future:
    """A task that has ended."""

    def __init__(self, outcome):
        self._outcome = outcome

    def result(self, *, raise_on_failure):
        assert not raise_on_failure
        return self._outcome

    def add_done_callback(self, call):
        call(self)


class Watch:
    """Nothing is to be seen."""

    look = staticmethod(lambda _at_work: None)
    note = staticmethod(lambda run, *_waited, **_final: run)


@dataclass
class World:
    """What lasts: the ends, the letters, the cursor with what is counted, and the cache, unless it is lost.

    `most` records are too many for one attempt, and the `giants` are too large by themselves, to be processed or even
    to be read. An attempt that is too large dies at one of the `stages`, in turn.
    """

    directory: str
    write: str
    most: int = ROWS
    giants: dict = field(default_factory=dict)
    repeats: int = 1
    stages: tuple = ("before",)
    limit: int | None = None
    late: bool = False
    cursor: Cursor | None = None
    counted: list = field(default_factory=list)
    cache: dict = field(default_factory=dict)
    splits: list = field(default_factory=list)
    runs: int = 0

    def __post_init__(self):
        url = f"sqlite:///{self.directory}/x.db"
        self.database = Database(url, "sqlite")
        self.database.run("CREATE TABLE t (k INTEGER, id INTEGER)", "CREATE INDEX t_k ON t (k)")
        self.database.many("INSERT INTO t VALUES (:k, :id)", [{"k": n // self.repeats, "id": n} for n in range(ROWS)])
        key = "" if self.write == "append" else "PRIMARY KEY"
        self.database.run(f"CREATE TABLE out (id INTEGER {key}, n INTEGER)")
        self.sink = (
            Files(f"{self.directory}/files", "parquet")
            if self.write == "files"
            else Table(url, "out", key="id", write=self.write)
        )
        self.source = Table(url, "t", key="k")
        self._stage = itertools.cycle(self.stages)
        opened = open_sink(self.sink)
        opened.check(open_source(self.source).schema)
        position = Position(None, open_source(self.source).last_key(), None)
        run = RunState("run", "2026-01-01T00:00:00+00:00")
        self.cursor = Cursor("job", 1, "ab12cd34", "full", {}, position, ROWS, f"{self.directory}/letters", run)
        opened.begin_pass(self.cursor.pass_ref)

    def run(self, chunk_size, death):
        """One run: it ends by itself, or is killed."""
        self.runs += 1
        forget("run")
        job = ChunkJob(
            "job", 1, "ab12cd34", f"run-{self.runs}", self.source, self.sink, work, self.cursor.dead_letters, 5
        )
        cursor = Cursor.decode(json.loads(json.dumps(self.cursor.encode())))
        sizer = ChunkSizer(chunk_size, ROWS)
        pending = []

        def save(now):
            death.effect()
            self.cursor, self.counted = now, self.counted + pending
            pending.clear()
            death.effect()
            death.splitting = False
            return now

        walk = Walk(
            cursor=cursor,
            job=job,
            task=mock.Mock(map=lambda job, chunks: [self._future(job.value, chunk, death) for chunk in chunks]),
            planner=Planner(open_source(self.source), sizer, limit=None, canary=None),
            limits=RunLimits(1, 5, None, 2**40, FailurePolicy(max_failure_rate=1), StopRequest(lambda: None)),
            circuit=Circuit("job", self.limit),
            progress=Progress("job", ROWS),
            warn=lambda _said: None,
            save=save,
            account=pending.append,
            show=lambda: None,
            watch=Watch(),
        )
        with deadly(death):
            try:
                walk.go()
                open_sink(self.sink).end_pass(walk.cursor.pass_ref)
            finally:
                forget(job.run_id)

    def _future(self, job, chunk, death):
        if chunk in self.cache:
            return Future(self.cache[chunk])
        try:
            outcome = work_or_split(job, chunk, lambda job: self._attempt(job, chunk), lambda _: None, again=False)
        except Exception as error:  # noqa: BLE001 - as Prefect
            return Future(error)
        death.effect()
        self.cache[chunk] = outcome.encode()
        if isinstance(outcome, Split):
            self.splits.append(outcome)
            self._arrive_late(job, outcome)
        return Future(outcome.encode())

    def _attempt(self, job, chunk):
        """Do the chunk, or die of its size."""
        first = 0 if chunk.after is None else chunk.after[0] + 1
        ids = [n for n in range(ROWS) if first <= n // self.repeats <= chunk.upto[0]]
        trial = job.trial
        if trial.unread is not None:
            return work_chunk(job, chunk)
        unreadable = any(self.giants.get(n) == "read" for n in ids)
        active = [n for place, n in enumerate(ids) if trial.only in (None, place) and place not in trial.failed]
        died = WorkerDied(min((ids.index(n) for n in active if n in self.giants), default=None))
        if unreadable or any(n in self.giants for n in active):
            raise died
        if len(active) <= self.most or len({n // self.repeats for n in ids}) == 1:
            return work_chunk(job, chunk)
        stage = next(self._stage)
        if stage == "before commit":

            def die():
                raise died

            work_chunk(job, chunk, before_commit=die)
        if stage == "after commit":
            work_chunk(job, chunk)
        raise died

    def _arrive_late(self, job, split):
        """An attempt at the whole that began before the split comes to its commit after it."""
        if not self.late:
            return
        blind = mock.patch.object(work_module, "_find_in_ledger", return_value=None)
        with blind, pytest.raises(ChunkIsDone):
            work_chunk(job, split.range)
        first = -1 if split.range.after is None else split.range.after[0]
        if self.write == "upsert" and not any(first < n // self.repeats <= split.range.upto[0] for n in self.giants):
            # It looked for the mark just before that was there. What it writes, the parts write again.
            with mock.patch.object(DeadLetters, "split_of", return_value=None):
                work_chunk(job, split.range)

    def rows(self):
        if self.write != "files":
            return self.database.rows("SELECT id, n FROM out ORDER BY id")
        import pyarrow.parquet as pq

        files = complete_files(f"{self.directory}/files", verify=True)
        return sorted((row["id"], row["n"]) for file in files for row in pq.read_table(file).to_pylist())

    def check(self):
        """All is as if nothing had ever died."""
        failed = BAD | set(self.giants)
        written = [n for n in range(ROWS) if n not in failed | FILTERED]
        assert self.rows() == [(n, 2 * n) for n in written]
        letters = read_letters(self.cursor.dead_letters, "job")
        wanted = [n // self.repeats for n in failed]
        assert sorted(json.loads(key)[0] for key in letters["key"]) == sorted(wanted)
        assert letters["id"].is_unique
        kinds = Counter(kind.rpartition(".")[2] for kind in letters["error_type"])
        giants = len(self.giants)
        assert kinds == Counter(
            {"ValueError": len(BAD - set(self.giants)), **({"WorkerDied": giants} if giants else {})}
        )
        tally = self.cursor.tally
        assert (tally.read, tally.written, tally.failed) == (ROWS, len(written), len(failed))
        assert sum((result.tally for result in self.counted), Tally()).read == ROWS
        assert self.cursor.position.complete
        ranges = {result.range.after: result.range for result in self.counted}
        assert len(ranges) == len(self.counted)
        here = None
        while here in ranges:
            here = ranges.pop(here).upto
        assert (here, ranges) == (self.cursor.position.upper, {})


@contextlib.contextmanager
def fresh():
    """A directory in memory if there is one: these worlds are many, and each commit waits for the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as directory:
        yield directory


@pytest.fixture
def place():
    with fresh() as directory:
        yield directory


deaths = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 12), st.booleans()), max_size=4)
STAGES = ("before", "before commit", "after commit")


@pytest.mark.parametrize("write", ["append", "upsert", "files"])
# Without shrinking, which would take minutes.
@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    most=st.integers(1, ROWS),
    giants=st.dictionaries(st.integers(0, ROWS - 1), st.sampled_from(["process", "read"]), max_size=3),
    stages=st.lists(st.sampled_from(STAGES), min_size=1, max_size=3).map(tuple),
    deaths=deaths,
    chunk_size=st.integers(1, ROWS),
    late=st.booleans(),
)
def test_the_end_is_that_of_an_undisturbed_pass(write, most, giants, stages, deaths, chunk_size, late):
    """Whatever is too large, at whichever stage it dies, and whenever the run is killed, with other sizes each time."""
    with fresh() as directory:
        world = World(directory, write, most, giants, stages=stages, late=late)
        for at, size, loses_cache in deaths:
            with contextlib.suppress(Killed):
                world.run(size, Death(at))
            if loses_cache:
                world.cache.clear()
        world.run(chunk_size, Death(None))
        world.check()


@pytest.mark.parametrize("write", ["append", "upsert", "files"])
def test_killed_at_each_step_of_a_split(write):
    """Each effect of the splits of a chunk that has left its letters, one after the other."""
    for at in itertools.count(1):
        with fresh() as directory:
            world = World(directory, write, most=8, giants={6: "process"}, stages=("before commit",), late=True)
            death = Death(at, of_splits=True)
            with contextlib.suppress(Killed):
                world.run(ROWS, death)
            if death.done:
                world.cache.clear()
                world.run(ROWS, Death(None))
            world.check()
            if not death.done:
                break
    # Before and after the row in the ledger, its commit, the mark, its file, the removal and the save of the cursor.
    assert at > 2 * 8
    assert len(world.splits) == 2


@pytest.mark.parametrize("write", ["append", "files"])
def test_records_of_one_key_are_tried_one_by_one(write, place):
    world = World(place, write, most=2, giants={6: "process", 13: "process"}, repeats=4)
    world.run(ROWS, Death(None))
    world.check()
    assert all(split.parts for split in world.splits)


@pytest.mark.parametrize("limit", [3, None])
def test_where_all_fail_alike_nothing_is_buried(place, limit):
    world = World(place, "append", giants=dict.fromkeys(range(ROWS), "process"), limit=3)
    for _ in range(2):
        with pytest.raises(CircuitOpen):
            world.run(ROWS, Death(None))
    assert len(read_letters(world.cursor.dead_letters, "job")) == 0
    assert world.rows() == []
    world.giants = {}
    world.run(ROWS, Death(None))
    world.check()


def test_a_smaller_chunk_size_splits_what_is_planned(place):
    world = World(place, "append")
    with pytest.raises(Killed):
        world.run(10, Death(3))
    assert [chunk for chunk, _ in world.cursor.position.ranges()] == [ChunkRange(None, (9,)), ChunkRange((9,), (15,))]
    world.cache.clear()
    world.run(4, Death(None))
    world.check()
    assert [split.at for split in world.splits] == [((3,), (7,)), ((13,),)]


def test_a_committed_chunk_is_not_split(place):
    world = World(place, "append", most=5, stages=("after commit",))
    world.run(ROWS, Death(None))
    world.check()
    assert world.splits == []
    assert [result.range for result in world.counted] == [ChunkRange(None, (ROWS - 1,))]


KEYS = st.lists(st.integers(0, 50), min_size=2, max_size=12, unique=True).map(sorted)


@given(KEYS, st.data())
def test_parts_cover_their_chunk_and_a_position_keeps_its_order(keys, data):
    bounds = [(key,) for key in keys]
    position = Position(None, bounds[-1], None).plan(bounds[-1:])
    whole = ChunkRange(None, bounds[-1])
    at = tuple(data.draw(st.lists(st.sampled_from(bounds[:-1]), min_size=1, unique=True)).__iter__())
    split = Split(whole, tuple(sorted(at)))
    assert decode_outcome(json.loads(json.dumps(split.encode()))) == split
    assert [part.after for part in split.parts] == [None, *split.at]
    assert [part.upto for part in split.parts] == [*split.at, whole.upto]
    divided = position.split(split)
    assert [chunk for chunk, done in divided.ranges() if not done] == split.parts
    for part in split.parts:
        divided = divided.finish(part)
    assert divided.complete
    with pytest.raises(ValueError, match="not planned"):
        divided.split(split)


@pytest.mark.parametrize("at", [(), ((1,), (1,)), ((9,),)])
def test_a_split_is_at_keys_within_its_range(at):
    with pytest.raises(ValueError, match="is not split at"):
        Split(ChunkRange((0,), (9,)), at)


def test_results_and_splits_are_told_apart():
    result = ChunkResult(ChunkRange(None, (1,)), Tally())
    assert decode_outcome(result.encode()) == result
