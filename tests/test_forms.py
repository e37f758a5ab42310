"""Vectorized and async functions: whole batches, and many calls in flight."""

import asyncio
import time
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_batch import BadRecords, RunStopped, SkipRecord, StopBatch, Table, dead_letters, process_records, processor
from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.processor import resolve_processor
from prefect_batch.tasks.work.outputs import first_records, places
from prefect_batch.tasks.work.process_async import process_async
from prefect_batch.tasks.work.process_vectorized import CALLS, RECORD, process_vectorized

SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.int64())])


def batch(count, nulls=()):
    return Batch(("id", "n"), [(i, None if i in nulls else i) for i in range(count)])


def done(function, rows, schema=SCHEMA):
    outputs, failures = process_vectorized(resolve_processor(function), rows, schema, 0)
    written = {}
    for part in outputs:
        for place in range(len(part)):
            one = part[place : place + 1]
            assert places(one)[0] not in written
            written[places(one)[0]] = first_records(one)
    assert list(written) == sorted(written)
    return written, {f.index: str(f.error) for f in failures}


class Counted:
    """A vectorized function that refuses some numbers, and counts its calls."""

    def __init__(self, bad, *, names):
        self.bad, self.names, self.calls = bad, names, 0

    def frame(self, frame):
        self.calls += 1
        mask = frame["n"].isin(list(self.bad))
        if mask.any():
            if self.names:
                raise BadRecords(mask, [f"{n} is bad" for n in frame["n"][mask]])
            raise ValueError("some are bad")
        return frame.assign(n=frame["n"] * 2)

    def table(self, table: pa.Table):
        self.calls += 1
        mask = pc.is_in(table["n"], pa.array(sorted(self.bad), pa.int64()))
        if pc.any(mask).as_py():
            if self.names:
                raise BadRecords(pc.indices_nonzero(mask), "is bad")
            raise ValueError("some are bad")
        return table.set_column(table.column_names.index("n"), "n", pc.multiply(table["n"], 2))

    def processor(self, form, **options):
        bound = getattr(self, form)

        if form == "table":

            def function(table: pa.Table):
                return bound(table)
        else:

            def function(frame):
                return bound(frame)

        return processor(vectorized=True, **options)(function)


@pytest.mark.parametrize("form", ["frame", "table"])
@pytest.mark.parametrize("names", [True, False])
@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 60), bad=st.sets(st.integers(0, 59), max_size=6))
def test_just_the_bad_records_fail(form, names, count, bad):
    bad = {n for n in bad if n < count}
    counted = Counted(bad, names=names)
    written, failed = done(counted.processor(form), batch(count))
    assert set(failed) == bad
    assert written == {n: [{"id": n, "n": 2 * n}] for n in range(count) if n not in bad}
    if names and bad:
        assert counted.calls == (2 if len(bad) < count else 1)


def test_named_records_have_their_reasons():
    _, failed = done(Counted({3, 5}, names=True).processor("frame"), batch(9))
    assert failed == {3: "3 is bad", 5: "5 is bad"}


def test_positions_that_do_not_exist_fail_the_batch():
    @processor(vectorized=True)
    def function(frame):
        raise BadRecords([99])

    _, failed = done(function, batch(3))
    assert len(failed) == 3
    assert "BadRecords must name at least one record of the batch" in failed[0]


def test_a_fallback_takes_over_where_there_are_many_bad_ones():
    counted = Counted(set(range(0, 2000, 2)), names=False)

    def one(record):
        if record["n"] % 2 == 0:
            raise ValueError("even")
        return {"id": record["id"], "n": 2 * record["n"]}

    written, failed = done(counted.processor("frame", fallback=one), batch(2000))
    assert set(failed) == set(range(0, 2000, 2))
    assert len(written) == 1000
    assert counted.calls <= CALLS


def test_integers_beside_nulls_stay_integers():
    seen = []

    @processor(vectorized=True)
    def function(frame):
        seen.append(dict(frame.dtypes))
        return frame

    written, _ = done(function, batch(3, nulls={1}))
    assert str(seen[0]["n"]) == "Int64"
    assert written == {0: [{"id": 0, "n": 0}], 1: [{"id": 1, "n": None}], 2: [{"id": 2, "n": 2}]}
    assert type(written[2][0]["n"]) is int


def test_rows_that_are_left_out_are_filtered_and_rows_may_be_many():
    @processor(vectorized=True)
    def function(frame):
        kept = frame[frame["n"] % 2 == 0]
        return pd.concat([kept, kept[kept["n"] == 2]])

    written, failed = done(function, batch(5))
    assert {index: len(rows) for index, rows in written.items()} == {0: 1, 2: 2, 4: 1}
    assert failed == {}


def test_a_table_keeps_the_column_that_tells_its_records():
    @processor(vectorized=True)
    def function(table: pa.Table):
        return table.filter(pc.greater(table["n"], 2))

    written, _ = done(function, batch(5))
    assert written == {3: [{"id": 3, "n": 3}], 4: [{"id": 4, "n": 4}]}


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (lambda _t: 7, "returned int; it must return a pyarrow.Table"),
        (lambda t: t.drop_columns(RECORD).slice(0, 0), f"keep the column {RECORD}"),
        (lambda t: t.set_column(t.num_columns - 1, RECORD, pa.array([77] * t.num_rows)), "changed the index"),
    ],
)
def test_outputs_that_do_not_tell_their_records_fail(returned, sentence):
    @processor(vectorized=True)
    def function(table: pa.Table):
        return returned(table)

    _, failed = done(function, batch(3))
    assert len(failed) == 3
    assert sentence in failed[0]


