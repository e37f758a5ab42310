"""A value of Parquet that Python cannot have costs its record, names its column, and does no harm if it is not read."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_batch import Files
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.kinds.kind import KINDS
from prefect_batch.blocks.kinds.readable import unreadable_values
from prefect_batch.blocks.opening import open_source
from prefect_batch.tasks.work.count import letter_of
from prefect_batch.testing.walk import read_range

CALM = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=12)
DAY = 86_400


def numbers(values, arrow):
    width = pa.int32() if pa.types.is_date32(arrow) or pa.types.is_time32(arrow) else pa.int64()
    return pa.array(values, width).view(arrow)


# Columns of a good value, a bad one, and NULL; and a part of the bad one's text.
COLUMNS = {
    "UTF-8": (pa.array([b"ok", b"\xff!", None]).view(pa.string()), r"b'\xff!'"),
    "large UTF-8": (pa.array([b"ok", b"\xff!", None], pa.large_binary()).view(pa.large_string()), r"\xff"),
    "year 10000": (numbers([0, 253_402_300_800, None], pa.timestamp("s")), "10000-01-01"),
    "year 0": (numbers([0, -62_135_596_800_000_001, None], pa.timestamp("us")), "0000-12-31"),
    "zone": (numbers([0, 2**62, None], pa.timestamp("us", "Europe/Berlin")), str(2**62)),
    "date": (numbers([0, 2_932_897, None], pa.date32()), "10000-01-01"),
    "24:00": (numbers([0, DAY * 1_000, None], pa.time32("ms")), str(DAY * 1_000)),
    "duration": (numbers([0, 2**60, None], pa.duration("ms")), str(2**60)),
    "list": (pa.array([[0], [0, 2**45], None]).cast(pa.list_(pa.timestamp("s"))), ""),
    "struct": (pa.StructArray.from_arrays([numbers([0, 2**45, None], pa.timestamp("s"))], ["a"]), ""),
    "nested nanoseconds": (pa.StructArray.from_arrays([numbers([1_000, 1_001, None], pa.time64("ns"))], ["a"]), ""),
}


@pytest.mark.parametrize("name", COLUMNS)
@given(places=st.lists(st.integers(0, 2), min_size=1, max_size=12), size=st.integers(1, 13), rows=st.integers(1, 13))
@CALM
def test_such_a_value_costs_its_record_and_no_other(name, places, size, rows, tmp_path):
    column, shown = COLUMNS[name]
    path = tmp_path / "a.parquet"
    table = pa.table({"id": list(range(len(places))), "v": pa.chunked_array([column.take(pa.array(places))])})
    pq.write_table(table, path, row_group_size=5, store_schema=True)
    for delivery in ("read", "read_tables"):
        source = open_source(Files(str(path)))
        found, bad, after = {}, {}, None
        for edge in source.edges(None, source.last_key(), size, 100):
            walk = read_range(source, ChunkRange(after, edge), rows, read=getattr(source, delivery))
            found.update({key: record["id"] for key, record in zip(walk.keys, walk.records, strict=True)})
            bad.update({record.key: record for record in walk.unreadable})
            after = edge
        assert sorted(found.values()) == [n for n, place in enumerate(places) if place != 1]
        assert all(key == ("a.parquet", n // 5, n % 5) for key, n in found.items())
        assert sorted(bad) == [("a.parquet", n // 5, n % 5) for n, place in enumerate(places) if place == 1]
        for key, record in bad.items():
            letter = letter_of(record)
            assert letter.stage == "read"
            assert letter.record["id"] == key[1] * 5 + key[2]
            assert shown in repr(letter.record["v"])
            assert "column v is " in letter.error_message
            assert "columns=[…]" in letter.error_message
            assert [each.key for batch in source.find([key]) for each in batch.unreadable] == [key]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_that_is_left_out_does_no_harm(name, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [0, 1, 2], "v": pa.chunked_array([COLUMNS[name][0]])}), path)
    source = open_source(Files(str(path), columns=["id"]))
    walk = read_range(source, ChunkRange(None, source.last_key()), 10)
    assert (walk.records, walk.unreadable) == ([{"id": 0}, {"id": 1}, {"id": 2}], [])


@pytest.mark.parametrize("arrow", [arrow for kind in KINDS for arrow in kind.arrow], ids=str)
def test_every_type_can_be_looked_at(arrow):
    assert unreadable_values(pa.chunked_array([pa.nulls(3, arrow)])) == {}
    assert unreadable_values(pa.chunked_array([], arrow)) == {}
