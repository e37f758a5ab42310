"""A directory of files as a sink: what readers find is always one complete pass, whatever dies when."""

import csv
import io
import json
import math
import os
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadSink, ChunkIsDone, DoesNotFit, UnknownColumn
from prefect_batch.blocks.files.writing.fit_schema import fit_records, fit_table
from prefect_batch.blocks.files.writing.manifest import MANIFEST, complete_files
from prefect_batch.blocks.files.writing.part_writer import PartFormat
from prefect_batch.blocks.files.writing.sink import FilesSink
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.kinds.of_values import schema_of_records
from prefect_batch.blocks.opening import introduce, open_sink, open_source
from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.stores.opening import open_store
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item

EMPTY = pa.schema([])
CHUNKS = [ChunkRange(None if n == 0 else (10 * n,), (10 * n + 10,)) for n in range(6)]


def sink_at(place, form="parquet", **options):
    store = open_store(str(place))
    return FilesSink(store, PartFormat(form), **options)


def records_of(chunk, label="a"):
    return [{"id": n, "label": label} for n in range(chunk.upto[0] - 10, chunk.upto[0])]


def put(sink, pass_, chunk, records):
    """Write a chunk as the work on it does; the places of the refused records."""
    if records:
        sink.prepare(records, EMPTY)
    items = [Item(place, [record]) for place, record in enumerate(records)]
    with sink.transaction(pass_, chunk) as transaction:
        refused = isolate(transaction, items) if items else []
        transaction.commit()
    return [item.index for (item,), _ in refused]


def run_pass(sink, number, label="a", chunks=CHUNKS, adds=False):
    pass_ = PassRef("job", number, f"{number:08x}", adds)
    sink.begin_pass(pass_)
    for chunk in chunks:
        put(sink, pass_, chunk, records_of(chunk, label))
    sink.end_pass(pass_)
    return pass_


READ = {
    "parquet": lambda file: pq.read_table(file).to_pylist(),
    "csv": lambda file: pacsv.read_csv(file).to_pylist(),
    "jsonl": lambda file: list(map(json.loads, Path(file).read_bytes().splitlines())),
}


def found(place, form="parquet"):
    return [row for file in complete_files(str(place), verify=True) for row in READ[form](file)]


def visible(place):
    return sorted(name for name in os.listdir(place) if not name.startswith(("_", ".")))


@pytest.mark.parametrize("form", READ)
@pytest.mark.parametrize("compact_bytes", [None, 10**6])
def test_a_complete_pass_is_read_in_the_order_of_the_source(tmp_path, form, compact_bytes):
    sink = sink_at(tmp_path, form, compact_bytes=compact_bytes)
    pass_ = PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    for chunk in reversed(CHUNKS):
        put(sink, pass_, chunk, records_of(chunk))
    assert visible(tmp_path) == []  # A reader of the directory sees nothing of a pass on its way.
    with pytest.raises(BadSink, match="no pass into it is complete"):
        complete_files(str(tmp_path))
    sink.end_pass(pass_)
    assert [row["id"] for row in found(tmp_path, form)] == list(range(60))
    assert len(visible(tmp_path)) == (1 if compact_bytes else len(CHUNKS))
    assert sorted(os.listdir(tmp_path)) == [MANIFEST, *visible(tmp_path)]


def test_the_manifest_counts_rows_and_bytes(tmp_path):
    run_pass(sink_at(tmp_path), 1)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["rows"] == 60
    assert manifest["columns"] == {"id": "int64", "label": "string"}
    assert {file["name"]: file["bytes"] for file in manifest["files"]} == {
        name: (tmp_path / name).stat().st_size for name in visible(tmp_path)
    }
    assert pa.dataset.dataset(complete_files(str(tmp_path))).count_rows() == 60
    assert len(pd.read_parquet(tmp_path)) == 60


def test_a_file_that_was_altered_or_lost_is_found(tmp_path):
    run_pass(sink_at(tmp_path), 1)
    first, second = visible(tmp_path)[:2]
    with (tmp_path / first).open("ab") as file:
        file.write(b"x")
    assert len(complete_files(str(tmp_path))) == 6
    with pytest.raises(BadSink, match=f"{first} is not as it was written"):
        complete_files(str(tmp_path), verify=True)
    (tmp_path / first).unlink()
    (tmp_path / second).unlink()
    with pytest.raises(BadSink, match=f"has lost {first}"):
        complete_files(str(tmp_path), verify=True)


