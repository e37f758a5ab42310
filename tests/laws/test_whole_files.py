"""What a source of files says it has is read, all of it, or the damage is an error that names the file."""

import csv
import gzip
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_batch import Files
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.files.writing.part_writer import PartFormat
from prefect_batch.blocks.opening import open_source
from prefect_batch.testing.walk import walk

CALM = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


def records_of(path, rows_per_chunk=2, **options):
    source = open_source(Files(str(path), **options))
    source.check()
    found = walk(source, rows_per_chunk)
    assert not found.unreadable
    return [row[: len(source.names)] for row in found.rows]


def write_parquet(path):
    numbers = pa.array(range(6))
    pq.write_table(
        pa.table({"id": numbers, "x": numbers}),
        path,
        row_group_size=3,
        use_dictionary=False,
        compression="none",
        write_statistics=False,
        write_page_checksum=True,
    )
    return path.read_bytes()


def test_a_row_group_that_is_shorter_than_its_footer_says_is_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"id": pa.array(range(6)), "x": pa.array(range(6))})
    plain = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    pq.write_table(table, path, row_group_size=3, **plain)
    raw = path.read_bytes()
    page = b"\x2c\x15\x06"  # In the header of a data page: that it has 3 values.
    second = raw.index(page, raw.index(page) + 1)
    assert len(records_of(path)) == 6
    for values in range(12):
        path.write_bytes(raw[: second + 2] + bytes([values]) + raw[second + 3 :])
        if values == 6:
            assert len(records_of(path)) == 6
        else:
            with pytest.raises(BadSource, match=r"row group 0 of a\.parquet"):
                records_of(path)


def test_no_byte_of_a_footer_can_be_changed_so_that_rows_are_missed(tmp_path):
    path = tmp_path / "a.parquet"
    raw = write_parquet(path)
    end = len(raw) - 8
    length = int.from_bytes(raw[end : end + 4], "little")
    for place in range(end - length, end):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 3]) + raw[place + 1 :])
        try:
            assert len(records_of(path)) == 6
        except BadSource as error:
            assert "a.parquet" in str(error)  # noqa: PT017 - most of the changes are errors, not all


def test_a_page_that_does_not_match_its_checksum_is_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    raw = bytearray(write_parquet(path))
    raw[raw.index((4).to_bytes(8, "little"))] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(BadSource, match=r"row group 1 of a\.parquet .* CRC checksum"):
        records_of(path)


def test_symbolic_links_are_followed_and_loops_are_not(tmp_path):
    root, store, other = tmp_path / "in", tmp_path / "store", tmp_path / "other"
    for folder in (root / "sub", store, other):
        folder.mkdir(parents=True)
    (store / "a.csv").write_text("id\n1\n")
    (root / "b.csv").write_text("id\n2\n")
    (other / "c.csv").write_text("id\n3\n")
    os.symlink(store / "a.csv", root / "a.csv")
    os.symlink("..", root / "sub" / "above")
    os.symlink(other, root / "sub" / "beside")
    os.symlink(root, other / "back")
    assert records_of(root, format="csv") == [("1",), ("2",), ("3",)]
    assert records_of(root / "*.csv") == [("1",), ("2",)]
    assert records_of(root / "**" / "*.csv") == [("1",), ("2",), ("3",)]


def test_a_link_that_leads_nowhere_is_an_error_that_names_it(tmp_path):
    os.symlink(tmp_path / "gone.csv", tmp_path / "a.csv")
    with pytest.raises(BadSource, match=r"a\.csv leads to no file"):
        records_of(tmp_path, format="csv")


def test_a_link_may_point_to_a_file_that_is_written_again_only_by_a_new_pass(tmp_path):
    target = tmp_path / "target.dat"
    target.write_text("id\n1\n")
    os.symlink(target, tmp_path / "a.csv")
    source = open_source(Files(str(tmp_path), "csv"))
    before = source.files
    assert not before.differences(open_source(Files(str(tmp_path / "*.csv"))).files.files)
    target.write_text("id\n1\n2\n")
    assert before.differences(open_source(Files(str(tmp_path), "csv")).files.files)


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz", ".TSV"])
def test_files_that_end_in_tsv_are_separated_by_tabs(tmp_path, ending):
    text = b"id\tname\n1\tAnn, Bob\n"
    (tmp_path / f"a{ending}").write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    (tmp_path / "b.csv").write_text("id,name\n2,C\tD\n")
    assert records_of(tmp_path / f"a{ending}") == [("1", "Ann, Bob")]
    assert records_of(tmp_path, format="csv") == [("1", "Ann, Bob"), ("2", "C\tD")]
    if not ending.endswith("gz"):
        (tmp_path / f"a{ending}").write_text("id,name\n1,2\t3\n")
        assert records_of(tmp_path / f"a{ending}", delimiter=",") == [("1", "2\t3")]


@given(values=st.lists(st.none() | st.text(max_size=3), max_size=6), other=st.sampled_from(["text", "int", None]))
@CALM
def test_csv_of_any_number_of_columns_comes_back_with_its_nulls(values, other, tmp_path):
    columns = {"x": pa.array(values, pa.string())}
    if other == "text":
        columns["y"] = pa.array(values, pa.string())
    if other == "int":
        columns = {"x": pa.array([None if value is None else len(value) for value in values], pa.int64())}
    table = pa.table(columns)
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        writer = PartFormat("csv").open(file, table.schema)
        writer.write(table)
        writer.close()
    schema = {"x": "int64"} if other == "int" else None
    wanted = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    for rows_per_chunk in (1, 2, 100):
        assert records_of(path, rows_per_chunk, text_nulls=True, schema=schema) == wanted


@given(
    lines=st.lists(st.sampled_from(["", "a", '""', "\ufeffb", '"\n"']), max_size=6), end=st.sampled_from(["\n", "\r\n"])
)
@CALM
def test_each_line_of_a_file_of_one_column_is_a_record_as_for_pythons_csv(lines, end, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x" + end + "".join(line + end for line in lines), newline="")
    with path.open(newline="") as file:
        wanted = [tuple(row) or ("",) for row in csv.reader(file)][1:]
    for rows_per_chunk in (1, 2, 100):
        assert records_of(path, rows_per_chunk) == wanted
