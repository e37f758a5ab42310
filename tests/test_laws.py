"""Laws: what holds for every key, chunk size, density and point of interruption."""

import contextlib
import json
import math
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_batch import Table
from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, ErrorCount, Tally
from prefect_batch.blocks.errors import BadParameter, BadSource, SkipRecord
from prefect_batch.blocks.keys import decode_key, encode_key, key_text
from prefect_batch.blocks.letters.record_json import decode_record, encode_record
from prefect_batch.blocks.opening import open_source
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.blocks.state.position import Position
from prefect_batch.tasks.plan.chunk_size import (
    FIRST_ROWS,
    GROWTH,
    LEAST_ROWS,
    LONGEST_SECONDS,
    MOST_ROWS,
    TARGET_SECONDS,
    ChunkSizer,
    start_of,
)
from prefect_batch.tasks.plan.planner import Planner
from prefect_batch.tasks.report.progress import Progress, duration_text
from prefect_batch.tasks.report.report import count_errors
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item, ItemRows
from prefect_batch.tasks.work.process_record import process_batch

zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=45))])
values = st.one_of(
    st.integers(),
    st.text(),
    st.booleans(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False),
    st.dates(),
    st.datetimes(timezones=zones),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.binary(),
)
keys = st.lists(values, min_size=1, max_size=3).map(tuple)


@given(keys)
def test_a_key_comes_back_as_it_was(key):
    back = decode_key(json.loads(json.dumps(encode_key(key))))
    assert back == key
    assert [type(value) for value in back] == [type(value) for value in key]
    assert list(map(str, back)) == list(map(str, key))  # -0.0, and decimals with their zeros


@given(st.integers(min_value=2**53))
def test_a_large_integer_survives_readers_that_hold_doubles(number):
    text = json.dumps(encode_key((number,)))
    assert json.loads(text, parse_int=float) == json.loads(text)


@given(st.dictionaries(st.text(), st.one_of(values, st.none(), st.lists(st.integers()), st.just({"a": [None]}))))
def test_a_record_comes_back_from_its_letter_as_it_was(record):
    assert decode_record(encode_record(record)) == record


def test_a_value_without_an_exact_text_cannot_be_a_key():
    with pytest.raises(BadSource, match=r"builtins\.complex cannot be part of a key"):
        encode_key((1j,))


def test_keys_are_read_by_people():
    assert key_text((1,)) == "1"
    assert key_text((1, "a")) == "(1, 'a')"
    assert key_text((b"\x01",)) == "0x01"
    assert ChunkRange(None, (5,)).text == "(start, 5]"
    assert ChunkRange((5,), (9,)).text == "(5, 9]"


@given(st.one_of(st.none(), keys), keys)
def test_a_range_comes_back_and_keeps_its_digest(after, upto):
    chunk = ChunkRange(after, upto)
    back = ChunkRange.decode(json.loads(json.dumps(chunk.encode())))
    assert (back, back.digest) == (chunk, chunk.digest)


class Rows:
    """A source of integers in memory, with the contract of `SqlSource`."""

    def __init__(self, numbers):
        self.numbers = sorted(numbers)

    def edges(self, after, upto, rows, most):
        found = []
        while len(found) < most and after != upto:
            left = [n for n in self.numbers if (after is None or n > after[0]) and n <= upto[0]]
            after = (left[rows - 1],) if len(left) >= rows else upto
            found.append(after)
        return found

    def read(self, chunk):
        after = -math.inf if chunk.after is None else chunk.after[0]
        return [n for n in self.numbers if after < n <= chunk.upto[0]]


numbers = st.lists(st.integers(-50, 50), min_size=1, max_size=60)


