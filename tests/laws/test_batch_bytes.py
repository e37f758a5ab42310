"""Law 7: a batch is bounded by bytes, the first one and every later one, wherever rows become wide."""

import itertools
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_batch import Files, Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases import fetch
from prefect_batch.blocks.files.reading import parquet_source
from prefect_batch.blocks.opening import open_source

BOUND = 200_000
# Narrow rows, then wide ones, then narrow ones.
WIDTHS = [10] * 150 + [5_000] * 150 + [10] * 150


@given(
    runs=st.lists(st.tuples(st.integers(1, 300), st.sampled_from([1, 100, 1_000, 50_000])), max_size=6),
    batch_rows=st.integers(1, 400),
)
def test_batches_have_all_rows_in_order_and_are_bounded(runs, batch_rows):
    widths = [width for count, width in runs for _ in range(count)]
    shared = {width: "x" * width for width in set(widths)}
    rows = iter([(n, shared[width]) for n, width in enumerate(widths)])
    asked = []

    def some(count, wanted):
        asked.append((count, wanted))
        return list(itertools.islice(rows, count))

    def gathered():
        if last := (yield from fetch._gathered(some, batch_rows)):
            yield last

    found = list(gathered())
    assert [n for batch in found for n, _ in batch] == list(range(len(widths)))
    assert all(0 < len(batch) <= batch_rows for batch in found)
    assert all(count <= fetch.STEP_ROWS and count <= wanted <= batch_rows for count, wanted in asked)


@pytest.mark.parametrize("read", ["read", "read_tables"])
def test_rows_of_databases(database, monkeypatch, read):
    monkeypatch.setattr(fetch, "BATCH_BYTES", BOUND)
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
    database.many("INSERT INTO t VALUES (:id, :x)", [{"id": n, "x": "x" * w} for n, w in enumerate(WIDTHS)])
    source = open_source(Table(database.url, "t", key="id"))
    whole = ChunkRange(None, (len(WIDTHS) - 1,))
    batches = [batch.rows for batch in getattr(source, read)(whole, 5_000)]
    assert [row[0] for batch in batches for row in batch] == list(range(len(WIDTHS)))
    if read == "read":
        # What is fetched blindly when rows become wide, and no more.
        assert all(sum(sys.getsizeof(x) for _, x in batch) <= BOUND + fetch.STEP_ROWS * 5_100 for batch in batches)
        assert len(batches) >= 3


def test_a_reading_that_is_left_in_the_middle_leaves_its_connection_usable(database):
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    database.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(1_000)])
    source = open_source(Table(database.url, "t", key="id"))
    whole = ChunkRange(None, (999,))
    for batch_rows in (10, 100, 500):
        reading = source.read(whole, batch_rows)
        next(reading)
        reading.close()
        assert sum(map(len, source.read(whole, batch_rows))) == 1_000


def test_an_error_of_the_server_in_the_middle_of_a_reading_is_raised(postgresql):
    postgresql.run("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    postgresql.many("INSERT INTO t VALUES (:id)", [{"id": n} for n in range(500)])
    source = open_source(Table(postgresql.url, "t", key="id", where="1 / (400 - id) IS NOT NULL"))
    with pytest.raises(Exception, match="division by zero"):
        list(source.read(ChunkRange(None, (499,)), 1_000))
    assert sum(map(len, source.read(ChunkRange(None, (300,)), 1_000))) == 301


def test_rows_of_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_source, "BATCH_BYTES", BOUND)
    # The dictionary holds a value once: the footer says that the rows are narrow.
    pq.write_table(pa.table({"id": range(1_000), "x": ["x" * 5_000] * 1_000}), tmp_path / "a.parquet")
    source = open_source(Files(str(tmp_path / "a.parquet")))
    batches = list(source.read(ChunkRange(None, source.last_key()), 5_000))
    assert sum(map(len, batches)) == 1_000
    assert all(batch.table.nbytes <= BOUND for batch in batches)
