"""Run windows, series, rates and progress: laws over every moment, zone, length and rate."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given as given_quickly
from hypothesis import settings
from hypothesis import strategies as st

from prefect_batch.blocks.chunks import Tally
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.blocks.parameters.run_window import RunWindow, clock_text
from prefect_batch.blocks.state.samples import MOST_SAMPLES, Sample, Series
from prefect_batch.flows.run.run_limits import RunLimits
from prefect_batch.flows.run.stopping import StopRequest
from prefect_batch.tasks.plan.chunk_size import ChunkSizer
from prefect_batch.tasks.report.progress import Progress
from prefect_batch.tasks.work import rate_limit


def given(*strategies):
    """As hypothesis's own, on machines of any speed."""
    return lambda test: settings(deadline=None)(given_quickly(*strategies)(test))


moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
hours = st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 23), st.integers(0, 59)).filter(
    lambda h: h[:2] != h[2:]
)
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
windows = st.builds(
    lambda found, zone: RunWindow(",".join(f"{a:02}:{b:02}-{c:02}:{d:02}" for a, b, c, d in found) + f" {zone}"),
    st.lists(hours, min_size=1, max_size=3),
    zones,
)


@given(windows, moments)
def test_it_is_open_when_it_opens(window, now):
    opens = window.opens_at(now)
    assert window.is_open(opens)
    assert (opens == now) == window.is_open(now)


@given(windows, moments)
def test_between_now_and_its_opening_it_is_closed(window, now):
    opens = window.opens_at(now)
    for share in (0.25, 0.5, 0.75):
        before = now + share * (opens - now)
        assert window.is_open(before) == (before == opens)


@given(hours, zones, moments)
def test_a_window_and_the_rest_of_the_day_share_every_moment(h, zone, now):
    window = RunWindow(f"{h[0]}:{h[1]:02}-{h[2]}:{h[3]:02} {zone}")
    rest = RunWindow(f"{h[2]}:{h[3]:02}-{h[0]}:{h[1]:02} {zone}")
    assert window.is_open(now) != rest.is_open(now)


BERLIN = RunWindow("22:00-06:00 Europe/Berlin")


@pytest.mark.parametrize(
    ("window", "utc", "is_open"),
    [
        # Over midnight, in winter (UTC+1) and in summer (UTC+2).
        ("22:00-06:00 Europe/Berlin", "2026-01-10T20:59", False),
        ("22:00-06:00 Europe/Berlin", "2026-01-10T21:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-01-11T04:59", True),
        ("22:00-06:00 Europe/Berlin", "2026-01-11T05:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-07-10T20:00", True),
        ("22:00-06:00 Europe/Berlin", "2026-07-11T04:00", False),
        # Several.
        ("22:00-24:00,12:00-13:00 UTC", "2026-07-11T12:30", True),
        ("22:00-24:00,12:00-13:00 UTC", "2026-07-11T13:00", False),
        ("22:00-24:00,12:00-13:00 UTC", "2026-07-11T23:59", True),
        ("22:00-24:00,12:00-13:00 UTC", "2026-07-12T00:00", False),
        # 02:00 to 03:00 does not exist on 29 March 2026: at 01:00 UTC the clock jumps to 03:00.
        ("02:00-03:00 Europe/Berlin", "2026-03-29T00:59", False),
        ("02:00-03:00 Europe/Berlin", "2026-03-29T01:00", False),
        # And is there twice on 25 October 2026.
        ("02:00-03:00 Europe/Berlin", "2026-10-25T00:30", True),
        ("02:00-03:00 Europe/Berlin", "2026-10-25T01:30", True),
        ("02:00-03:00 Europe/Berlin", "2026-10-25T02:00", False),
    ],
)
def test_the_clock_on_the_wall_decides(window, utc, is_open):
    assert RunWindow(window).is_open(datetime.fromisoformat(f"{utc}+00:00")) is is_open


def test_a_window_that_a_day_skips_opens_the_day_after():
    window = RunWindow("02:00-03:00 Europe/Berlin")
    assert window.opens_at(datetime.fromisoformat("2026-03-29T00:00+00:00")).isoformat() == "2026-03-30T02:00:00+02:00"


@given(moments)
def test_a_window_of_all_day_never_closes(now):
    assert RunWindow("00:00-24:00 UTC").is_open(now)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22:00-06:00",
        "UTC",
        "22-06 UTC",
        "22:00-06:00 Mars/Base",
        "25:00-26:00 UTC",
        "22:60-23:00 UTC",
        "6:00-6:00 UTC",
    ],
)
def test_other_texts_are_refused_and_an_example_given(text):
    with pytest.raises(BadParameter, match=r"run_window='.*"):
        RunWindow(text)


def test_a_moment_is_said_with_its_day_when_that_is_another():
    now = datetime.fromisoformat("2026-01-10T12:00+00:00")
    assert clock_text(BERLIN.opens_at(now), now) == "22:00 Europe/Berlin"
    opens = RunWindow("02:00-03:00 Europe/Berlin").opens_at(now)
    assert clock_text(opens, now) == "Sunday 2026-01-11 at 02:00 Europe/Berlin"


steps = st.lists(st.floats(0, 50), max_size=1500)