@given(
    numbers, st.integers(1, 70), st.integers(1, 5), st.randoms(use_true_random=False), st.none() | st.integers(1, 20)
)
def test_a_walk_in_any_order_reads_every_row_once(rows, chunk_size, at_once, random, canary):
    source = Rows(rows)
    position = Position(None, (max(rows),), None)
    planner = Planner(source, ChunkSizer(chunk_size, 0), limit=None, canary=canary)
    seen, busy = [], set()
    while not position.complete:
        position = planner.plan(position, busy, at_once - len(busy))
        busy.update(planner.take(position, busy, at_once - len(busy)))
        finished = random.choice(sorted(busy, key=lambda chunk: chunk.upto))
        busy.discard(finished)
        seen += source.read(finished)
        position = Position.decode(json.loads(json.dumps(position.finish(finished).encode())))
    assert sorted(seen) == sorted(rows)
    assert not busy


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    numbers,
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 4), st.integers(0, 6)), max_size=8),
    st.randoms(use_true_random=False),
)
def test_resuming_at_any_edge_with_any_size_reads_every_row_once(rows, runs, random):
    """Each run has its own chunk size and concurrency, and is killed after some chunks; those in flight are lost."""
    source, position = Rows(rows), Position(None, (max(rows),), None)
    written = {}
    for chunk_size, at_once, lasts in [*runs, (7, 2, 1000)]:
        planner, busy = Planner(source, ChunkSizer(chunk_size, 0), limit=None, canary=None), set()
        for _ in range(lasts):
            if position.complete:
                break
            position = planner.plan(position, busy, at_once - len(busy))
            busy.update(planner.take(position, busy, at_once - len(busy)))
            finished = random.choice(sorted(busy, key=lambda chunk: chunk.upto))
            busy.discard(finished)
            assert finished not in written
            written[finished] = source.read(finished)
            position = position.finish(finished)
    assert position.complete
    assert sorted(n for chunk in written.values() for n in chunk) == sorted(rows)
    uppers = sorted(chunk.upto for chunk in written)
    assert all(ChunkRange(after, upto) in written for after, upto in pairwise([None, *uppers]))


@given(numbers, st.integers(1, 70), st.integers(1, 100))
def test_a_limit_starts_no_more_records_than_it_allows(rows, chunk_size, limit):
    rows = list(range(len(rows)))  # Without ties, which a range cannot cut.
    source, position = Rows(rows), Position(None, (max(rows),), None)
    planner, read = Planner(source, ChunkSizer(chunk_size, 0), limit=limit, canary=1000), 0
    while True:
        position = planner.plan(position, set(), 1)
        chunks = planner.take(position, set(), 1)
        if not chunks:
            break
        read += len(source.read(chunks[0]))
        position = position.finish(chunks[0])
    assert read == min(limit, len(rows))


def test_a_finished_chunk_must_have_been_planned():
    with pytest.raises(ValueError, match="is not planned"):
        Position(None, (9,), None).finish(ChunkRange(None, (5,)))


STARTS = {
    "integer": lambda n: n * 3 - 20,
    "text": lambda n: f"{n % 7}-{n}",
    "date": lambda n: (date(2024, 1, 1) + timedelta(days=n)).isoformat(),
    "datetime": lambda n: (datetime(2024, 1, 1) + timedelta(microseconds=n)).isoformat(" ", "microseconds"),
    "uuid": lambda n: str(uuid.UUID(int=n * 7**40 % 2**128)),
    "blob": lambda n: n.to_bytes(2, "big"),
    "real": lambda n: n / 7,
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(STARTS)), ranks=st.lists(st.integers(0, 60), min_size=1), size=st.integers(1, 70))
def test_in_sql_too_ranges_cover_every_row_once_ties_included(kind, ranks, size, tmp_path_factory):
    from tests.conftest import Database

    database = Database(f"sqlite:///{tmp_path_factory.mktemp('law')}/law.db", "sqlite")
    database.run(f"CREATE TABLE t (k {kind.upper()} NOT NULL, n INTEGER)")
    database.many("INSERT INTO t VALUES (:k, :n)", [{"k": STARTS[kind](rank), "n": n} for n, rank in enumerate(ranks)])
    source = open_source(Table(database.url, "t", key="k"))
    upper, after, seen = source.last_key(), None, []
    while after != upper:
        for edge in source.edges(after, upper, size, 3):
            chunk = ChunkRange(after, decode_key(json.loads(json.dumps(encode_key(edge)))))
            seen += [row[1] for batch in source.read(chunk, 4) for row in batch.rows]
            after = edge
    assert sorted(seen) == list(range(len(ranks)))
    database.engine.dispose()


class Rejecting:
    """A sink in memory that refuses some numbers, all or nothing per write, under savepoints."""

    def __init__(self, bad, error=ValueError):
        self.bad, self.rows, self.writes, self.error = bad, [], 0, error

    def write(self, records):
        self.writes += 1
        for record in records:
            self.rows.append(record["n"])
            if record["n"] in self.bad:
                raise self.error(record["n"])

    @contextlib.contextmanager
    def savepoint(self):
        before = list(self.rows)
        try:
            yield
        except Exception:
            self.rows = before
            raise


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=40))
def test_halving_finds_just_the_bad_ones_in_few_writes(count, bad):
    bad = {n for n in bad if n < count}
    sink = Rejecting(bad)
    items = [Item(n, [{"n": n}]) for n in range(count)]
    refused = isolate(sink, items)
    assert [item.index for (item,), _ in refused] == sorted(bad)
    assert [error.args for _, error in refused] == [(n,) for n in sorted(bad)]
    assert sink.rows == [n for n in range(count) if n not in bad]
    k = len(bad)
    assert sink.writes <= 1 + 2 * k * (math.log2(count / k) + 2 if k else 0)