def test_a_value_that_does_not_fit_its_column_fails_its_record():
    rows = Batch(("id", "n"), [(0, 1), (1, "many"), (2, 3)])
    written, failed = done(Counted(set(), names=False).processor("frame"), rows)
    assert sorted(written) == [0, 2]
    assert failed[1].startswith("column n: ")


def test_types_that_sql_does_not_tell_of_are_those_of_the_values():
    @processor(vectorized=True)
    def function(table: pa.Table):
        assert pa.types.is_decimal(table.schema.field("n").type)
        return table

    rows = Batch(("id", "n"), [(0, Decimal("1.50")), (1, None)])
    written, failed = done(function, rows, pa.schema([("id", pa.int64()), ("n", pa.string())]))
    assert failed == {}
    assert written[0] == [{"id": 0, "n": Decimal("1.50")}]


def test_stop_batch_passes_through_a_vectorized_function():
    @processor(vectorized=True)
    def function(frame):
        raise StopBatch("enough")

    with pytest.raises(StopBatch):
        done(function, batch(3))


def concurrently(function, count, retries=0, timeout=None, check=lambda: None):
    return process_async(resolve_processor(function), batch(count), retries, timeout, check)


def test_calls_are_in_flight_together_and_not_more_than_allowed():
    now, most = [0], [0]

    @processor(concurrency=7)
    async def function(record):
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.01)
        now[0] -= 1
        if record["n"] % 10 == 1:
            raise ValueError(record["n"])
        if record["n"] % 10 == 2:
            raise SkipRecord
        return None if record["n"] % 10 == 3 else record

    items, failures = concurrently(function, 100)
    assert most[0] == 7
    assert [f.index for f in failures] == list(range(1, 100, 10))
    assert [item.index for item in items] == [n for n in range(100) if n % 10 not in (1, 2, 3)]


def test_each_call_has_its_time_limit():
    async def function(record):
        await asyncio.sleep(60 if record["n"] == 3 else 0)
        return record

    items, failures = concurrently(function, 10, timeout=0.3)
    assert [(f.index, f.stage) for f in failures] == [(3, "timeout")]
    assert len(items) == 9


def test_a_call_that_fails_is_tried_again():
    attempts = []

    async def function(record):
        attempts.append(record["n"])
        if record["n"] == 1 and attempts.count(1) < 3:
            raise ConnectionError
        if record["n"] == 2:
            raise ConnectionError
        return record

    items, failures = concurrently(function, 3, retries=2)
    assert len(items) == 2
    assert [(f.index, f.attempts) for f in failures] == [(2, 3)]


def test_stop_batch_cancels_what_is_in_flight():
    cancelled = []

    async def function(record):
        if record["n"] == 0:
            raise StopBatch("enough")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(record["n"])
            raise

    with pytest.raises(StopBatch):
        concurrently(function, 5)
    assert len(cancelled) == 4


def test_a_stop_at_once_cancels_what_is_in_flight():
    async def function(_record):
        await asyncio.sleep(600)

    def abandoned():
        raise RunStopped("at once")

    started = time.monotonic()
    with pytest.raises(RunStopped):
        concurrently(function, 5, check=abandoned)
    assert time.monotonic() - started < 60


@pytest.fixture
def numbers(sqlite):
    sqlite.run(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)", "CREATE TABLE out (id INTEGER PRIMARY KEY, n INTEGER)"
    )
    sqlite.many("INSERT INTO t VALUES (:n, :n)", [{"n": n} for n in range(3000)])
    return sqlite


@processor(vectorized=True)
def doubled(frame):
    bad = frame["n"] % 100 == 7
    if bad.any():
        raise BadRecords(bad, "seven")
    return frame.assign(n=frame["n"] * 2)


async def doubled_later(record):
    await asyncio.sleep(0)
    if record["n"] % 100 == 7:
        raise ValueError("seven")
    return {"id": record["id"], "n": 2 * record["n"]}


@pytest.mark.parametrize("workers", ["threads", "processes"])
@pytest.mark.parametrize("function", [doubled, doubled_later])
def test_the_flow_takes_every_form(server, numbers, job, tmp_path, function, workers):
    report = process_records(
        job=job,
        source=Table(numbers.url, "t", key="id"),
        process=function,
        sink=Table(numbers.url, "out", key="id"),
        dead_letters=str(tmp_path),
        workers=workers,
        concurrency=2,
        chunk_size=1000,
    )
    assert numbers.rows("SELECT * FROM out ORDER BY id") == [(n, 2 * n) for n in range(3000) if n % 100 != 7]
    assert report.run.failed == 30
    assert len(dead_letters(job)) == 30
    assert set(dead_letters(job)["error_message"]) == {"seven"}


def test_a_time_limit_for_records_needs_single_records(server, numbers, job, tmp_path):
    table = Table(numbers.url, "t", key="id")
    with pytest.raises(BadParameter, match="does not go with a vectorized function"):
        process_records(
            job=job, source=table, process=doubled, sink=table, record_timeout=1, dead_letters=str(tmp_path)
        )
