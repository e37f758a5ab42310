"""Letters go out table by table: none is kept, however many there are, and their files need not agree on types."""

import csv
import json
import weakref

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_batch.blocks.kinds.convert import values_of
from prefect_batch.blocks.kinds.widest import widest
from prefect_batch.blocks.letters.bury import letter_schema
from prefect_batch.blocks.letters.joined import joined_type, with_records
from prefect_batch.flows.command_line.letters import _export, _print_letters

TYPES = [
    *(pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64()),
    *(pa.decimal128(5, 2), pa.decimal128(38, 0), pa.string(), pa.large_string(), pa.binary(), pa.binary(1), pa.null()),
    *(pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.date32(), pa.date64(), pa.bool_()),
    *(pa.list_(pa.int8()), pa.large_list(pa.int16()), pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
]


class Counted:
    """Tables of letters, of which it is known how many are alive."""

    def __init__(self, count):
        self.count, self.made, self.most = count, [], 0

    def __iter__(self):
        schema = letter_schema(pa.schema([("n", pa.int64())]))
        for number in range(self.count):
            letter = {"id": f"1.a.{number}", "key": f"[{number}]", "record": {"n": number}, "record_json": "{}"}
            table = pa.Table.from_pylist([letter] * 10, schema)
            self.made.append(weakref.ref(table))
            self.most = max(self.most, sum(made() is not None for made in self.made))
            yield table
            del table


@pytest.mark.parametrize("way", ["csv", "parquet", "json"])
def test_no_more_than_a_few_tables_of_letters_are_in_memory(way, tmp_path, capsys):
    tables, file = Counted(30), tmp_path / "out"
    if way == "json":
        _print_letters(tables, as_json=True)
        found = [letter["record"]["n"] for letter in json.loads(capsys.readouterr().out)]
    else:
        assert _export(tables, way, file) == 300
        if way == "csv":
            found = [int(row["record.n"]) for row in csv.DictReader(file.open())]
        else:
            found = pq.read_table(file)["record"].combine_chunks().field("n").to_pylist()
    assert found == [number for number in range(30) for _ in range(10)]
    assert tables.most <= 3


def test_no_letters_are_an_empty_array(capsys):
    _print_letters([], as_json=True)
    assert json.loads(capsys.readouterr().out) == []


@given(one=st.sampled_from(TYPES), other=st.sampled_from(TYPES))
def test_the_widest_type_holds_the_values_of_both_exactly(one, other):
    found = widest(one, other)
    assert found == widest(other, one)
    for arrow in (one, other) if found is not None else ():
        for column in map(pa.chunked_array, extremes(arrow)):
            assert values_of(column.cast(found)) == values_of(column)


def extremes(arrow):
    """A column of the least and the greatest values."""
    texts = {"string": ["", "é"], "large_string": ["", "é"], "binary": [b"", b"\xff"], "bool": [True, False]}
    if pa.types.is_integer(arrow):
        most = 2 ** (arrow.bit_width - pa.types.is_signed_integer(arrow)) - 1
        values = [most, -most - 1 if pa.types.is_signed_integer(arrow) else 0]
    elif pa.types.is_floating(arrow):
        values = [0.5, float("inf"), 2.0**24 - 1]
    elif pa.types.is_decimal(arrow):
        ones = pa.array(["1" * (arrow.precision - arrow.scale) + "." + "0" * arrow.scale]).cast(arrow)
        return [[ones]]
    else:
        values = texts.get(str(arrow), [])
    return [[pa.array([*values, None], arrow)]]


@given(records=st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(TYPES)), min_size=1, max_size=4))
def test_letters_of_any_types_can_be_shown_together(records):
    tables = [
        pa.table({"id": ["a", "b"], "record": pa.array([{"x": None, "y": None}] * 2, pa.struct([("x", x), ("y", y)]))})
        for x, y in records
    ]
    tables.append(pa.table({"id": ["c"], "record": pa.array([{"z": 2**53 + 1}])}))
    record = joined_type(table.schema.field("record").type for table in tables)
    together = pa.concat_tables([with_records(table, record) for table in tables])
    assert together.num_rows == 2 * len(records) + 1
    assert together["record"][-1].as_py() == {"x": None, "y": None, "z": 2**53 + 1}


def test_a_column_that_is_a_number_here_and_a_text_there_is_text():
    tables = [pa.table({"record": pa.array([{"x": value}])}) for value in (2**53 + 1, "a", 1.5)]
    record = joined_type(table.schema.field("record").type for table in tables)
    together = pa.concat_tables([with_records(table, record) for table in tables])
    assert together["record"].to_pylist() == [{"x": "9007199254740993"}, {"x": "a"}, {"x": "1.5"}]