class Telling(Rejecting):
    """A sink that tells which row it refused; the first time, it is wrong."""

    def write(self, records):
        try:
            super().write(records)
        except ValueError as error:
            error.refused_row = [r["n"] for r in records].index(error.args[0]) + (self.writes == 1)
            raise


@given(st.integers(1, 300), st.sets(st.integers(0, 299)))
def test_a_sink_that_tells_the_row_is_asked_less(count, bad):
    bad = {n for n in bad if n < count}
    sink = Telling(bad)
    refused = isolate(sink, ItemRows(list(range(count)), [{"n": n} for n in range(count)]))
    assert [place for part, _ in refused for place in part.places] == sorted(bad)
    assert [error.args for _, error in refused] == [(n,) for n in sorted(bad)]
    assert sink.rows == [n for n in range(count) if n not in bad]
    assert sink.writes <= 5 + 4 * len(bad)


def test_an_error_that_no_record_is_to_blame_for_passes_through():
    sink = Rejecting({3}, ConnectionError)
    with pytest.raises(ConnectionError, match="3"):
        isolate(sink, [Item(n, [{"n": n}]) for n in range(9)])
    assert sink.writes == 1


@given(st.lists(st.sampled_from(["ok", "two", "none", "skip", "raise", "nonsense"])), st.integers(0, 2))
def test_every_record_is_written_filtered_or_failed(behaviours, retries):
    def function(record):
        kind = record["kind"]
        if kind == "skip":
            raise SkipRecord
        if kind == "raise":
            raise RuntimeError
        return {"ok": record, "two": [record, record], "none": None, "nonsense": 7}[kind]

    batch = Batch(("kind",), [(kind,) for kind in behaviours])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda _: None)
        items, failures = process_batch(function, batch, retries)
    assert [behaviours[item.index] for item in items] == [b for b in behaviours if b in ("ok", "two")]
    assert [behaviours[f.index] for f in failures] == [b for b in behaviours if b in ("raise", "nonsense")]
    assert sum(len(item.rows) for item in items) == behaviours.count("ok") + 2 * behaviours.count("two")


counts = st.integers(0, 10**9)


@given(counts, counts, counts, counts, counts, counts)
def test_tallies_add_up_and_come_back(a, b, c, d, e, f):
    one, two = Tally(a + b + c, a, b, c), Tally(d + e + f, d, e, f)
    total = one + two
    assert total.read == total.written + total.filtered + total.failed == a + b + c + d + e + f
    assert Tally.decode(json.loads(json.dumps(total.encode()))) == total


def test_a_tally_that_loses_a_record_cannot_be_made():
    with pytest.raises(ValueError, match="a record was lost"):
        Tally(read=10, written=9)


def test_a_result_comes_back_from_the_cache():
    result = ChunkResult(
        ChunkRange(None, (datetime(2024, 1, 1),)), Tally(3, 2, 0, 1), (ErrorCount("E", 1, "k", "m"),), "/x", 1.5, 9
    )
    assert ChunkResult.decode(json.loads(json.dumps(result.encode()))) == result


@given(st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 1), st.integers(0, 3000))
def test_the_rate_is_exceeded_by_more_and_not_by_equal(read, failed, rate, least):
    failed = min(read, failed)
    tally = Tally(read, read - failed, 0, failed)
    policy = FailurePolicy(rate, least)
    too_many = failed > rate * read
    assert bool(policy.exceeded(tally, final=True)) is too_many
    assert bool(policy.exceeded(tally, final=False)) is (too_many and read >= least)


def test_five_percent_of_a_thousand_is_fifty():
    assert FailurePolicy().exceeded(Tally(1000, 950, 0, 50), final=False) is None
    assert FailurePolicy().exceeded(Tally(1000, 949, 0, 51), final=False)
    assert FailurePolicy().exceeded(Tally(1, 0, 0, 1), final=False) is None


@pytest.mark.parametrize("bad", [{"max_failure_rate": 1.5}, {"max_failure_rate": -0.1}, {"min_records": -1}])
def test_limits_out_of_range_are_refused(bad):
    with pytest.raises(BadParameter, match=next(iter(bad))):
        FailurePolicy(**bad)


errors = st.lists(st.builds(ErrorCount, st.sampled_from("ABC"), st.integers(1, 9), st.text(), st.text()), max_size=6)


@given(errors, errors)
def test_errors_of_a_kind_are_counted_together(first, second):
    total = count_errors(tuple(first), tuple(second))
    assert sum(e.count for e in total) == sum(e.count for e in [*first, *second])
    assert len({e.error_type for e in total}) == len(total)
    assert [e.count for e in total] == sorted((e.count for e in total), reverse=True)


