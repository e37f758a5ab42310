"""Reconciling a pass: each record is in the sink, filtered, or in a letter; what is not is named, and done again."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_batch import (
    Query,
    Table,
    dead_letters,
    discard_dead_letters,
    process_records,
    reconcile,
    replay_dead_letters,
    status,
)
from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, Tally
from prefect_batch.blocks.databases.connections import close_engines
from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.errors import BadParameter, KeysDiffer
from prefect_batch.blocks.key_sum import KeySum, are_integers, sum_of_keys
from prefect_batch.blocks.letters.bury import DeadLetters
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.blocks.state.accounts import Account, Accounts, add_up, finished
from prefect_batch.blocks.state.cursor import Cursor, RunState
from prefect_batch.blocks.state.position import Position
from prefect_batch.flows.command_line.main import main
from prefect_batch.tasks.reconcile.reconcile_pass import reconcile_pass
from prefect_batch.tasks.work.count import sum_filtered
from prefect_batch.tasks.work.failure import Failure
from prefect_batch.tasks.work.outputs import Item
from tests.conftest import Database

ROWS = 500
FAILING = {n for n in range(ROWS) if n % 50 == 7}
FILTERED = {n for n in range(ROWS) if n % 10 == 3}
WRITTEN = set(range(ROWS)) - FAILING - FILTERED
whole = st.integers(-(2**63), 2**63 - 1)


def work(record):
    if record["id"] in FAILING:
        raise ValueError("seven")
    return None if record["id"] in FILTERED else {"id": record["id"], "n": 1}


@pytest.fixture
def run(server, sqlite, job, tmp_path):
    sqlite.run("CREATE TABLE numbers (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY, n INTEGER)")
    sqlite.many("INSERT INTO numbers VALUES (:id)", [{"id": n} for n in range(ROWS)])

    def call(process=work, **parameters):
        options = {
            "source": Table(sqlite.url, "numbers", key="id"),
            "sink": Table(sqlite.url, "out", key="id"),
            "chunk_size": 100,
            "dead_letters": str(tmp_path / "letters"),
            **parameters,
        }
        return process_records(job=job, process=process, **options)

    return call


def test_a_pass_that_lost_nothing_agrees(run, job):
    run()
    found = reconcile(job)
    assert (found.status, found.differences, found.doubts) == ("agrees", (), ())
    assert (found.source_keys, found.sink_keys) == (ROWS, len(WRITTEN))
    assert (found.filtered, found.open, found.discarded) == (len(FILTERED), len(FAILING), 0)
    assert f"{job}: pass 1 agrees: 500 in the source: 440 in the sink, 50 filtered, 10 in open letters" in str(found)


def test_what_was_lost_is_named_and_done_again_and_nothing_else_is(run, sqlite, job, capsys):
    run()
    sqlite.run("DELETE FROM out WHERE id IN (120, 121)", "INSERT INTO out VALUES (9999, 1)")
    found = reconcile(job)
    assert (found.status, found.missing, found.surplus) == ("differs", 2, 1)
    lost, beyond = found.differences
    assert (lost.range, lost.missing, lost.surplus, lost.filtered) == ("(99, 199]", 2, 0, 0)
    assert lost.missing_keys == ("120", "121")  # And not the filtered ones beside them.
    assert (beyond.range, beyond.surplus) == ("(499, end]", 1)
    with pytest.raises(KeysDiffer, match="2 missing"):
        reconcile(job, strict=True)
    seen = []

    def again(record):
        seen.append(record["id"])
        return work(record)

    again.__module__, again.__qualname__ = work.__module__, work.__qualname__
    found = reconcile(job, repair=True, process=again)
    assert sorted(seen) == list(range(100, 200))
    assert (found.status, found.missing, found.surplus, found.repaired) == ("differs", 0, 1, 1)
    assert {n for (n,) in sqlite.rows("SELECT id FROM out")} == WRITTEN | {9999}
    tally = status(job).tally
    assert (tally.read, tally.written, tally.filtered) == (ROWS, len(WRITTEN), len(FILTERED))
    assert sorted(json.loads(key)[0] for key in dead_letters(job)["key"]) == sorted(FAILING)
    sqlite.run("DELETE FROM out WHERE id = 9999")
    with pytest.raises(SystemExit) as ended:
        main(["reconcile", job, "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["status"] == "agrees"


def test_letters_that_were_replayed_or_discarded_keep_the_sums_right(run, job):
    run()
    discard_dead_letters(job, key="7", reason="a test flight", by="somebody")
    replay_dead_letters(job, process=lambda r: {"id": r["id"], "n": 2})
    found = reconcile(job)
    assert (found.status, found.open, found.discarded, found.resolved) == ("agrees", 0, 1, len(FAILING) - 1)
    assert found.sink_keys == len(WRITTEN) + len(FAILING) - 1


def test_what_cannot_be_verified_is_said(run, sqlite, job, tmp_path):
    run(limit=200)
    found = reconcile(job)
    assert found.status == "could not verify"
    assert found.source_keys == 200
    assert found.doubts == ("the pass is not complete; what is not finished beyond key 199 was left out",)
    run()
    (tmp_path / "letters" / job / "_accounts" / "pass-000001.json").unlink()
    found = reconcile(job)
    assert found.status == "could not verify"
    assert "50 keys are not in the sink, and the account of this range is missing" in found.doubts[0]
    sqlite.run("CREATE TABLE other (number INTEGER PRIMARY KEY)")
    run(lambda r: {"number": r["id"]}, sink=Table(sqlite.url, "other", key="number"))
    found = reconcile(job)
    assert found.status == "could not verify"
    assert "table other has no column id, by which the source is read" in found.doubts[0]


def test_rows_that_are_only_added_are_compared_and_not_repaired(run, sqlite, job):
    sqlite.run("CREATE TABLE log (id INTEGER, part INTEGER)")
    query = Query(sqlite.url, "SELECT id FROM numbers WHERE id < 300", key="id")
    sink = Table(sqlite.url, "log", key="id", write="append")
    run(lambda r: [{"id": r["id"], "part": n} for n in range(3)], source=query, sink=sink)
    assert (reconcile(job).status, reconcile(job).sink_keys) == ("agrees", 300)
    sqlite.run("DELETE FROM log WHERE id = 5")
    assert reconcile(job).differences[0].missing_keys == ("5",)
    with pytest.raises(BadParameter, match="would be written twice"):
        reconcile(job, repair=True)


def test_text_that_source_and_sink_order_differently(run, sqlite, job):
    names = [f"{letter}{n}" for letter in "aBcDéß-_ " for n in range(40)]
    sqlite.run("CREATE TABLE names (id TEXT COLLATE NOCASE PRIMARY KEY)", "CREATE TABLE named (id TEXT PRIMARY KEY)")
    sqlite.many("INSERT INTO names VALUES (:id)", [{"id": name} for name in names])
    run(dict, source=Table(sqlite.url, "names", key="id"), sink=Table(sqlite.url, "named", key="id"), chunk_size=70)
    assert reconcile(job).status == "agrees"
    sqlite.run("DELETE FROM named WHERE id = 'B7'", "INSERT INTO named VALUES ('b7')")
    found = reconcile(job)
    assert [key for difference in found.differences for key in difference.missing_keys] == ["B7"]
    assert [key for difference in found.differences for key in difference.surplus_keys] == ["b7"]


def test_sums_are_those_of_the_databases(database):
    database.run("CREATE TABLE t (a BIGINT NOT NULL, b INTEGER NOT NULL)")
    keys = [(-(2**63), 1), (2**63 - 1, -2), (0, 0), (-5, 7), (2**31 - 1, 2**31 - 1), (12345678901234, -1)]
    database.many("INSERT INTO t VALUES (:a, :b)", [{"a": a, "b": b} for a, b in keys])
    for names in (["a"], ["a", "b"], ["b", "a"]):
        source = open_source(Table(database.url, "t", key=names))
        chosen = [tuple({"a": a, "b": b}[name] for name in names) for a, b in keys]
        assert source.key_side(tuple(names)).sum(ChunkRange(None, source.last_key())) == sum_of_keys(chosen)


@given(st.lists(st.tuples(whole, whole)), st.lists(st.tuples(whole, whole)))
def test_sums_of_keys_add_up_whatever_their_order(some, others):
    assert sum_of_keys(some) + sum_of_keys(others) == sum_of_keys([*reversed(others), *some])
    assert KeySum.decode(json.loads(json.dumps(sum_of_keys(some).encode()))) == sum_of_keys(some)


@given(st.sets(st.one_of(whole, st.text()), min_size=2))
def test_one_key_more_or_another_key_is_another_sum(values):
    keys = [(value,) for value in values]
    assert not sum_of_keys(keys).same(sum_of_keys(keys[1:]))
    kind = [key for key in keys if are_integers(key)]
    if len(kind) > 1:
        assert not sum_of_keys(kind[:1]).same(sum_of_keys(kind[1:2]))


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.randoms(use_true_random=False), st.integers(0, 4))
def test_accounts_that_are_added_up_cover_the_same(failing, random, times):
    accounts = [
        Account(
            ChunkRange(None if n == 0 else (n - 1,), (n,)), Tally(3, 1, 1, 1 if failed else 0, 1), sum_of_keys([(n,)])
        )
        if failed
        else Account(ChunkRange(None if n == 0 else (n - 1,), (n,)), Tally(2, 1, 1), sum_of_keys([(n,)]))
        for n, failed in enumerate(failing)
    ]
    random.shuffle(accounts)
    fewer = accounts
    for _ in range(times):
        fewer = add_up(fewer)
    chain, end = finished(fewer, None, (len(failing) - 1,))
    assert end == (len(failing) - 1,)
    assert len(chain) == len(fewer)
    assert sum((account.tally for account in chain), Tally()) == sum((account.tally for account in accounts), Tally())
    assert sum((account.filtered for account in chain), KeySum()) == sum_of_keys([(n,) for n in range(len(failing))])
    assert sum(account.tally.failed > 0 for account in chain) == sum(failing)


STATES = st.sampled_from(["written", "written", "filtered", "failed", "absent"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.lists(STATES, min_size=1, max_size=60).filter(lambda states: {*states} != {"absent"}),
    size=st.integers(3, 20),
    touched=st.sets(st.integers(0, 70), max_size=5),
    text=st.booleans(),
)
def test_the_verdict_is_right_or_honest(states, size, touched, text, tmp_path_factory):
    """Rows of the sink are deleted, and others put there, behind the back of a pass; what it says of that is true."""
    directory = tmp_path_factory.mktemp("verdict")
    model = Model(directory, states, size, str if text else int)
    for n in touched:
        model.toggle(n)
    source, written = model.source_keys(), model.sink_keys()
    found = reconcile_pass(model.cursor(), open_source(model.source), open_sink(model.sink), 100).found
    lost = source - written - model.with_state("filtered") - model.with_state("failed")
    surplus = written - source
    if found.status == "agrees":
        assert (lost, surplus) == (set(), set())
    assert found.surplus == len(surplus)
    assert found.missing <= len(lost)
    if not model.with_state("filtered"):
        # Without filtered records nothing is left in doubt, and the very keys are named.
        assert found.missing == len(lost)
        named = {key for difference in found.differences for key in difference.missing_keys}
        assert named == {str(model.key(n)) for n in lost}
        assert (found.status == "agrees") == (not lost and not surplus)
    model.close()


class Model:
    """A finished pass, without a run: a source, its sink, accounts and letters, as chunks would have left them."""

    def __init__(self, directory, states, size, kind):
        self.states, self.size, self.kind = states, size, kind
        self.place = str(directory / "letters")
        self.database = Database(f"sqlite:///{directory}/model.db", "sqlite")
        column = "INTEGER" if kind is int else "TEXT"
        self.database.run(f"CREATE TABLE s (k {column} PRIMARY KEY)", f"CREATE TABLE t (k {column} PRIMARY KEY)")
        self.source, self.sink = (Table(self.database.url, name, key="k") for name in "st")
        self._insert("s", [n for n, state in enumerate(states) if state != "absent"])
        self._insert("t", [n for n, state in enumerate(states) if state == "written"])
        self.upper = open_source(self.source).last_key()
        self._account()

    def key(self, n):
        return f"{n:03d}" if self.kind is str else n

    def _insert(self, table, numbers):
        if numbers:
            self.database.many(f"INSERT INTO {table} VALUES (:k)", [{"k": self.key(n)} for n in numbers])

    def _keys(self, table):
        return {int(k) for (k,) in self.database.rows(f"SELECT k FROM {table}")}

    def source_keys(self):
        return self._keys("s")

    def sink_keys(self):
        return self._keys("t")

    def with_state(self, state):
        return {n for n, of in enumerate(self.states) if of == state}

    def toggle(self, n):
        if n in self.sink_keys():
            self.database.run(f"DELETE FROM t WHERE k = '{self.key(n)}'")
        else:
            self._insert("t", [n])

    def _account(self):
        accounts = Accounts(open_place(self.place), "model", 1)
        source, after = open_source(self.source), None
        while after != self.upper:
            (upto,) = source.edges(after, self.upper, self.size, 1)
            chunk = ChunkRange(after, upto)
            keys = [source.key_of(row) for batch in source.read(chunk, 100) for row in batch.rows]
            of = {key: self.states[int(key[0])] for key in keys}
            failed = [key for key in keys if of[key] == "failed"]
            filtered = [key for key in keys if of[key] == "filtered"]
            with DeadLetters(self.place, "model", 1, source.schema).open(chunk, "run") as burial:
                now = datetime.now(UTC)
                burial.add([DeadLetter(key, "process", "E", "", "", 1, now, {"k": key[0]}) for key in failed])
                burial.finish()
            tally = Tally(len(keys), len(keys) - len(failed) - len(filtered), len(filtered), len(failed))
            accounts.add(ChunkResult(chunk, tally, filtered_keys=sum_of_keys(filtered)))
            after = upto
        accounts.save()

    def cursor(self):
        position = Position(None, self.upper, self.upper)
        return Cursor("model", 1, "id", "full", {}, position, 0, self.place, RunState("run", ""), status="complete")

    def close(self):
        close_engines()
        self.database.engine.dispose()


class Keyed:
    """A source of which only the key is of interest."""

    def __init__(self, *key):
        self.key = key

    def key_of(self, row):
        return (row[0],)


@pytest.mark.parametrize(
    "form", [{"rows": [(n, n) for n in range(4)]}, {"table": pa.table({"id": range(4), "x": range(4)})}]
)
def test_filtered_records_are_those_that_became_nothing(form):
    batch, outputs = Batch(("id", "x"), **form), [[Item(0, [{}]), Item(2, [{}])]]
    assert sum_filtered(batch, outputs, [], Keyed("id")) == sum_of_keys([(1,), (3,)])
    assert sum_filtered(batch, outputs, [Failure(1, "process", ValueError(), 1)], Keyed("id")) == sum_of_keys([(3,)])
    # Of files no database could be asked for keys.
    assert sum_filtered(batch, outputs, [], Keyed("file", "record")).is_unknown
