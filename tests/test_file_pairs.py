"""Tables and files in every pair, through the whole flow."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefect_batch import (
    Files,
    Table,
    complete_files,
    dead_letters,
    process_records,
    processor,
    replay_dead_letters,
    status,
)
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadParameter, BadSink, FailureRateExceeded
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink
from tests.test_file_stores import s3  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("server")


def double(record):
    n = int(record["n"])
    if n % 50 == 7:
        raise ValueError("seven")
    if n % 50 == 8:
        return None
    return {"id": n, "doubled": 2 * n if n % 50 != 9 else "nine"}


EXPECTED = [{"id": n, "doubled": 2 * n} for n in range(1000) if n % 50 not in (7, 8, 9)]


@processor(vectorized=True)
def double_table(table: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    n = table["n"].cast(pa.int64())
    return pa.table({"id": n, "doubled": pc.multiply(n, 2), "__record__": table["__record__"]})


@pytest.fixture
def numbers(sqlite):
    sqlite.run("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    sqlite.many("INSERT INTO t VALUES (:n)", [{"n": n} for n in range(1000)])
    return Table(sqlite.url, "t", key="n")


@pytest.fixture
def start(job, tmp_path):
    def run(source, sink, process=double, **options):
        defaults = {"chunk_size": 150, "dead_letters": str(tmp_path / "letters"), "concurrency": 2}
        return process_records(job=job, source=source, process=process, sink=sink, **{**defaults, **options})

    return run


def rows_of(place, form):
    files = complete_files(str(place), verify=True)
    if form == "parquet":
        return [row for file in files for row in pq.read_table(file).to_pylist()]
    if form == "jsonl":
        return [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    lines = [line for file in files for line in Path(file).read_text().splitlines()[1:]]
    return [dict(zip(("id", "doubled"), map(int, line.split(",")), strict=True)) for line in lines]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_a_table_into_files(numbers, start, job, tmp_path, form, workers):
    report = start(numbers, Files(str(tmp_path / "out"), form, compact=form != "csv"), workers=workers)
    assert (report.run.written, report.run.filtered, report.run.failed) == (940, 20, 40)
    assert rows_of(tmp_path / "out", form) == EXPECTED
    kinds = dead_letters(job)["error_type"].value_counts().to_dict()
    assert kinds == {"ValueError": 20, "prefect_batch.blocks.errors.DoesNotFit": 20}


def test_a_vectorized_function_into_files_of_a_given_schema(numbers, start, tmp_path):
    schema = {"id": "int32", "doubled": "decimal(10,1)"}
    start(numbers, Files(str(tmp_path / "out"), "parquet", schema=schema), double_table)
    table = pq.read_table(complete_files(str(tmp_path / "out")))
    assert table.schema == pa.schema([("id", pa.int32()), ("doubled", pa.decimal128(10, 1))])
    assert table.num_rows == 1000


def test_a_run_that_stops_leaves_the_former_pass_to_readers(numbers, start, job, tmp_path):
    sink = Files(str(tmp_path / "out"), "parquet")
    start(numbers, sink)
    start(numbers, sink, limit=300)
    assert status(job).status == "stopped"
    assert rows_of(tmp_path / "out", "parquet") == EXPECTED
    with pytest.raises(FailureRateExceeded):
        start(numbers, sink, max_failure_rate=0.001)
    assert rows_of(tmp_path / "out", "parquet") == EXPECTED
    start(numbers, sink)
    assert rows_of(tmp_path / "out", "parquet") == EXPECTED
    assert {name.name[:11] for name in (tmp_path / "out").glob("part-*")} == {"part-000002"}


def test_incremental_runs_add_files(sqlite, numbers, start, tmp_path):
    sink = Files(str(tmp_path / "out"), "jsonl")
    start(numbers, sink, mode="incremental")
    sqlite.many("INSERT INTO t VALUES (:n)", [{"n": n} for n in range(1000, 1005)])
    start(numbers, sink, mode="incremental")
    start(numbers, sink, mode="incremental")
    assert [row["id"] for row in rows_of(tmp_path / "out", "jsonl")][-6:] == [999, 1000, 1001, 1002, 1003, 1004]
    with pytest.raises(BadParameter, match="would then hold them twice"):
        start(numbers, sink, mode="incremental", overlap=10)
    start(numbers, sink)
    assert len(rows_of(tmp_path / "out", "jsonl")) == 945


def test_what_goes_with_a_source_only_is_refused(numbers, start, tmp_path):
    for wrong, told in (
        ({"path": f"{tmp_path}/*.csv"}, "a sink is one directory"),
        ({"path": str(tmp_path), "encoding": "latin-1"}, "encoding='latin-1' goes with a source"),
        ({"path": str(tmp_path), "quote": None}, "quote=None goes with a source"),
    ):
        with pytest.raises(BadParameter, match=told.replace("*", r"\*")):
            start(numbers, Files(**wrong, format="csv"))


@pytest.mark.parametrize(("codec", "stored"), [(None, "ZSTD"), ("none", "UNCOMPRESSED"), ("snappy", "SNAPPY")])
def test_parquet_has_the_codec_that_was_asked_for(tmp_path, codec, stored):
    sink = open_sink(Files(str(tmp_path), "parquet", compression=codec))
    pass_ = PassRef("job", 1, "ab")
    sink.begin_pass(pass_)
    sink.prepare([{"n": 1}], pa.schema([]))
    with sink.transaction(pass_, ChunkRange(None, (1,))) as transaction:
        transaction.write([{"n": 1}])
        transaction.commit()
    sink.end_pass(pass_)
    (file,) = complete_files(str(tmp_path))
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == stored
    with pytest.raises(BadParameter, match="compression='zip' does not go with Parquet"):
        open_sink(Files(str(tmp_path), "parquet", compression="zip"))


def test_another_jobs_directory_is_refused(numbers, start, tmp_path):
    sink = Files(str(tmp_path / "out"), "csv")
    start(numbers, sink)
    with pytest.raises(BadSink, match="holds the files of job"):
        process_records(job="test-other", source=numbers, process=double, sink=sink, dead_letters=str(tmp_path))


def test_compressed_text_is_joined_too(numbers, start, tmp_path):
    import gzip

    for form in ("csv", "jsonl"):
        place = tmp_path / form
        start(numbers, Files(str(place), form, compression="gzip", compact=True), restart=True)
        (file,) = complete_files(str(place))
        assert file.endswith(f".{form}.gz")
        assert gzip.decompress(Path(file).read_bytes()).count(b"\n") == len(EXPECTED) + (form == "csv")


def test_files_into_files_in_columns_and_back_into_a_table(sqlite, start, tmp_path):
    """CSV → Parquet → JSON Lines → table, each with its own job's machinery and none of it through Python's records."""
    (tmp_path / "numbers.csv").write_text("n\n" + "\n".join(map(str, range(1000))) + "\n")
    parquet, lines = Files(str(tmp_path / "parquet"), "parquet"), Files(str(tmp_path / "lines"), "jsonl", compact=True)
    start(Files(str(tmp_path / "numbers.csv")), parquet, double_table)
    start(parquet, lines, take_half, restart=True)
    assert [row["id"] for row in rows_of(tmp_path / "lines", "jsonl")] == list(range(0, 1000, 2))
    out = Table(sqlite.url, "out", key="id", create=True)
    start(lines, out, lambda record: {"id": record["id"], "doubled": record["doubled"]}, restart=True)
    assert sqlite.rows("SELECT * FROM out ORDER BY id") == [(n, 2 * n) for n in range(0, 1000, 2)]


@processor(vectorized=True)
def take_half(table: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.equal(pc.bit_wise_and(table["id"], 1), 0))


def mended(record):
    return {"id": int(record["n"]), "doubled": 2 * int(record["n"])}


def test_replayed_letters_are_added_to_the_files_once(numbers, start, job, tmp_path):
    place = tmp_path / "out"
    start(numbers, Files(str(place), "parquet"))
    replay_dead_letters(job=job, process=mended, error_type="ValueError")
    added = [row["id"] for row in rows_of(place, "parquet")][len(EXPECTED) :]
    assert sorted(added) == [n for n in range(1000) if n % 50 == 7]
    replay_dead_letters(job=job, process=mended)
    assert len(rows_of(place, "parquet")) == len(EXPECTED) + 40
    assert set(dead_letters(job)["status"]) == {"resolved"}
    replay_dead_letters(job=job, process=mended)
    assert len(rows_of(place, "parquet")) == len(EXPECTED) + 40
    start(numbers, Files(str(place), "parquet"))
    assert rows_of(place, "parquet") == EXPECTED


def test_what_an_interrupted_replay_has_committed_is_kept_by_the_next(numbers, start, job, tmp_path):
    place = tmp_path / "out"
    start(numbers, Files(str(place), "csv"))
    replay_dead_letters(job=job, process=mended, limit=15, chunk_size=5)
    assert len(rows_of(place, "csv")) == len(EXPECTED)
    replay_dead_letters(job=job, process=mended, restart=True)
    found = sorted(row["id"] for row in rows_of(place, "csv"))
    assert found == [n for n in range(1000) if n % 50 != 8]


def test_letters_of_a_pass_into_files_are_replayed_once_it_is_complete(numbers, start, job, tmp_path):
    sink = Files(str(tmp_path / "out"), "parquet")
    start(numbers, sink, limit=300)
    with pytest.raises(BadSink, match="that is not complete: complete it, and then replay"):
        replay_dead_letters(job=job, process=mended)
    start(numbers, sink)
    replay_dead_letters(job=job, process=mended)
    assert len(rows_of(tmp_path / "out", "parquet")) == len(EXPECTED) + 40


def test_files_in_s3_are_a_sink_like_a_directory(s3, numbers, start):  # noqa: F811
    for workers in ("threads", "processes"):
        sink = Files("s3://lake/sink", "parquet", storage="secret/lake", compact=workers == "processes")
        start(numbers, sink, workers=workers)
        options = {"key": s3.key, "secret": s3.secret, "client_kwargs": s3.client_kwargs}
        files = complete_files("s3://lake/sink", verify=True, storage_options=options)
        assert {f"s3://{path}" for path in s3.ls("lake/sink")} == {*files, "s3://lake/sink/_manifest.json"}
        assert [row for file in files for row in pq.read_table(s3.open(file)).to_pylist()] == EXPECTED
