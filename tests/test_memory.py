"""Memory: what bounds it, and what happens beyond the bound."""

import gc

import pandas as pd
import psutil
import pytest

from prefect_batch import Table, process_records, processor
from prefect_batch.blocks.batches import BATCH_BYTES, Batch
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.opening import open_source
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.flows.run.memory import LEAST_BATCH_ROWS, memory_bound_bytes, mind_memory
from prefect_batch.flows.run.run_limits import RunLimits
from prefect_batch.flows.run.stopping import StopRequest
from prefect_batch.tasks.work.work_chunk import ChunkJob, forget, work_chunk


def test_the_bound_is_a_share_of_what_there_is():
    assert memory_bound_bytes(100) == 100 * 2**20
    assert 0 < memory_bound_bytes(None) <= psutil.virtual_memory().total / 2


def test_wide_rows_come_in_smaller_batches(sqlite):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)")
    sqlite.many("INSERT INTO t VALUES (:id, :x)", [{"id": n, "x": bytes(100_000)} for n in range(1000)])
    source = open_source(Table(sqlite.url, "t", key="id"))
    sizes = [len(batch.rows) for batch in source.read(ChunkRange(None, (999,)), 5000)]
    assert sum(sizes) == 1000
    assert max(sizes[1:]) * 100_000 <= BATCH_BYTES


@pytest.mark.parametrize("concurrency", [1, 3, 8])
@pytest.mark.parametrize("batch_rows", [50, 100, 199, 20_000])
def test_limits_halve_while_memory_is_beyond_its_bound_and_end_at_the_least(concurrency, batch_rows):
    limits = RunLimits(concurrency, batch_rows, None, 10 * 2**20, FailurePolicy(), StopRequest(lambda: None))
    assert mind_memory(limits, 10 * 2**20) is None
    before = (batch_rows, concurrency)
    while (said := mind_memory(limits, 11 * 2**20)) is not None:
        now = (limits.batch_rows, limits.concurrency)
        assert now in ((max(LEAST_BATCH_ROWS, before[0] // 2), before[1]), (before[0], before[1] // 2))
        assert said == (
            f"11 MB of memory are more than 10 MB: now batches of {now[0]:,} records, {now[1]} chunks at once"
        )
        before = now
    assert before == (min(batch_rows, LEAST_BATCH_ROWS), 1)


def test_beyond_the_bound_batches_shrink_and_then_the_window(server, sqlite, job, tmp_path, caplog):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY)")
    sqlite.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(3000)])
    report = process_records(
        job=job,
        source=Table(sqlite.url, "t", key="id"),
        process=dict,
        sink=Table(sqlite.url, "out", key="id"),
        chunk_size=100,
        concurrency=4,
        max_memory_mb=1,
        dead_letters=str(tmp_path),
    )
    assert report.run.written == 3000
    told = [
        record.getMessage() for record in caplog.records if "MB of memory are more than 1 MB" in record.getMessage()
    ]
    assert "now batches of 2,500 records, 4 chunks at once" in told[0]
    assert "now batches of 100 records, 1 chunks at once" in told[-1]
    assert len(told) == 8


def fail_in_a_chain(record):
    try:
        return {"id": record["id"] if record["id"] % 10 else record["missing"]}
    except KeyError as error:
        raise ValueError("a bad record") from error


async def fail_while_awaited(record):
    return fail_in_a_chain(record)


@processor(vectorized=True)
def fail_in_columns(frame: pd.DataFrame):
    if (frame["id"] % 10 == 0).any():
        raise ValueError("bad records")
    return frame


def fail_in_the_sink(record):
    return {"id": record["id"] if record["id"] % 10 else -1}


def batches():
    return [one for one in gc.get_objects() if isinstance(one, Batch)]


@pytest.mark.parametrize("function", [fail_in_a_chain, fail_while_awaited, fail_in_columns, fail_in_the_sink])
def test_failed_records_keep_no_batch_in_memory(sqlite, tmp_path, function):
    """Their tracebacks would: in rings, which only Python's collector finds, and it comes late."""
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY CHECK (id > 0))")
    sqlite.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(1, 1001)])
    source, sink = (Table(sqlite.url, name, key="id") for name in ("t", "out"))
    job = ChunkJob("job", 1, "id", "run", source, sink, function, str(tmp_path), batch_rows=50)
    gc.collect()
    gc.disable()
    others = batches()  # Other tests of this process may have left some.
    try:
        assert work_chunk(job, ChunkRange(None, (1000,))).tally.failed == 100
        assert not [one for one in batches() if not any(one is other for other in others)]
    finally:
        gc.enable()
        forget("run")