def test_a_chunk_is_committed_once_and_of_another_attempt_at_it_nothing_is_left(tmp_path):
    sink, pass_ = sink_at(tmp_path), PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    for chunk in CHUNKS:
        put(sink, pass_, chunk, [] if chunk is CHUNKS[2] else records_of(chunk, "first"))
    staged = sorted(os.listdir(tmp_path / "_pass-000001-ab"))
    for chunk in CHUNKS:
        with pytest.raises(ChunkIsDone):
            put(sink, pass_, chunk, [] if chunk is CHUNKS[3] else records_of(chunk, "second"))
    assert sorted(os.listdir(tmp_path / "_pass-000001-ab")) == staged
    sink.end_pass(pass_)
    rows = found(tmp_path)
    assert {row["label"] for row in rows} == {"first"}
    assert [row["id"] for row in rows] == [*range(20), *range(30, 60)]
    complete_files(str(tmp_path), verify=True)


def test_a_new_pass_replaces_the_former_one_at_its_end(tmp_path):
    sink = sink_at(tmp_path)
    run_pass(sink, 1, "old")
    pass_ = PassRef("job", 2, "cd")
    sink.begin_pass(pass_)
    put(sink, pass_, CHUNKS[0], records_of(CHUNKS[0], "new"))
    assert {row["label"] for row in found(tmp_path)} == {"old"}
    assert set(pd.read_parquet(tmp_path)["label"]) == {"old"}
    for chunk in CHUNKS[1:3]:
        put(sink, pass_, chunk, records_of(chunk, "new"))
    sink.end_pass(pass_)
    assert [(row["id"], row["label"]) for row in found(tmp_path)] == [(n, "new") for n in range(30)]
    assert len(visible(tmp_path)) == 3


def test_a_pass_given_up_leaves_nothing_in_the_next_one(tmp_path):
    sink = sink_at(tmp_path)
    given_up = PassRef("job", 1, "ab")
    sink.begin_pass(given_up)
    put(sink, given_up, CHUNKS[5], records_of(CHUNKS[5], "given up"))
    run_pass(sink_at(tmp_path), 2, chunks=CHUNKS[:1])
    assert [row["label"] for row in found(tmp_path)] == ["a"] * 10


def test_an_incremental_pass_adds_its_parts(tmp_path):
    run_pass(sink_at(tmp_path), 1, chunks=CHUNKS[:3])
    run_pass(sink_at(tmp_path), 2, "b", CHUNKS[3:5], adds=True)
    run_pass(sink_at(tmp_path), 3, "c", [], adds=True)
    run_pass(sink_at(tmp_path), 4, "d", CHUNKS[5:], adds=True)
    assert [(row["id"], row["label"]) for row in found(tmp_path)] == list(
        zip(range(60), "a" * 30 + "b" * 20 + "d" * 10, strict=True)
    )


def test_an_incremental_pass_needs_what_it_adds_to(tmp_path):
    sink = sink_at(tmp_path)
    with pytest.raises(BadSink, match=r"no manifest of the pass that pass 2 goes on from.*restart=True"):
        sink.begin_pass(PassRef("job", 2, "ab", adds=True))
    run_pass(sink, 1)
    other = sink_at(tmp_path, schema=pa.schema([("id", pa.string())]))
    with pytest.raises(BadSink, match="must add the same"):
        other.begin_pass(PassRef("job", 2, "ab", adds=True))


def test_a_source_without_rows_leaves_a_manifest_without_files(tmp_path):
    run_pass(sink_at(tmp_path), 1)
    run_pass(sink_at(tmp_path), 2, chunks=[])
    assert complete_files(str(tmp_path)) == []
    assert visible(tmp_path) == []


class Died(BaseException):
    """What kill -9 is to a process: nothing below it runs to its end."""


