"""What becomes of a line does not depend on the lines near it, on sizes, or on how records are delivered."""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_batch import Files
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.files.reading import text_set
from prefect_batch.blocks.kinds.of_values import schema_of_records
from prefect_batch.blocks.opening import open_source
from prefect_batch.testing.walk import read_range

CALM = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
# The first lines, which say what the columns are: `note` and `v` are not in every one.
FIRST = [{"id": 0, "a": "x", "note": "n", "v": 1.5}, {"id": 1, "a": None, "v": None}, {"id": 2, "a": "y"}]
ODD = [
    *('{"id": 3, "a": "z"}', '{"id": 3}', "{}", '{"a": null, "note": "é"}', '{"note": null, "v": 2}', '{"v": 1e3}'),
    *('{"id": 4, "more": 1}', '{"more": null}', '{"id": 1, "ID": 2}', '{"id": {}}', '{"a": 7}', '{"v": "seven"}'),
    *('{"v": 9007199254740993}', '{"v": 9007199254740992}', '{"id": 9223372036854775808}', '{"id": 1.0}'),
    *("[]", "7", "null", "bad", '{"id": 1', '{"id": 1}}', '{"a": "\\ud800"}', '{"a": "\x01"}', '{"id": 5, "id": 6}'),
    *('{"\\ud800": 1}', '{"a": ' + "[" * 3000 + "]" * 3000 + "}", '{"v": NaN}', '{"a":"{}"}', ' {"id": 9} '),
]
FORMS = {
    "as they are": {},
    "some columns": {"columns": ["id", "note"]},
    "with a schema": {"schema": {"id": "int64", "a": "string", "note": "string", "v": "double"}},
    "a schema for one": {"schema": {"more": "int64"}},
}


def outcomes(path, form, size, batch_rows, delivery):
    """What became of each line, by its number: a record, or why it cannot be read."""
    source = open_source(Files(str(path), **form))
    source = source.with_files(source.files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_set, "SAMPLE_RECORDS", len(FIRST))
        source.check()
    found, after, upto = {}, None, source.last_key()
    for edge in source.edges(None, upto, size, 10_000):
        walk = read_range(source, ChunkRange(after, edge), batch_rows, read=getattr(source, delivery))
        for key, record in zip(walk.keys, walk.records, strict=True):
            found[key[2]] = record
        found.update({record.line: record.reason for record in walk.unreadable})
        after = edge
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("delivery", ["read", "read_tables"])
@given(lines=st.lists(st.sampled_from(ODD), max_size=8), size=st.integers(1, 12), batch_rows=st.integers(1, 12))
@CALM
def test_a_line_is_read_as_if_it_were_alone(form, delivery, lines, size, batch_rows, tmp_path):
    first, path = [json.dumps(line) for line in FIRST], tmp_path / "a.jsonl"
    path.write_text("\n".join([*first, *lines]) + "\n")
    found = outcomes(path, FORMS[form], size, batch_rows, delivery)
    assert sorted(found) == list(range(1, len(first) + len(lines) + 1))
    for place, line in enumerate(lines):
        path.write_text("\n".join([*first, line]) + "\n")
        alone = outcomes(path, FORMS[form], 100, 100, delivery)[4]
        assert repr(found[place + 4]) == repr(alone), line


@pytest.mark.parametrize("form", FORMS)
@given(line=st.sampled_from([line for line in ODD if len(line) < 1_000]))
@CALM
def test_a_line_has_the_same_keys_in_rows_and_the_same_values_in_tables(form, line, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([*map(json.dumps, FIRST), line]) + "\n")
    rows, tables = (outcomes(path, FORMS[form], 100, 100, delivery) for delivery in ("read", "read_tables"))
    if isinstance(tables[4], str):
        # A value that the columns of a table cannot hold is refused there, and is the function's in a row.
        assert isinstance(rows[4], str) or not fits(rows[4])
    else:
        assert repr(tables[4]) == repr({k: float(v) if k == "v" and v is not None else v for k, v in rows[4].items()})
    if isinstance(rows[4], str):
        assert isinstance(tables[4], str)


