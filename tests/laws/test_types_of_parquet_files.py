"""The columns of Parquet files are compared before the first record, and those of their directories are there."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefect_batch import Files
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.opening import open_source
from prefect_batch.testing.walk import walk


def write(path, values, arrow, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"v": pa.array(values, arrow)} | more), path)


def records_of(path, **options):
    source = open_source(Files(str(path), "parquet", **options))
    source = source.with_files(source.files)
    return source.schema, walk(source, 2).records


@pytest.mark.parametrize("first", [pa.int8(), pa.int64()])
def test_the_widest_type_is_taken_whichever_file_comes_first(first, tmp_path):
    other = pa.int64() if first == pa.int8() else pa.int8()
    write(tmp_path / "a.parquet", [1], first)
    write(tmp_path / "b.parquet", [2, None], other)
    write(tmp_path / "c.parquet", [None], pa.null())
    schema, records = records_of(tmp_path)
    assert schema == pa.schema([("v", pa.int64())])
    assert records == [{"v": 1}, {"v": 2}, {"v": None}, {"v": None}]


def test_types_that_no_type_holds_exactly_are_refused_with_both_files(tmp_path):
    write(tmp_path / "a.parquet", [1], pa.int8())
    write(tmp_path / "b.parquet", [2**53 + 1], pa.int64())
    write(tmp_path / "c.parquet", [0.5], pa.float64())
    with pytest.raises(BadSource, match=r"c\.parquet has double in column v, and b\.parquet has int64"):
        records_of(tmp_path)


def test_directories_give_their_columns(tmp_path):
    write(tmp_path / "year=2023" / "month=01" / "a.parquet", [1], pa.int64())
    write(tmp_path / "year=2024" / "month=x%2Fy" / "a.parquet", [2], pa.int64())
    write(tmp_path / "year=2024" / "month=__HIVE_DEFAULT_PARTITION__" / "b.parquet", [3], pa.int64())
    _, records = records_of(tmp_path)
    assert sorted(records, key=lambda record: record["v"]) == [
        {"v": 1, "year": 2023, "month": "01"},
        {"v": 2, "year": 2024, "month": "x/y"},
        {"v": 3, "year": 2024, "month": None},
    ]
    _, records = records_of(tmp_path, columns=["year"])
    assert [record["year"] for record in records] == [2023, 2024, 2024]


def test_a_column_of_the_file_comes_before_that_of_its_directory(tmp_path):
    write(tmp_path / "v=7" / "a.parquet", [1], pa.int64())
    assert records_of(tmp_path)[1] == [{"v": 1}]


def test_files_in_other_kinds_of_directories_are_refused(tmp_path):
    write(tmp_path / "a.parquet", [1], pa.int64())
    write(tmp_path / "year=2024" / "b.parquet", [2], pa.int64())
    with pytest.raises(BadSource, match=r"year=2024/b\.parquet is in directories that give the columns year"):
        records_of(tmp_path)
