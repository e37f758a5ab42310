"""A law: whatever dies where and however often, the last run leaves what one undisturbed run would have left.

The parts are the real ones, on SQLite; only Prefect is left out. A death is a `Death` raised at a step: what was in
memory is gone, what is on the disk stays. Real deaths by SIGKILL are in test_crashes.py, at fewer places.
"""

import contextlib
import json
import shutil
import uuid
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_batch import Table
from prefect_batch.blocks.chunks import ChunkResult, Tally
from prefect_batch.blocks.databases.connections import close_engines
from prefect_batch.blocks.databases.sink import SqlTransaction
from prefect_batch.blocks.letters.bury import Burial
from prefect_batch.blocks.letters.read import read_letters
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.blocks.state.position import Position
from prefect_batch.tasks.plan.chunk_size import ChunkSizer
from prefect_batch.tasks.plan.planner import Planner
from prefect_batch.tasks.work.work_chunk import ChunkJob, forget, work_chunk

STEPS = ("after plan", "mid batch", "before bury", "after bury", "before commit", "after commit", "before advance")
JOB = ChunkJob("law", 1, "x", "", None, None, None, "")


class Death(BaseException):
    """The process is gone."""


class Bomb:
    """Goes off at the nth time that a step is reached."""

    def __init__(self, step, nth):
        self.step, self.left = step, nth

    def at(self, step):
        self.left -= step == self.step
        if self.left == 0:
            self.left = -1
            raise Death


NEVER = Bomb("", 1)
bomb = NEVER


@pytest.fixture(autouse=True, scope="module")
def mined():
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, step in ((Burial, "finish", "bury"), (SqlTransaction, "commit", "commit")):
            former = getattr(owner, name)

            def replacement(self, former=former, step=step):
                bomb.at(f"before {step}")
                result = former(self)
                bomb.at(f"after {step}")
                return result

            patch.setattr(owner, name, replacement)
        yield


def process(record):
    bomb.at("mid batch")
    if record["n"] % 7 == 3:
        raise ValueError("seven")
    if record["n"] % 5 == 1:
        return None
    return {"n": record["n"], "k": record["k"], "positive": -1 if record["n"] % 11 == 4 else 1}


def outcome(count):
    """What an undisturbed run leaves: the rows, and the failed ones."""
    failed = [n for n in range(count) if n % 7 == 3 or (n % 5 != 1 and n % 11 == 4)]
    return [n for n in range(count) if n not in failed and n % 5 != 1], failed


class World:
    """What survives a death: the database, the letters, the saved cursor, and Prefect's cache."""

    def __init__(self, place, keys, collation, write):
        from tests.conftest import Database

        self.database = Database(f"sqlite:///{place}/law.db", "sqlite")
        unique = "PRIMARY KEY" if write == "upsert" else ""
        self.database.run(
            f"CREATE TABLE t (k TEXT COLLATE {collation} NOT NULL, n INTEGER)",
            f"CREATE TABLE out (n INTEGER {unique}, k TEXT, positive INTEGER CHECK (positive > 0))",
        )
        rows = [{"k": key, "n": n} for n, key in enumerate(keys)]
        if rows:
            self.database.many("INSERT INTO t VALUES (:k, :n)", rows)
        source = Table(self.database.url, "t", key="k")
        sink = Table(self.database.url, "out", key="n", write=write)
        self.job = replace(JOB, source=source, sink=sink, process=process, dead_letters=f"{place}/letters")
        opened = open_source(source)
        open_sink(sink).check(opened.schema)
        self.cursor = json.dumps([Position(None, opened.last_key(), None).encode(), Tally().encode()])
        self.cache = {}

    def load(self):
        position, tally = json.loads(self.cursor)
        return Position.decode(position), Tally.decode(tally)

    def save(self, position, tally):
        self.cursor = json.dumps([position.encode(), tally.encode()])


def run(world, size, at_once, random):
    """One run: as `Walk` does it, in one thread, with chunks that end in any order."""
    job = replace(world.job, run_id=uuid.uuid4().hex, batch_rows=random.randint(1, 9))
    source = open_source(job.source)
    position, tally = world.load()
    planner, busy, ended = Planner(source, ChunkSizer(size, 0), limit=None, canary=None), set(), []
    try:
        while not position.complete:
            planned = planner.plan(position, busy, at_once - len(busy))
            if planned is not position:
                position = planned
                world.save(position, tally)
                bomb.at("after plan")
            busy.update(planner.take(position, busy, at_once - len(busy)))
            at_work = sorted(busy - {result.range for result in ended}, key=lambda chunk: chunk.text)
            if at_work and (not ended or random.random() < 0.6):
                chunk = random.choice(at_work)
                if (key := chunk.digest) not in world.cache:
                    result = work_chunk(job, chunk)
                    if random.random() < 0.8:  # Else the result is lost on its way into the cache.
                        world.cache[key] = json.dumps(result.encode())
                    ended.append(result)
                else:
                    ended.append(ChunkResult.decode(json.loads(world.cache[key])))
                continue
            bomb.at("before advance")
            result = ended.pop(random.randrange(len(ended)))
            busy.discard(result.range)
            position, tally = position.finish(result.range), tally + result.tally
            if random.random() < 0.7:  # Saves are merged.
                world.save(position, tally)
        world.save(position, tally)
    finally:
        forget(job.run_id)


some_keys = st.text("aAbBäÄ1 ", max_size=2)
runs = st.lists(
    # Early deaths: a run that does not die finishes the pass, and leaves nothing to those after it.
    st.tuples(st.integers(1, 12), st.integers(1, 4), st.sampled_from(STEPS), st.integers(1, 4), st.booleans()),
    min_size=1,
    max_size=5,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    keys=st.lists(some_keys, max_size=9) | st.lists(some_keys, min_size=30, max_size=60),
    collation=st.sampled_from(["BINARY", "NOCASE"]),
    write=st.sampled_from(["upsert", "append"]),
    runs=runs,
    random=st.randoms(use_true_random=False),
)
def test_the_last_run_leaves_what_one_run_would_have_left(keys, collation, write, runs, random, tmp_path_factory):
    global bomb  # noqa: PLW0603
    place = tmp_path_factory.mktemp("law")
    world = World(place, keys, collation, write)
    try:
        for size, at_once, step, nth, keeps_cache in runs:
            bomb = Bomb(step, nth)
            with contextlib.suppress(Death):
                run(world, size, at_once, random)
            if not keeps_cache:
                world.cache.clear()
        bomb = NEVER
        run(world, 13, 2, random)
        written, failed = outcome(len(keys))
        assert sorted(n for (n,) in world.database.rows("SELECT n FROM out")) == written
        letters = read_letters(world.job.dead_letters, "law")
        assert sorted(json.loads(text)["n"] for text in letters["record_json"]) == failed
        _, tally = world.load()
        assert (tally.read, tally.written, tally.failed) == (len(keys), len(written), len(failed))
        assert Counter(letters["stage"]) == Counter("process" if n % 7 == 3 else "write" for n in failed)
    finally:
        bomb = NEVER
        world.database.engine.dispose()
        close_engines()
        shutil.rmtree(place)
