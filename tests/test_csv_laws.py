"""What comes of CSV, against Python's csv: every record, in every chunk size, with the values it has there."""

import csv
import io

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from prefect_batch import Files
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.files.reading.text_file import TextFile
from prefect_batch.blocks.opening import open_source
from prefect_batch.testing.walk import walk

NASTY = st.text(st.sampled_from([*list('""",,,\n\n\r ab\x00'), "é", "\ufeff"]), max_size=40)
CALM = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def expected(text):
    """The records as Python's csv reads them; None for a line that has another number of fields than two."""
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    return [tuple(row) if len(row) == 2 else None for row in rows]


def found(source, rows_per_chunk):
    found = walk(source, rows_per_chunk)
    rows, unreadable = found.rows, found.unreadable
    records = {source.key_of(row): row[:2] for row in rows}
    assert len(records) == len(rows)
    records.update({record.key: record for record in unreadable})
    return [records[key] for key in sorted(records, key=lambda key: key[1])]


@given(text=NASTY)
@example(text="\ufeff1,2\n\ufeff3,4")
@example(text='"1\n,2\r\n3,4\n"5,6')
@CALM
def test_records_and_values_are_those_of_pythons_csv(text, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    stripped = text.removeprefix("\ufeff")
    wanted = expected(stripped)
    closed = expected(stripped + "\nz,z")[-1:] == [("z", "z")]
    source = open_source(Files(str(path), names=["a", "b"], header=False))
    for rows_per_chunk in (1, 2, 3, 100):
        records = found(source, rows_per_chunk)
        assert len(records) == len(wanted)
        for place, (record, want) in enumerate(zip(records, wanted, strict=True)):
            if want is None or (not closed and place == len(wanted) - 1):
                start = record.key[1]
                assert path.read_bytes()[start : start + len(record.raw)] == record.raw
                assert record.line == 1 + len(
                    io.StringIO(text.encode()[:start].decode("utf-8-sig"), newline=None).readlines()
                )
            else:
                assert record == want


@given(text=NASTY, block_bytes=st.integers(1, 9))
@CALM
def test_small_reads_find_the_same_records(text, block_bytes, tmp_path):
    (tmp_path / "a.csv").write_bytes(text.encode())
    source = open_source(Files(str(tmp_path / "a.csv"), names=["a"], header=False))
    if not text:
        return
    file = TextFile(source.texts.system, source.spec, source.files.files[0])

    def records(size):
        stretches = list(file.stretches(file.first, size))
        return [
            (stretch.start(place), stretch.record(place))
            for stretch in stretches
            for place in range(len(stretch.starts))
        ]

    assert records(block_bytes) == records(10**6)


@given(rows=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=12))
@settings(CALM, max_examples=40)
def test_what_python_writes_is_read_as_it_was(rows, tmp_path):
    rows = [row for row in rows if not any("\ud800" <= c <= "\udfff" for field in row for c in field)]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("a", "b"), *rows])
    source = open_source(Files(str(tmp_path / "a.csv")))
    assert [row[:2] for row in walk(source, 5).rows] == rows


@given(
    lines=st.lists(
        st.sampled_from(["1,2", "x,2", "3,", ",", "4", "5,6,7", "8,9.5", '"1","2"', "-1,1e3", "\udcff,1"]), max_size=30
    )
)
@CALM
def test_only_what_does_not_fit_the_schema_is_unreadable(lines, tmp_path):
    (tmp_path / "a.csv").write_text("\n".join(lines), errors="surrogateescape")
    source = open_source(
        Files(str(tmp_path / "a.csv"), names=["a", "b"], header=False, schema={"a": "int64", "b": "double"})
    )
    values = {
        "1,2": (1, 2.0),
        "3,": (3, None),
        ",": (None, None),
        "8,9.5": (8, 9.5),
        '"1","2"': (1, 2.0),
        "-1,1e3": (-1, 1e3),
    }
    records = found(source, 7)
    assert len(records) == len(lines)
    for record, line in zip(records, lines, strict=True):
        if line in values:
            assert record == values[line]
        else:
            assert record.raw.rstrip(b"\n") == line.encode(errors="surrogateescape")


def test_a_record_without_an_end_is_refused_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr("prefect_batch.blocks.files.reading.text_file.MOST_RECORD_BYTES", 100_000)
    (tmp_path / "a.csv").write_text('a,b\n1,2\n3,"4\n' + "5,6\n" * 600_000)
    source = open_source(Files(str(tmp_path / "a.csv")))
    with pytest.raises(
        BadSource, match=r"begins at line 3 of a\.csv has not ended.*is a quote not closed\?.*quote=None"
    ):
        walk(source, 100)


def test_a_line_break_in_a_field_is_refused_where_none_may_be(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n1,2\n3,"4\n5"\n6,"7"\n')
    source = open_source(Files(str(tmp_path / "a.csv"), multiline=False))
    found = walk(source, 2)
    rows, unreadable = found.rows, found.unreadable
    assert [row[:2] for row in rows] == [("1", "2"), ("6", "7")]
    assert [record.raw for record in unreadable] == [b'3,"4\n', b'5"\n']
    assert "multiline=False forbids line breaks" in unreadable[0].reason