class Dying:
    """A store that dies at its nth change, before it or after it."""

    def __init__(self, store, nth, after):
        self._store, self._left, self._after = store, nth, after

    def __getattr__(self, name):
        former = getattr(self._store, name)
        if name not in ("new", "put_first", "move", "remove", "remove_directory"):
            return former

        def change(*arguments):
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Died
            result = former(*arguments)
            if self._left == 0:
                if name == "new":
                    with result as file:
                        file.write(b"{}" if arguments[0].endswith(".json") else b"half")
                    os.unlink(f"{self._store.place}/{arguments[0]}")
                raise Died
            return result

        return change


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("form", READ)
def test_killed_at_any_step_of_its_end_and_ended_again_a_pass_is_the_same(tmp_path, form, after):
    """And until then a reader finds the former pass, whole."""
    old = [(n, "old") for n in range(60)]
    new = [(n, "new") for n in range(60)]
    for step in range(1, 100):
        place = tmp_path / f"{step}"
        run_pass(sink_at(place, form), 1, "old")
        options = {"compact_bytes": {"parquet": 2_000, "csv": 250, "jsonl": 700}[form]}
        pass_ = PassRef("job", 2, "cd")
        sink = sink_at(place, form, **options)
        sink.begin_pass(pass_)
        for chunk in CHUNKS:
            put(sink, pass_, chunk, records_of(chunk, "new"))
        try:
            FilesSink(Dying(open_store(str(place)), step, after), PartFormat(form), **options).end_pass(pass_)
            survived = True
        except Died:
            survived = False
        assert [(row["id"], row["label"]) for row in found(place, form)] in (old, new)
        sink_at(place, form, **options).end_pass(pass_)
        assert [(row["id"], row["label"]) for row in found(place, form)] == new
        assert sorted(os.listdir(place)) == [MANIFEST, *visible(place)]
        assert set(complete_files(str(place))) == {str(place / name) for name in visible(place)}
        if survived:
            break
    assert step > 10


@pytest.mark.parametrize("after", [False, True])
def test_a_chunk_killed_at_any_step_and_repeated_is_whole(tmp_path, after):
    for step in range(1, 20):
        place = tmp_path / f"{step}"
        sink, pass_ = sink_at(place), PassRef("job", 1, "ab")
        sink.begin_pass(pass_)
        try:
            dying = FilesSink(Dying(open_store(str(place)), step, after), PartFormat("parquet"))
            put(dying, pass_, CHUNKS[0], records_of(CHUNKS[0], "first"))
            survived = True
        except Died:
            survived = False
        wanted = "second"
        try:
            put(sink, pass_, CHUNKS[0], records_of(CHUNKS[0], "second"))
        except ChunkIsDone:
            wanted = "first"
        assert wanted == "first" or not survived
        sink.end_pass(pass_)
        assert [row["label"] for row in found(place)] == [wanted] * 10
        complete_files(str(place), verify=True)
        if survived:
            break
    assert step > 1


def test_what_is_rolled_back_leaves_nothing(tmp_path):
    sink, pass_ = sink_at(tmp_path), PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    sink.prepare([{"id": 1}], EMPTY)
    with sink.transaction(pass_, CHUNKS[0]) as transaction:
        transaction.write([{"id": 1}])

    def fail():
        with sink.transaction(pass_, CHUNKS[0]) as transaction:
            transaction.write([{"id": 1}])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(os.listdir(tmp_path / "_pass-000001-ab")) == ["_pass.json", "_schema"]


def test_a_directory_that_vanished_under_a_pass_is_noticed(tmp_path):
    import shutil

    sink, pass_ = sink_at(tmp_path / "out"), PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    put(sink, pass_, CHUNKS[0], records_of(CHUNKS[0]))
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(BadSink, match=r"pass 1 of job has written is gone.*restart=True"):
        put(sink_at(tmp_path / "out"), pass_, CHUNKS[1], records_of(CHUNKS[1]))
    with pytest.raises(BadSink, match="is gone"):
        sink.end_pass(pass_)


def test_a_part_that_vanished_is_noticed(tmp_path):
    for lost in (0, 2):
        sink, pass_ = sink_at(tmp_path / f"{lost}"), PassRef("job", 1, "ab")
        sink.begin_pass(pass_)
        for chunk in CHUNKS:
            put(sink, pass_, chunk, records_of(chunk))
        (tmp_path / f"{lost}" / "_pass-000001-ab" / f"{CHUNKS[lost].digest}.json").unlink()
        with pytest.raises(BadSink, match="has lost the part"):
            sink.end_pass(pass_)