@given(steps)
def test_a_series_is_bounded_in_order_and_reaches_to_the_end(steps):
    series, at = Series(), 0.0
    for step in steps:
        at += step
        series = series.add(Sample(at, read=int(at)))
    if steps:
        series = series.add(Sample(at, read=int(at)), final=True)
        assert series.samples[-1].at == at
    assert len(series.samples) <= MOST_SAMPLES
    assert all(a.at < b.at or b is series.samples[-1] for a, b in pairwise(series.samples))
    # Sums survive the thinning: a rate between any two samples is the true one.
    assert all(sample.read == int(sample.at) for sample in series.samples)


def test_a_long_series_keeps_its_beginning_and_an_even_distance():
    series = Series()
    for second in range(100_000):
        series = series.add(Sample(float(second)))
    distances = {b.at - a.at for a, b in pairwise(series.samples)}
    assert series.samples[0].at == 0
    assert MOST_SAMPLES // 2 <= len(series.samples) <= MOST_SAMPLES
    assert distances == {series.every_seconds}


def test_a_series_comes_back_from_json_and_from_other_versions():
    series = Series().add(Sample(1.5, 3, free_bytes=None)).add(Sample(4.0, 9))
    encoded = json.loads(json.dumps(series.encode()))
    assert Series.decode(encoded) == series
    newer = {**encoded, "fields": [*encoded["fields"], "colour"], "samples": [[*s, 1] for s in encoded["samples"]]}
    assert Series.decode(newer) == series
    older = {**encoded, "fields": ["at", "read"], "samples": [[1.0, 2]]}
    assert Series.decode(older).samples == (Sample(1.0, 2),)


def test_other_days_have_other_hours():
    window = RunWindow("09:00-17:00 America/New_York")
    open_hours = sum(window.is_open(datetime(2026, 3, 8, tzinfo=UTC) + timedelta(minutes=m)) for m in range(24 * 60))
    assert open_hours == 8 * 60


def limits_of(concurrency=4, batch_rows=5_000, max_rate=None):
    return RunLimits(concurrency, batch_rows, max_rate, 2**30, FailurePolicy(), StopRequest(lambda: None))


@given(st.integers(1, 256), st.integers(1, 20_000), st.none() | st.floats(0.01, 1e6))
def test_batches_have_a_record_at_least_and_all_together_a_second_of_the_rate_at_most(concurrency, batch_rows, rate):
    rows = limits_of(concurrency, batch_rows, rate).rows_at_once
    assert 1 <= rows <= batch_rows
    assert rate is not None or rows == batch_rows
    assert rate is None or rows == 1 or rows * concurrency <= rate


def test_chunks_are_started_unless_the_run_waits_or_stops():
    limits = limits_of()
    assert limits.let_start
    limits.waits_for = "the replica lag is 12"
    assert (limits.let_start, limits.stops) == (False, False)
    limits.waits_for = ""
    limits.request.ask("stopped by a test")
    assert (limits.let_start, limits.stops) == (False, True)
    limits = limits_of()
    limits.problem = ValueError()
    assert (limits.let_start, limits.stops) == (False, True)


class Clock:
    """A clock that only sleeping moves."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 1e-6)  # As a real one, it moves even so.


@given(
    st.floats(300, 1e6),
    st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 3)), min_size=1, max_size=15),
)
def test_no_more_is_taken_than_the_rate_allows(rate, batches):
    """Over any time from the start: the rate, a second's credit, and the batch in hand; and no time is wasted."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limit, "time", clock)
        paced = rate_limit.RateLimit()
        paced.rate = rate
        taken = worked = 0.0
        for rows, seconds in batches:
            paced.wait(rows, lambda: None)
            assert taken <= rate * (clock.now + 1) * 1.000001
            taken += rows
            clock.sleep(seconds)
            worked += seconds
        # A pause is never longer than the rate asks for, but for the last, short sleep of each.
        assert clock.now <= worked + taken / rate + len(batches) * rate_limit.SLEEP_SECONDS


def test_who_waits_for_the_rate_can_be_called_off():
    class Off(Exception):
        pass

    def off():
        raise Off

    paced = rate_limit.RateLimit()
    paced.rate = 0.001
    paced.wait(1000, lambda: None)
    with pytest.raises(Off):
        paced.wait(1, off)


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0.1, 5), st.floats(0, 50)), min_size=1, max_size=10))
def test_time_that_was_waited_counts_in_no_rate(steps):
    """With and without the waits, the rate and the time left are the same."""
    lengths = [0.0, 0.0]
    with_waits, without = (Progress("job", 100_000, started_at=0.0) for _ in range(2))
    for read, seconds, waited in steps:
        lengths = [length + seconds for length in lengths]
        with_waits.add(Tally(read, read), lengths[0])
        without.add(Tally(read, read), lengths[1])
        with_waits.wait("the replica", lengths[0], idle=True)
        lengths[0] += waited
        assert with_waits.waited(lengths[0]) == pytest.approx(lengths[0] - lengths[1])
        assert "waits: the replica" in with_waits.line(lengths[0])
        with_waits.wait("", lengths[0], idle=True)
        assert with_waits.rate(lengths[0]) == pytest.approx(without.rate(lengths[1]))
        assert with_waits.seconds_left(lengths[0]) == pytest.approx(without.seconds_left(lengths[1]))


@given(st.integers(1, 10**6), st.lists(st.floats(0.01, 60), max_size=20))
def test_no_chunk_is_larger_than_the_rate_suggests(bound, durations):
    sizer = ChunkSizer(None, 10**9)
    sizer.bound(bound)
    for seconds in durations:
        rows = sizer.take()
        assert rows <= bound
        sizer.observe(rows, Tally(rows, rows, seconds=seconds))
    sizer.bound(None)
    assert sizer.take() >= 1