def fits(record):
    """Whether the columns hold the values exactly."""
    types = {"id": int, "a": str, "note": str, "v": (int, float), "more": int}
    if not all(value is None or isinstance(value, types[name]) for name, value in record.items()):
        return False
    number, text = record.get("v") or 0, "".join(str(value) for value in record.values())
    return abs(record.get("id") or 0) < 2**63 and float(number) == number and "\ud800" not in text


def test_a_line_with_another_key_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n' * 2_000 + '{"id": 2, "extra": 3}\n' + '{"id": 1}\n' * 2_000)
    for delivery in ("read", "read_tables"):
        found = outcomes(path, {}, 50_000, 50_000, delivery)
        refused = {line: reason for line, reason in found.items() if isinstance(reason, str)}
        assert list(refused) == [2001]
        assert 'schema={"extra": "…"}' in refused[2001]
        found = outcomes(path, {"schema": {"extra": "int64"}}, 50_000, 50_000, delivery)
        assert found[2001] == {"id": 2, "extra": 3}
    assert outcomes(path, {"schema": {"extra": "int64"}}, 50_000, 50_000, "read")[1] == {"id": 1}


def test_a_column_that_the_first_records_lack_is_in_what_is_made_of_them(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1, "a": "x"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 2, "a": "y", "note": "n"}\n')
    source = open_source(Files(str(tmp_path), "jsonl"))
    schema = source.with_files(source.files).schema
    assert schema_of_records([{"id": 1, "a": "x", "new": 1.5}], schema) == pa.schema(
        [("id", pa.int64()), ("a", pa.string()), ("new", pa.float64()), ("note", pa.string())]
    )
    assert schema_of_records([{"id": 1}], schema) == pa.schema([("id", pa.int64())])
    assert schema_of_records([{"other": 1}], schema) == pa.schema([("other", pa.int64())])


def test_files_whose_values_are_of_other_kinds_are_refused_at_the_start_with_both_names(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1, "v": null}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 2, "v": 1}\n')
    (tmp_path / "c.jsonl").write_text('{"id": 3, "v": "x"}\n')
    source = open_source(Files(str(tmp_path), "jsonl"))
    with pytest.raises(BadSource, match=r'column v has text in c\.jsonl, and numbers in b\.jsonl.*schema=\{"v"'):
        _ = source.with_files(source.files).schema
    for options in ({"schema": {"v": "string"}}, {"columns": ["id"]}):
        source = open_source(Files(str(tmp_path), "jsonl", **options))
        assert source.with_files(source.files).schema.field("id").type == pa.int64()
    (tmp_path / "c.jsonl").write_text('{"id": 3, "v": 2.5}\n')
    source = open_source(Files(str(tmp_path), "jsonl"))
    assert source.with_files(source.files).schema.field("v").type == pa.float64()


@pytest.mark.parametrize(
    "text", ['[{"id": 1}, {"id": 2}]', '[\n {"id": 1},\n {"id": 2}\n]\n', '{\n "id": 1\n}\n', "[{}", '  [{"id": 1}]\n']
)
def test_a_json_document_is_refused_with_what_to_do(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadSource, match=r"a\.json is one JSON document.*jq -c"):
        open_source(Files(str(tmp_path / "a.json"))).check()


def test_csv_files_with_other_columns_are_refused_at_the_start(tmp_path):
    (tmp_path / "a.csv").write_text("id,a\n1,x\n")
    (tmp_path / "b.csv").write_text("a,id\nx,1\n")
    (tmp_path / "c.csv").write_text("id,b\n1,x\n")
    source = open_source(Files(str(tmp_path), "csv"))
    with pytest.raises(BadSource, match=r"c\.csv has other columns than a\.csv: it lacks a, and has b"):
        _ = source.with_files(source.files).schema