def test_the_files_of_others_are_neither_mixed_nor_removed(tmp_path):
    (tmp_path / "mine.parquet").write_bytes(b"precious")
    with pytest.raises(BadSink, match=r"holds mine.parquet, which no pass has written.*empty directory"):
        sink_at(tmp_path).check(EMPTY)
    (tmp_path / "mine.parquet").rename(tmp_path / "mine.txt")
    assert sink_at(tmp_path).check(EMPTY) == []
    run_pass(sink_at(tmp_path), 1)
    with pytest.raises(BadSink, match="holds the files of job job: name another directory"):
        sink_at(tmp_path).begin_pass(PassRef("other", 1, "ab"))
    run_pass(sink_at(tmp_path), 2)
    assert (tmp_path / "mine.txt").read_bytes() == b"precious"


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(BadSink, match="cannot be written"):
        sink_at(tmp_path / "file").check(EMPTY)


def test_a_full_disk_fails_the_chunk_and_buries_nothing(tmp_path):
    class Full:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            if name == "new":
                raise OSError(28, "No space left on device")
            return getattr(self._store, name)

    sink, pass_ = sink_at(tmp_path), PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    with pytest.raises(OSError, match="No space left"):
        put(FilesSink(Full(open_store(str(tmp_path))), PartFormat("parquet")), pass_, CHUNKS[0], [{"id": 1}])


# One schema for every part, exactly.


def test_the_first_records_fix_the_schema_for_every_process(tmp_path):
    first, second, pass_ = sink_at(tmp_path), sink_at(tmp_path), PassRef("job", 1, "ab")
    first.begin_pass(pass_)
    assert put(first, pass_, CHUNKS[0], [{"n": 1}, {"n": None}]) == []
    assert put(second, pass_, CHUNKS[1], [{"n": 1.5}, {"n": 2}, {"n": "3"}, {"m": 4}, {}]) == [0, 2, 3]
    first.end_pass(pass_)
    assert [row["n"] for row in found(tmp_path)] == [1, None, 2, None]


def test_a_given_schema_holds_from_the_first_record(tmp_path):
    schema = pa.schema([("n", pa.int16()), ("price", pa.decimal128(8, 2))])
    sink, pass_ = sink_at(tmp_path, schema=schema), PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    records = [{"n": 1, "price": Decimal("1.50")}, {"n": 2**15}, {"n": 3, "price": Decimal("0.001")}]
    assert put(sink, pass_, CHUNKS[0], records) == [1, 2]
    sink.end_pass(pass_)
    (file,) = complete_files(str(tmp_path))
    assert pq.read_schema(file).equals(schema)


MOMENT = datetime(2024, 3, 31, 1, 59, 59, 999_990)
HELD = [
    (pa.int64(), [1, -(2**63), 2**63 - 1, None]),
    (pa.float64(), [1.5, 2, math.inf, 0.1 + 0.2]),
    (pa.string(), ["", "é", "漢", 'q"x', "a\nb"]),
    (pa.bool_(), [True, False, None]),
    (pa.binary(), [b"", b"\xff\x00"]),
    (pa.date32(), [date(1, 1, 1), date(9999, 12, 31)]),
    (pa.timestamp("us"), [MOMENT, datetime(1, 1, 1), datetime(9999, 12, 31)]),
    (pa.timestamp("us", "UTC"), [MOMENT.replace(tzinfo=UTC)]),
    (pa.time64("us"), [time(1, 2, 3, 4)]),
    (pa.duration("us"), [timedelta(days=1, microseconds=1)]),
    (pa.decimal128(38, 3), [Decimal("1.125"), Decimal("-0.5")]),
    (pa.list_(pa.int64()), [[1, None], [], None]),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), [{"a": 1, "b": "x"}, {"a": None, "b": None}]),
]


@pytest.mark.parametrize(("kind", "values"), HELD, ids=lambda value: str(value)[:20])
def test_a_type_is_told_from_values_and_holds_them(kind, values):
    records = [{"x": value} for value in values]
    schema = schema_of_records(records, EMPTY)
    assert schema.field("x").type == kind
    assert fit_records(records, schema)["x"].to_pylist() == values


