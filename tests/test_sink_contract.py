"""The suite for sinks, run on every kind of sink that there is, and what only some of them promise."""

from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial

import pyarrow as pa
import pytest

from prefect_batch import Files, Table, complete_files
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.ledger import LEDGER
from prefect_batch.blocks.errors import ChunkIsDone
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item
from prefect_batch.testing import SinkCase, exercise_sink
from prefect_batch.testing.walk import walk

PASS = PassRef("contract", 1, "ab12")
CHUNK = ChunkRange(None, (10,))
FORMS = ("parquet", "csv", "jsonl")


def table_case(database, write, opened=open_sink):
    """A table of two columns, of which the second refuses negative numbers. `opened` makes a sink of its parameter."""
    key = "" if write == "append" else " PRIMARY KEY"
    database.run(
        "DROP TABLE IF EXISTS target",
        f"DROP TABLE IF EXISTS {LEDGER}",  # Each case begins the same pass, which an earlier one has closed.
        f"CREATE TABLE target (id INTEGER{key}, qty INTEGER CHECK (qty >= 0))",
    )
    return SinkCase(
        open=partial(opened, Table(database.url, "target", key="id", write=write)),
        rows=lambda: [{"id": id_, "qty": qty} for id_, qty in database.rows("SELECT id, qty FROM target")],
        refused=lambda n: {"id": n, "qty": -1},
    )


def made_case(database):
    """A table that the first records make."""
    database.run("DROP TABLE IF EXISTS target")

    def rows():
        return walk(open_source(Table(database.url, "target", key="id")), 1000).records

    return SinkCase(partial(open_sink, Table(database.url, "target", key="id", create=True)), rows)


def files_case(place, form, schema):
    """Files of two columns of whole numbers."""

    def rows():
        if not complete_files(place, verify=True):
            return []
        return walk(open_source(Files(place, form, schema={"id": "int64", "qty": "int64"})), 1000).records

    return SinkCase(
        open=partial(open_sink, Files(place, form, schema=schema)),
        rows=rows,
        refused=lambda n: {"id": n, "qty": "no number"},
    )


@pytest.mark.parametrize("write", ["upsert", "insert", "append"])
def test_tables(database, write):
    exercise_sink(lambda: table_case(database, write))


def test_tables_that_are_made(database):
    exercise_sink(lambda: made_case(database))


@pytest.mark.parametrize("schema", [{"id": "int64", "qty": "int64"}, None], ids=["schema", "no schema"])
@pytest.mark.parametrize("form", FORMS)
def test_files(tmp_path, form, schema):
    numbers = iter(range(1000))
    exercise_sink(lambda: files_case(f"{tmp_path}/{next(numbers)}", form, schema))


@pytest.mark.parametrize("form", FORMS)
def test_files_in_memory(tmp_path, form):
    numbers = iter(range(1000))
    exercise_sink(
        lambda: files_case(f"memory://{tmp_path.name}/{next(numbers)}", form, {"id": "int64", "qty": "int64"})
    )


def put(sink, records):
    """Write a chunk and end its pass; the places of the refused records."""
    sink.begin_pass(PASS)
    sink.prepare(records, pa.schema([]))
    items = [Item(place, [record]) for place, record in enumerate(records)]
    with sink.transaction(PASS, CHUNK) as transaction:
        refused = isolate(transaction, items)
        transaction.commit()
    sink.end_pass(PASS)
    return [item.index for (item,), _ in refused]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", *FORMS])
def case(request, tmp_path):
    if request.param in FORMS:
        yield files_case(str(tmp_path / "out"), request.param, {"id": "int64", "qty": "int64"})
        return
    from prefect_batch.blocks.databases.connections import close_engines
    from tests.conftest import _database

    database = _database(request.param, request, tmp_path)
    yield table_case(database, "upsert")
    close_engines()
    database.clear()


def test_a_column_that_the_sink_has_not_is_refused(case):
    assert put(case.open(), [{"id": 1, "qty": 1}, {"id": 2, "other": 1}, {"id": 3}]) == [1]
    assert list(case.rows()) == [{"id": 1, "qty": 1}, {"id": 3, "qty": None}]


@pytest.mark.parametrize("form", FORMS)
def test_a_chunk_that_was_committed_stays_as_it_is(tmp_path, form):
    case = files_case(str(tmp_path), form, {"id": "int64", "qty": "int64"})
    sink = case.open()
    sink.begin_pass(PASS)
    for qty, is_done in ((1, nullcontext()), (2, pytest.raises(ChunkIsDone))):
        with is_done, sink.transaction(PASS, CHUNK) as transaction:
            transaction.write([{"id": n, "qty": qty} for n in range(10)])
            transaction.commit()
    sink.end_pass(PASS)
    assert list(case.rows()) == [{"id": n, "qty": 1} for n in range(10)]


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
    assert put(open_sink(Files(str(tmp_path), form)), [kept, dict.fromkeys(kept)]) == []
    spec = Files(str(tmp_path), form, schema=None if form == "parquet" else names, text_nulls=True)
    assert walk(open_source(spec), 1000).records == [kept, dict.fromkeys(kept)]