def test_progress_is_honest_about_what_it_knows():
    progress = Progress("clean-orders", None, started_at=0.0)
    assert progress.line(1.0) == "clean-orders: 0 records, time left unknown, 0 failed (0.00%)"
    progress = Progress("clean-orders", 6_001_215, Tally(1_000_000, 1_000_000), started_at=0.0)
    progress.add(Tally(250_000, 249_688, 0, 312), 5.0)
    assert progress.line(5.0) == (
        "clean-orders: 1,250,000 of 6,001,215 records (20.8%), 50,000/s, about 1 min 35 s left, 312 failed (0.02%)"
    )


def test_the_rate_is_that_of_the_last_minute():
    progress = Progress("j", 10**6, started_at=0.0)
    for second in range(1, 301):
        progress.add(Tally(10, 10) if second <= 200 else Tally(1000, 1000), float(second))
    assert progress.rate(300.0) == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.6, "1 min 0 s"), (99, "1 min 39 s"), (11100, "3 h 5 min")]
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration_text(seconds) == text


def test_decimals_keep_their_zeros():
    assert str(decode_key(encode_key((Decimal("1.500"),)))[0]) == "1.500"


def settle(pace, records=0, chunks=60, row_bytes=0):
    """The sizes that chunks have one after the other, at so many rows a second."""
    sizer, sizes = ChunkSizer(None, records), []
    for _ in range(chunks):
        sizes.append(sizer.rows)
        read = sizer.rows
        sizer.observe(read, Tally(read, read, seconds=read / pace, bytes=read * row_bytes))
    return sizes


@given(st.floats(0.1, 10**7))
def test_chunks_settle_at_their_target_duration_and_never_jump_up(pace):
    sizes = settle(pace)
    assert all(after <= GROWTH * before for before, after in pairwise(sizes))
    expected = min(MOST_ROWS, max(LEAST_ROWS, pace * TARGET_SECONDS))
    assert sizes[-1] == pytest.approx(expected, rel=0.01, abs=1)


def test_chunks_that_are_far_too_long_shrink_at_once():
    assert settle(pace=10, chunks=2)[1] == 10 * TARGET_SECONDS


def test_a_very_long_pass_has_longer_chunks():
    assert settle(pace=1000, records=10**7)[-1] == 10**4
    assert settle(pace=1000, records=10**9)[-1] == 1000 * LONGEST_SECONDS


def test_wide_rows_make_smaller_chunks():
    assert settle(pace=10**6, row_bytes=2**20)[-1] == 256


def test_a_fixed_size_stays():
    sizer = ChunkSizer(777, 10**9)
    sizer.observe(777, Tally(777, 777, seconds=1000))
    assert (sizer.rows, sizer.adapts, sizer.at_floor) == (777, False, False)


def test_chunks_planned_at_another_size_say_nothing():
    sizer = ChunkSizer(None, 0)
    sizer.observe(FIRST_ROWS, Tally(FIRST_ROWS, FIRST_ROWS, seconds=0.1))
    grown = sizer.rows
    for _ in range(5):
        sizer.observe(FIRST_ROWS, Tally(FIRST_ROWS, FIRST_ROWS, seconds=0.1))
    assert sizer.rows == grown == FIRST_ROWS * GROWTH


def test_a_slow_canary_makes_the_first_chunks_small():
    sizer = ChunkSizer(None, 0)
    sizer.observe(1000, Tally(1000, 1000, seconds=100))
    assert sizer.rows == 50


@given(st.floats(0.1, 10**7), st.integers(1, 10**6), st.booleans())
def test_no_run_starts_with_chunks_that_are_too_long(pace, done, tables):
    """Whether the pass has just begun, where its first small chunk tells, or not."""
    start = start_of(Tally(), tables=tables)
    sizer = ChunkSizer(None, 0, first=start.rows)
    sizer.observe(start.canary, Tally(start.canary, start.canary, seconds=start.canary / pace))
    resumed = start_of(Tally(done, done, seconds=done / pace), tables=tables)
    for rows in (sizer.rows, resumed.rows):
        assert rows == LEAST_ROWS or rows / pace <= LONGEST_SECONDS
        assert rows <= start.rows
    # What comes with a first chunk, such as imports, does not slow down those that are quick.
    if pace > start.rows / LONGEST_SECONDS:
        assert sizer.rows == resumed.rows == start.rows


def test_an_empty_chunk_lets_it_grow():
    sizer = ChunkSizer(None, 0)
    sizer.observe(FIRST_ROWS, Tally())
    assert sizer.rows == FIRST_ROWS * GROWTH