ALTERED = [
    (pa.int64(), True), (pa.int64(), 1.5), (pa.int64(), 1.0), (pa.int64(), 2**63), (pa.int64(), "1"),
    (pa.float64(), 2**53 + 1), (pa.float64(), True), (pa.float64(), Decimal("1.5")),
    (pa.string(), 1), (pa.string(), b"a"), (pa.string(), "\ud800"), (pa.binary(), "a"),
    (pa.date32(), MOMENT), (pa.date32(), 0), (pa.timestamp("us"), date(2024, 1, 1)), (pa.timestamp("us"), 1),
    (pa.timestamp("us"), MOMENT.replace(tzinfo=UTC)), (pa.timestamp("us", "UTC"), MOMENT),
    (pa.timestamp("us"), pd.Timestamp("2024-01-01 00:00:00.123456789")), (pa.duration("us"), 5),
    (pa.time64("us"), time(1, tzinfo=UTC)), (pa.decimal128(10, 2), 1.5),
    (pa.decimal128(10, 2), Decimal("1.234")),
    (pa.decimal128(10, 2), Decimal("NaN")), (pa.struct([("a", pa.int64())]), {"a": 1, "b": 2}), (pa.bool_(), 1),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), ALTERED, ids=str)
def test_a_value_that_would_be_altered_is_refused_by_its_name(kind, value):
    with pytest.raises(DoesNotFit, match="column x of the files is"):
        fit_records([{"x": None}, {"x": value}], pa.schema([("x", kind)]))


def test_values_of_other_libraries_are_taken_for_what_they_are():
    import numpy as np

    record = {"i": np.int64(1), "f": np.float64(1.5), "s": np.str_("x"), "u": UUID(int=7), "t": pd.Timestamp(MOMENT)}
    record |= {"none": pd.NA, "nat": pd.NaT, "b": np.bool_(True)}
    schema = schema_of_records([{**record, "none": 1, "nat": MOMENT}], EMPTY)
    assert fit_records([record], schema).to_pylist() == [
        {"i": 1, "f": 1.5, "s": "x", "u": UUID(int=7), "t": MOMENT, "none": None, "nat": None, "b": True}
    ]


def test_a_column_of_the_source_keeps_its_type_where_its_values_fit():
    source = pa.schema([("price", pa.decimal128(12, 2)), ("n", pa.int32()), ("text", pa.string())])
    records = [{"price": Decimal("1.5"), "n": 2**40, "text": None, "new": None}]
    assert schema_of_records(records, source) == pa.schema(
        [("price", pa.decimal128(12, 2)), ("n", pa.int64()), ("text", pa.string()), ("new", pa.string())]
    )


def test_a_column_that_the_files_have_not_is_named():
    with pytest.raises(UnknownColumn, match=r"have no column total: did you mean totals\?"):
        fit_records([{"totals": 1}, {"totals": 1, "total": 1}], pa.schema([("totals", pa.int64())]))


def test_tables_are_cast_without_loss_or_refused():
    schema = pa.schema([("id", pa.int64()), ("t", pa.timestamp("us")), ("x", pa.float64())])
    narrow = pa.table({"x": pa.array([1], pa.int32()), "id": pa.array([1], pa.int32()), "t": pa.nulls(1)})
    assert fit_table(narrow, schema).to_pylist() == [{"id": 1, "t": None, "x": 1.0}]
    assert fit_table(pa.table({"id": [1]}), schema).to_pylist() == [{"id": 1, "t": None, "x": None}]
    for wrong in ({"id": ["1"]}, {"id": [1.0]}, {"t": pa.array([1], pa.timestamp("ns"))}, {"x": [2**53 + 1]},
                  {"t": pa.array([1], pa.timestamp("us", "UTC"))}, {"id": [True]}):  # fmt: skip
        with pytest.raises(DoesNotFit, match="cannot hold these values exactly"):
            fit_table(pa.table(wrong), schema)
    price = pa.schema([("price", pa.decimal128(4, 1))])
    assert fit_table(pa.table({"price": [999, None]}), price)["price"].to_pylist() == [999, None]
    with pytest.raises(DoesNotFit):
        fit_table(pa.table({"price": [1000]}), price)
    with pytest.raises(UnknownColumn):
        fit_table(pa.table({"y": [1]}), schema)


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    sink, pass_ = sink_at(tmp_path / "csv", "csv"), PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    with pytest.raises(BadSink, match=r"column doc is .*, which CSV cannot hold"):
        put(sink, pass_, CHUNKS[0], [{"doc": {"a": 1}}])
    sink = sink_at(tmp_path / "jsonl", "jsonl")
    sink.begin_pass(pass_)
    records = [{"x": 1.5, "l": [0.5]}, {"x": math.nan, "l": []}, {"x": 1.0, "l": [math.inf]}]
    assert put(sink, pass_, CHUNKS[0], records) == [1, 2]


