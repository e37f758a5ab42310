"""The table of kinds: a value goes through every form and comes back as it was, or is refused by its column's name."""

import enum
import io
import json
import math
import pickle
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from pyarrow import json as arrow_json

from prefect_batch import Files, Table
from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.kinds.convert import to_arrow, values_of
from prefect_batch.blocks.kinds.csv_form import as_csv, csv_type, from_csv
from prefect_batch.blocks.kinds.frames import from_frame, to_frame
from prefect_batch.blocks.kinds.json_form import check_json, from_json, json_default, json_type, json_values
from prefect_batch.blocks.kinds.kind import JSON, KINDS, kind_of
from prefect_batch.blocks.kinds.nanoseconds import NanoTime
from prefect_batch.blocks.kinds.of_values import type_of_values
from prefect_batch.blocks.kinds.plain import plain_value
from prefect_batch.blocks.letters.record_json import decode_record, encode_record, shown_columns
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import ItemTable, places
from prefect_batch.tasks.work.process_vectorized import arrow_table
from tests.test_conformance import CHUNK, PASS, write

# For each of some forty types.
EXAMPLES = 8
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
TYPES = [arrow for kind in KINDS for arrow in kind.arrow]
EACH_TYPE = pytest.mark.parametrize("arrow", TYPES, ids=str)


