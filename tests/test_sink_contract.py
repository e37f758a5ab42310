"""One suite for every sink, table or files: what the work on a chunk relies on."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefect_batch import Files, Table, complete_files
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.blocks.transient import fails_chunk
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item

PASS = PassRef("contract", 1, "ab12")
CHUNKS = [ChunkRange(None if n == 0 else (n * 10,), (n * 10 + 10,)) for n in range(3)]
FORMS = ("parquet", "csv", "jsonl")


class TableEnd:
    """A table of two columns, of which the second refuses negative numbers."""

    bad = -1

    def __init__(self, database):
        self._database = database
        database.run("CREATE TABLE target (id INTEGER PRIMARY KEY, qty INTEGER CHECK (qty >= 0))")

    def open(self):
        return open_sink(Table(self._database.url, "target", key="id"))

    def rows(self):
        return self._database.rows("SELECT id, qty FROM target ORDER BY id")


class FilesEnd:
    """Files of two columns of whole numbers."""

    bad = "no number"

    def __init__(self, form, place):
        self._form, self._place = form, str(place)

    def open(self):
        return open_sink(Files(self._place, self._form, schema={"id": "int64", "qty": "int64"}))

    def rows(self):
        self.open().end_pass(PASS)
        read = {"parquet": self._parquet, "csv": self._csv, "jsonl": self._jsonl}[self._form]
        return [row for file in complete_files(self._place, verify=True) for row in read(file)]

    @staticmethod
    def _parquet(file):
        return list(zip(*pq.read_table(file).to_pydict().values(), strict=True))

    @staticmethod
    def _csv(file):
        lines = Path(file).read_text().splitlines()[1:]
        return [tuple(int(field) if field else None for field in line.split(",")) for line in lines]

    @staticmethod
    def _jsonl(file):
        return [tuple(json.loads(line).values()) for line in Path(file).read_text().splitlines()]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", *FORMS])
def end(request, tmp_path):
    if request.param in FORMS:
        yield FilesEnd(request.param, tmp_path / "out")
        return
    from prefect_batch.blocks.databases.connections import close_engines
    from tests.conftest import _database

    database = _database(request.param, request, tmp_path)
    yield TableEnd(database)
    close_engines()
    database.clear()


@pytest.fixture
def sink(end):
    opened = end.open()
    assert opened.check(pa.schema([])) == []
    opened.begin_pass(PASS)
    return opened


def put(sink, records, chunk=CHUNKS[0]):
    """Write a chunk as the work on it does; the places of the refused records."""
    if records:
        sink.prepare(records, pa.schema([]))
    items = [Item(place, [record]) for place, record in enumerate(records)]
    with sink.transaction(PASS, chunk) as transaction:
        refused = isolate(transaction, items, fails_chunk) if items else []
        transaction.commit()
    return [item.index for (item,), _ in refused]


def records(first, count, qty=1):
    return [{"id": n, "qty": qty} for n in range(first, first + count)]


@pytest.mark.parametrize("bad", [set(), {0}, {49}, {7, 8, 9}, set(range(0, 50, 7)), set(range(50))], ids=len)
def test_refused_records_are_found_and_the_others_written(sink, end, bad):
    rows = [{"id": n, "qty": end.bad if n in bad else n} for n in range(50)]
    assert put(sink, rows) == sorted(bad)
    assert end.rows() == [(n, n) for n in range(50) if n not in bad]


def test_a_column_that_the_sink_has_not_is_refused(sink, end):
    assert put(sink, [{"id": 1, "qty": 1}, {"id": 2, "other": 1}, {"id": 3}]) == [1]
    assert end.rows() == [(1, 1), (3, None)]


def test_a_repeated_chunk_is_there_once(sink, end):
    for qty in (1, 2):
        for n, chunk in enumerate(CHUNKS):
            assert put(sink, records(10 * n, 10, qty), chunk) == []
    assert end.rows() == [(n, 2) for n in range(30)]


def test_without_commit_nothing_stays(sink, end):
    put(sink, records(0, 5))
    with sink.transaction(PASS, CHUNKS[1]) as transaction:
        transaction.write(records(10, 5))
    # And the chunk can be repeated, with nothing to write this time.
    put(sink, [], CHUNKS[1])
    assert end.rows() == [(n, 1) for n in range(5)]


def test_an_error_in_the_block_leaves_nothing(sink, end):
    def fail():
        with sink.transaction(PASS, CHUNKS[0]) as transaction:
            transaction.write(records(0, 5))
            raise ZeroDivisionError

    sink.prepare(records(0, 5), pa.schema([]))
    with pytest.raises(ZeroDivisionError):
        fail()
    put(sink, [])
    assert end.rows() == []


def test_many_batches_are_one_transaction(sink, end):
    sink.prepare(records(0, 1), pa.schema([]))
    with sink.transaction(PASS, CHUNKS[0]) as transaction:
        for first in range(0, 50, 5):
            with transaction.savepoint():
                transaction.write(records(first, 5))
            transaction.write([])
        transaction.commit()
    assert end.rows() == [(n, 1) for n in range(50)]


def test_a_second_opening_goes_on_with_the_pass(sink, end):
    put(sink, records(0, 5))
    put(end.open(), records(10, 5), CHUNKS[1])
    assert end.rows() == [(n, 1) for n in (*range(5), *range(10, 15))]


def test_the_end_of_a_pass_can_be_repeated(sink, end):
    put(sink, records(0, 5))
    for _ in range(3):
        sink.end_pass(PASS)
        end.open().end_pass(PASS)
    assert end.rows() == [(n, 1) for n in range(5)]


VALUES = {
    "text": "é漢\"',\n",
    "day": date(2024, 2, 29),
    "moment": datetime(2024, 3, 31, 1, 59, 59, 999_990),
    "zoned": datetime(2024, 3, 31, 1, 59, 59, 999_990, tzinfo=UTC),
    "price": Decimal("12345678901234567890.12"),
    "rate": 0.1 + 0.2,
    "flag": True,
    "big": 2**62,
    "span": timedelta(hours=1),
}


@pytest.mark.parametrize("form", FORMS)
def test_values_written_to_files_are_read_as_they_were(tmp_path, form):
    names = {"text": "string", "day": "date32", "moment": "timestamp[us]", "zoned": "timestamp[us, UTC]"}
    names |= {"price": "decimal(30, 2)", "rate": "double", "flag": "bool", "big": "int64"}
    kept = {name: VALUES[name] for name in names}
    sink = open_sink(Files(str(tmp_path), form))
    sink.begin_pass(PASS)
    assert put(sink, [kept, dict.fromkeys(kept)]) == []
    sink.end_pass(PASS)
    spec = Files(str(tmp_path), form, schema=None if form == "parquet" else names, text_nulls=True)
    source = open_source(spec)
    chunk = ChunkRange(None, source.last_key())
    found = [row[: len(source.names)] for batch in source.read(chunk, 10) for row in batch.rows]
    assert [dict(zip(source.names, row, strict=True)) for row in found] == [kept, dict.fromkeys(kept)]