values = st.none() | st.text(st.characters(codec="utf-8"), max_size=5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(values, st.none() | st.integers(-(2**53), 2**53)), max_size=8), max_size=5))
def test_what_was_written_is_read_whatever_the_text(tmp_path_factory, chunks):
    texts = [row for chunk in chunks for row in chunk]
    for form in READ:
        place = tmp_path_factory.mktemp(form)
        schema = pa.schema([("s", pa.string()), ("i", pa.int64())])
        sink, pass_ = sink_at(place, form, compact_bytes=10**6, schema=schema), PassRef("job", 1, "ab")
        sink.begin_pass(pass_)
        for n, rows in enumerate(chunks):
            chunk = ChunkRange(None if n == 0 else (n - 1,), (n,))
            assert put(sink, pass_, chunk, [{"s": s, "i": i} for s, i in rows]) == []
        sink.end_pass(pass_)
        if form == "csv":
            # Python's reader does not tell NULL from an empty text.
            read = [
                row
                for file in complete_files(str(place))
                for row in csv.reader(io.StringIO(Path(file).read_bytes().decode(), newline=""))
            ]
            assert read == ([["s", "i"]] if texts else []) + [[s or "", "" if i is None else str(i)] for s, i in texts]
        else:
            assert [(row["s"], row["i"]) for row in found(place, form)] == texts


@pytest.mark.parametrize("form", READ)
def test_memory_of_a_part_does_not_grow_with_it(tmp_path, form):
    sink, pass_ = sink_at(tmp_path, form), PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    table = pa.table({"id": range(20_000), "text": ["x" * 100] * 20_000})
    held = []
    with sink.transaction(pass_, CHUNKS[0]) as transaction:
        for _ in range(60):
            transaction.write_table(table.slice(0))
            held.append(pa.total_allocated_bytes())
        transaction.commit()
    assert max(held[30:]) <= 1.1 * max(held[:30])


def test_small_batches_become_large_row_groups(tmp_path):
    sink, pass_ = sink_at(tmp_path), PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    table = pa.table({"id": range(5_000)})
    with sink.transaction(pass_, CHUNKS[0]) as transaction:
        for _ in range(40):
            transaction.write_table(table)
        transaction.commit()
    sink.end_pass(pass_)
    (file,) = complete_files(str(tmp_path))
    assert [pq.ParquetFile(file).metadata.row_group(n).num_rows for n in range(2)] == [120_000, 80_000]


def test_a_file_system_in_memory_is_a_sink_of_this_process(tmp_path):
    sink = sink_at(f"memory://{tmp_path.name}/out")
    assert sink.only_here
    assert sink.check(EMPTY) == []
    run_pass(sink, 1, "old")
    run_pass(sink, 2, "new")
    assert len(complete_files(f"memory://{tmp_path.name}/out", verify=True)) == 6


@pytest.mark.parametrize("read", ["out", "out/*.parquet", ".", "link"])
def test_a_sink_whose_files_are_read_is_refused(tmp_path, read):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "out" / "part-1.parquet")
    source = open_source(Files(f"{tmp_path}/{read}", "parquet"))
    with pytest.raises(BadSink, match="are read by the source, too"):
        introduce(open_sink(Files(f"{tmp_path}/out", "parquet")), source)
    assert introduce(open_sink(Files(f"{tmp_path}/output", "parquet")), source) == "no"