def moments(arrow):
    zone = None if arrow.tz is None else ZoneInfo(arrow.tz)
    if arrow.unit == "ns":
        return st.integers(-(2**62), 2**62).map(lambda n: pd.Timestamp(n, tz=arrow.tz))
    step = 10**6 // PER_SECOND[arrow.unit]
    # The first and last days are, in some zones, in years that Python does not have.
    found = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29))
    return found.map(lambda m: m.replace(microsecond=m.microsecond // step * step, tzinfo=zone))


def durations(arrow):
    if arrow.unit == "ns":
        return st.integers(-(2**62), 2**62).map(lambda n: pd.Timedelta(n, "ns"))
    per_second = PER_SECOND[arrow.unit]
    return st.integers(-(10**11), 10**11).map(
        lambda n: timedelta(seconds=n // per_second, microseconds=n % per_second * (10**6 // per_second))
    )


def decimals(arrow):
    def scaled(n):
        with localcontext(prec=80):
            return Decimal(n).scaleb(-arrow.scale)

    return st.integers(-(10**arrow.precision) + 1, 10**arrow.precision - 1).map(scaled)


def lists(arrow):
    size = getattr(arrow, "list_size", None)
    bounds = {} if size is None else {"min_size": size}
    return st.lists(values_in(arrow.value_type), max_size=size or 3, **bounds)


def byte_strings(arrow):
    return st.binary(min_size=4, max_size=4) if pa.types.is_fixed_size_binary(arrow) else st.binary(max_size=5)


def times(arrow):
    unit = 10**9 // PER_SECOND[arrow.unit]
    return st.integers(0, 86_400 * 10**9 // unit - 1).map(lambda n: NanoTime.of_day(n * unit))


def intervals(_arrow):
    whole = st.integers(-(2**31), 2**31 - 1)
    return st.tuples(whole, whole, st.integers(-(2**62), 2**62)).map(lambda parts: pa.MonthDayNano(list(parts)))


def structs(arrow):
    return st.fixed_dictionaries({arrow.field(n).name: values_in(arrow.field(n).type) for n in range(arrow.num_fields)})


def pairs(arrow):
    keys = values_in(arrow.key_type).filter(lambda key: key is not None)
    return st.lists(st.tuples(keys, values_in(arrow.item_type)), max_size=3)


def documents(_arrow):
    leaves = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    return st.recursive(leaves, lambda part: st.lists(part, max_size=2) | st.dictionaries(st.text(max_size=2), part))


def whole(arrow):
    return (
        st.integers(0, 2**arrow.bit_width - 1)
        if str(arrow).startswith("u")
        else st.integers(-(2 ** (arrow.bit_width - 1)), 2 ** (arrow.bit_width - 1) - 1)
    )


def values_in(arrow):
    """Values of this type, as Python has them."""
    return st.none() | {
        "null": lambda _: st.none(),
        "bool": lambda _: st.booleans(),
        "float16": lambda _: st.floats(width=16),
        "float32": lambda _: st.floats(width=32),
        "float64": lambda _: st.floats(),
        "decimal": decimals,
        "text": lambda _: st.text(st.characters(codec="utf-8"), max_size=5),
        "bytes": byte_strings,
        "moment": moments,
        "moment with zone": moments,
        "date": lambda _: st.dates(),
        "time": times,
        "duration": durations,
        "interval": intervals,
        "UUID": lambda _: st.uuids(),
        "JSON": documents,
        "list": lists,
        "struct": structs,
        "map": pairs,
    }.get(kind_of(arrow).name, whole)(arrow)  # fmt: skip


def same(found, meant):
    """Whether they are one value: NaN is itself, and 0.0 is not -0.0, nor True 1."""
    if isinstance(meant, float) and isinstance(found, float):
        return (math.isnan(meant) and math.isnan(found)) or (
            found == meant and math.copysign(1, found) == math.copysign(1, meant)
        )
    if isinstance(meant, list):
        return len(found) == len(meant) and all(map(same, found, meant))
    if isinstance(meant, dict):
        return found.keys() == meant.keys() and all(same(found[key], value) for key, value in meant.items())
    return found == meant and isinstance(found, bool) == isinstance(meant, bool)


def all_same(found, meant):
    return len(found) == len(meant) and all(map(same, found, meant))


def refused_by(function, *arguments):
    """Whether the function refuses them, with the column's name."""
    try:
        function(*arguments)
    except DoesNotFit as error:
        return "column x " in str(error) or pytest.fail(f"the column is not named: {error}")
    return False


def column(values, arrow):
    return pa.chunked_array([to_arrow(values, "column x", arrow)], arrow)


@EACH_TYPE
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_python_values_become_a_column_and_come_back(arrow, data):
    values = data.draw(st.lists(values_in(arrow), max_size=4))
    assert all_same(values_of(column(values, arrow)), values)


# pyarrow reads documents of one form only.
@pytest.mark.parametrize("arrow", [arrow for arrow in TYPES if arrow != JSON], ids=str)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_json_is_read_as_it_was_written(arrow, data):
    values = data.draw(st.lists(values_in(arrow), min_size=1, max_size=4))
    written = column(values, arrow)
    if refused_by(check_json, written, "x"):
        return
    option = orjson.OPT_APPEND_NEWLINE
    lines = b"".join(orjson.dumps({"x": value}, json_default, option) for value in json_values(written))
    parse = arrow_json.ParseOptions(explicit_schema=pa.schema([("x", json_type(arrow))]))
    found = arrow_json.read_json(io.BytesIO(lines), parse_options=parse)["x"]
    assert all_same(values_of(from_json(found, arrow, "x")), values)


@pytest.mark.parametrize("arrow", [arrow for arrow in TYPES if "csv" not in kind_of(arrow).refused], ids=str)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_csv_is_read_as_it_was_written(arrow, data):
    values = data.draw(st.lists(values_in(arrow), min_size=1, max_size=4))
    table = as_csv(pa.table({"n": range(len(values)), "x": column(values, arrow)}))
    text = pa.BufferOutputStream()
    arrow_csv.write_csv(table, text)
    convert = arrow_csv.ConvertOptions(
        column_types={"x": csv_type(arrow)},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
    )
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    found = arrow_csv.read_csv(pa.BufferReader(text.getvalue()), convert_options=convert, parse_options=parse)["x"]
    assert all_same(values_of(from_csv(found, arrow, "x", [""])), values)


@pytest.mark.parametrize("arrow", [arrow for arrow in TYPES if "parquet" not in kind_of(arrow).refused], ids=str)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_parquet_is_read_as_it_was_written(arrow, data):
    values = data.draw(st.lists(values_in(arrow), max_size=4))
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": column(values, arrow)}), file)
    assert all_same(values_of(pq.read_table(pa.BufferReader(file.getvalue()))["x"]), values)


@EACH_TYPE
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_the_kind_told_from_values_holds_them(arrow, data):
    values = data.draw(st.lists(values_in(arrow), max_size=4))
    told = type_of_values(values)
    if not refused_by(column, values, told):
        assert all_same(values_of(column(values, told)), values)
    else:  # In Python a map is a list of pairs, which are of no kind, and parts of documents are of several.
        assert pa.types.is_map(arrow) or arrow == JSON


@EACH_TYPE
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_the_text_of_a_value_is_read_as_it_was(arrow, data):
    kind = kind_of(arrow)
    if kind.text is None:
        assert kind.parse is None
        return
    value = data.draw(values_in(arrow).filter(lambda value: value is not None))
    assert same(kind.parse(kind.text(value)), value)


@EACH_TYPE
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_letter_gives_a_value_back_as_it_was(arrow, data):
    value = data.draw(values_in(arrow))
    text = encode_record({"x": value, "parts": [value], "by key": {1: (value,)}})
    assert shown_columns(text) == []
    found = decode_record(text)
    assert all_same([found["x"], *found["parts"], *found["by key"][1]], [value] * 3)


@settings(max_examples=EXAMPLES)
@given(values=st.lists(documents(JSON), min_size=1, max_size=4))
def test_json_lines_hold_documents_of_any_form(values):
    lines = [orjson.dumps({"x": value}, json_default) for value in json_values(column(values, JSON))]
    assert [json.loads(line)["x"] for line in lines] == values


def test_a_value_that_a_letter_can_only_show_is_told_apart():
    text = encode_record({"n": 1, "odd": {"a": [object]}})
    assert shown_columns(text) == ["odd"]
    assert decode_record(text) == {"n": 1, "odd": "{'a': [<class 'object'>]}"}


@EACH_TYPE
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_frame_holds_the_values_and_gives_them_back(arrow, data):
    values = data.draw(st.lists(values_in(arrow), min_size=1, max_size=4))
    table = pa.table({"x": column(values, arrow)})
    found = from_frame(to_frame(table), table.schema)["x"]
    assert all_same(values_of(found), values)


@EACH_TYPE
def test_every_type_has_one_kind_with_a_place_in_json(arrow):
    assert [kind.name for kind in KINDS if arrow in kind.arrow] == [kind_of(arrow).name]
    assert kind_of(arrow).json
    assert kind_of(arrow).csv or "csv" in kind_of(arrow).refused


@EACH_TYPE
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_value_of_any_other_kind_is_equal_in_the_column_or_refused(arrow, data):
    other = data.draw(st.sampled_from(TYPES))
    values = data.draw(st.lists(values_in(other), min_size=1, max_size=3))
    if refused_by(column, values, arrow):
        return
    for found, meant in zip(values_of(column(values, arrow)), values, strict=True):
        if isinstance(meant, dict):  # What a dict lacks is None.
            assert {key: dict(found).get(key) for key in meant} == meant
        else:
            assert same(found, meant) or (type(found), found) == (str, str(meant))


REFUSED = [
    (pa.time32("s"), time(1, 2, 3, 4)),
    (pa.time64("us"), NanoTime.of_day(999)),
    (pa.timestamp("s"), datetime(2024, 1, 1, 0, 0, 0, 5)),
    (pa.timestamp("ms", "UTC"), datetime(2024, 1, 1, 0, 0, 0, 5, tzinfo=UTC)),
    (pa.duration("s"), timedelta(microseconds=5)),
    (pa.duration("us"), pd.Timedelta(5, "ns")),
    (pa.timestamp("us"), pd.Timestamp(5)),
    (pa.float32(), 0.1),
    (pa.float16(), 70_000),
    (pa.list_(pa.float32()), [0.1]),
    (pa.struct([("t", pa.time32("s"))]), {"t": time(0, 0, 0, 1)}),
    (pa.date32(), pd.Timestamp(5)),
    (pa.uuid(), "00000000-0000-0000-0000-000000000005"),
]


@pytest.mark.parametrize(("arrow", "value"), REFUSED, ids=str)
def test_what_a_coarser_type_would_cut_is_refused(arrow, value):
    with pytest.raises(DoesNotFit, match=r"column x is .*, and cannot hold"):
        column([None, value], arrow)


def test_a_time_with_nanoseconds_is_itself_after_a_trip_to_a_worker():
    value = NanoTime.of_day(3_600_000_000_999)
    assert pickle.loads(pickle.dumps(value)) == value != time(1)
    assert (value.hour, value.microsecond, value.nanosecond) == (1, 0, 999)
    assert NanoTime.of_day(3_600_000_000_000) == time(1)
    assert {value: 1}[NanoTime.of_day(3_600_000_000_999)] == 1


# What each kind's made column must take, in every database, and what its driver gives for it.
TAKEN = {
    "null": None,
    "bool": True,
    "float16": 1.5,
    "float32": 0.10000000149011612,
    "float64": 0.1,
    "decimal": Decimal("1234567.25"),
    "text": "é,'\"\n\\",
    "bytes": b"a\x00\xff'",
    "moment": datetime(2024, 3, 31, 1, 59, 59),
    "moment with zone": datetime(1890, 3, 31, 1, 59, 59, tzinfo=ZoneInfo("Europe/Berlin")),
    "date": date(2024, 2, 29),
    "time": time(1, 2, 3),
    "duration": timedelta(days=1, seconds=-1),
    "UUID": UUID(int=7),
    "JSON": {"a": [1, "x"]},
    "struct": {"a": 1, "b": "x"},
    "map": [("a", 1)],
}


def stored_document(value):
    """The document in a column of JSON: lists and dicts are its text, all others themselves."""
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


STORED = {
    "sqlite": {
        "bool": bool,
        "decimal": Decimal,
        "moment": datetime.fromisoformat,
        "moment with zone": datetime.fromisoformat,
        "date": date.fromisoformat,
        "time": time.fromisoformat,
        "duration": lambda text: (
            (-1 if text[0] == "-" else 1) * timedelta(microseconds=int(text.strip("-PTS").replace(".", "")))
        ),
        "UUID": UUID,
        **dict.fromkeys(("list", "struct", "JSON"), stored_document),
        "map": lambda text: list(map(tuple, json.loads(text))),
    },
    "postgresql": {"map": lambda pairs: list(map(tuple, pairs))},
    "mariadb": {
        "bool": bool,
        "moment with zone": lambda moment: moment.replace(tzinfo=UTC),
        "time": lambda since: (datetime(1, 1, 1) + since).time(),
        "UUID": UUID,
        **dict.fromkeys(("list", "struct", "JSON"), stored_document),
        "map": lambda text: list(map(tuple, json.loads(text))),
    },
}
MADE = [arrow for arrow in TYPES if kind_of(arrow).name != "interval"]


def example_of(arrow):
    kind = kind_of(arrow).name
    if kind == "list":
        return {pa.int64(): [1, 2], pa.string(): ["1", "2"], pa.float64(): [0.5, 1.5]}[arrow.value_type]
    return TAKEN[kind] if kind in TAKEN else 2 ** (arrow.bit_width - 1) - 1


def written_to_made_table(database, name, arrow, values, *, as_table):
    """What the driver gives of the values in a table that was made for them, NULL and all, and the refused ones."""
    sink = open_sink(Table(database.url, name, key="id", create=True))
    schema = pa.schema([("id", pa.int64()), ("x", arrow)])
    sink.check(schema)
    records = [{"id": place, "x": value} for place, value in enumerate(values)]
    if not as_table:
        refused = [place for place, _ in write(sink, records, schema)]
    else:
        sink.prepare(records, schema)
        table = pa.table([range(len(values)), column(values, arrow)], schema=schema)
        rows = ItemTable(table, np.arange(len(values)))
        with sink.transaction(PASS, CHUNK) as transaction:
            refused = [places(part)[0] for part, _ in isolate(transaction, rows)]
            transaction.commit()
    stored = STORED[database.kind].get(kind_of(arrow).name, lambda value: value)
    return {place: x if x is None else stored(x) for place, x in database.rows(f"SELECT id, x FROM {name}")}, refused


@pytest.mark.parametrize("as_table", [False, True])
def test_a_made_column_takes_values_of_its_kind(database, as_table):
    for number, arrow in enumerate(MADE):
        values = [example_of(arrow), None]
        found, refused = written_to_made_table(database, f"made_{number}", arrow, values, as_table=as_table)
        assert not refused, arrow
        assert all_same([found[0], found[1]], values), (arrow, found)


def test_documents_of_any_form_are_json_in_a_made_table(database):
    documents = [{"a": [1, "x", None]}, {}, [1, "x"], {"a": {"b": 1.5}}]
    sink = open_sink(Table(database.url, "t", key="id", create=True))
    assert write(sink, [{"id": n, "doc": doc} for n, doc in enumerate(documents)], pa.schema([])) == []
    found = [doc for (doc,) in database.rows("SELECT doc FROM t ORDER BY id")]
    assert [json.loads(doc) if isinstance(doc, str) else doc for doc in found] == documents


@pytest.mark.parametrize("as_table", [False, True])
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=[Phase.generate])
@given(data=st.data())
def test_what_a_made_column_holds_is_what_was_meant(database, as_table, data):
    for arrow in MADE:
        values = data.draw(st.lists(values_in(arrow), min_size=1, max_size=3))
        name = f"made_{uuid4().hex[:8]}"
        found, refused = written_to_made_table(database, name, arrow, values, as_table=as_table)
        assert sorted([*found, *refused]) == list(range(len(values)))
        for place, value in found.items():
            lost_nan = database.kind == "sqlite" and value is None and values[place] != values[place]
            lost_sign = value == values[place] == 0  # Of -0.0, in SQLite and MariaDB.
            assert same(value, values[place]) or lost_nan or lost_sign, (arrow, values[place], value)


class Color(str, enum.Enum):  # noqa: UP042 - of whose members str() gives the name
    RED = "red"


class Pure(enum.Enum):
    A = 1


TAKEN_FOR = [
    (Color.RED, "red"),
    (enum.IntEnum("Level", ["LOW"]).LOW, 1),
    (np.datetime64("2024-01-01T00:00:00.5", "ns"), datetime(2024, 1, 1, 0, 0, 0, 500_000)),
    (np.datetime64("2024-01-01T00:00:00.000000001", "ns"), pd.Timestamp("2024-01-01 00:00:00.000000001")),
    (np.datetime64("2024-01-01", "D"), date(2024, 1, 1)),
    (np.datetime64("NaT"), None),
    (np.timedelta64(1_000, "ns"), timedelta(microseconds=1)),
    (np.array([7.5]), [7.5]),
    (np.array(["2024-01-01"], "datetime64[ns]"), [datetime(2024, 1, 1)]),
    (np.float32(0.5), 0.5),
    (pd.NA, None),
    (pd.Timestamp("2024-01-01", tz="UTC"), datetime(2024, 1, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("value", "meant"), TAKEN_FOR, ids=repr)
def test_a_value_of_another_library_is_taken_for_what_it_is(value, meant):
    found = plain_value(value)
    assert (type(found), found) == (type(meant), meant)
    assert decode_record(encode_record({"x": value})) == {"x": meant}


@pytest.mark.parametrize("value", [Pure.A, pd.Timestamp(1), pd.Timedelta(1), NanoTime.of_day(1)], ids=repr)
def test_what_a_database_would_alter_is_refused(database, value):
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, x VARCHAR(40))")
    sink = open_sink(Table(database.url, "t", key="id"))
    ((place, error),) = write(sink, [{"id": 1, "x": "a"}, {"id": 2, "x": value}])
    assert (place, type(error)) == (1, DoesNotFit)
    assert "column x is" in str(error)


def test_a_whole_number_that_a_column_of_fractions_would_round_is_refused(sqlite):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY, x DOUBLE)")
    sink = open_sink(Table(sqlite.url, "t", key="id"))
    ((place, error),) = write(sink, [{"id": 1, "x": 2**53 + 1}, {"id": 2, "x": 2**53}, {"id": 3, "x": 0.5}])
    assert (place, type(error)) == (0, DoesNotFit)
    assert sqlite.rows("SELECT x FROM t") == [(2.0**53,), (0.5,)]


@pytest.mark.parametrize("value", [{"day": date(2024, 1, 1)}, {1: 2}, [Decimal(1)], [math.nan]], ids=repr)
def test_what_json_does_not_have_is_refused_by_a_column_of_json(database, value):
    kind = {"sqlite": "JSON", "postgresql": "jsonb", "mariadb": "JSON"}[database.kind]
    database.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, x {kind})")
    sink = open_sink(Table(database.url, "t", key="id"))
    ((place, error),) = write(sink, [{"id": 1, "x": {"a": [1]}}, {"id": 2, "x": value}])
    assert (place, type(error)) == (1, DoesNotFit)


@pytest.mark.parametrize(
    ("text", "arrow"),
    [("2024-01-01T00:00:00+02:00", pa.timestamp("us")), ("2024-01-01T00:00:00", pa.timestamp("us", "UTC"))],
)
def test_json_lines_do_not_lose_or_gain_a_zone(tmp_path, text, arrow):
    (tmp_path / "a.jsonl").write_text(json.dumps({"x": text}) + "\n")
    source = open_source(Files(str(tmp_path / "a.jsonl"), schema={"x": str(arrow)}))
    (batch,) = source.read(ChunkRange(None, source.last_key()), 10)
    assert (len(batch), len(batch.unreadable)) == (0, 1)
    assert "column x: " in batch.unreadable[0].reason


def test_documents_do_not_take_keys_from_each_other_in_a_table():
    rows = Batch(("id", "doc"), [(1, {"v": 1}), (2, {"v": "x", "w": None}), (3, {"day": date(2024, 1, 1)})])
    table, failures = arrow_table(rows, pa.schema([("id", pa.int64()), ("doc", pa.string())]))
    assert table["doc"].to_pylist() == ['{"v": 1}', '{"v": "x", "w": null}', None]
    assert [failure.index for failure in failures] == [2]
