"""Where files may be: in memory, in S3 (a server of moto), and places that are not there or may not be read."""

import json
import os
import socket

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefect_batch import Files
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.credentials import know_url, storage_options
from prefect_batch.blocks.errors import BadParameter, BadSource, DefinitionChanged
from prefect_batch.blocks.opening import open_source
from prefect_batch.testing.walk import walk
from tests.test_file_sources import ROWS, values, write


@pytest.fixture(scope="module")
def s3(s3_server):
    """A bucket ``lake``; its options are as a Secret block would hold them."""
    import s3fs

    options = {"key": "test", "secret": "word", "client_kwargs": {"endpoint_url": s3_server}}
    know_url("secret/lake", json.dumps(options))
    s3fs.S3FileSystem(**options).mkdir("lake")
    return s3fs.S3FileSystem(**options, use_listings_cache=False)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "csv gzip"])
def test_s3_is_read_like_a_directory(s3, tmp_path, form):
    kind = form.partition(" ")[0]
    for name, part in (("a", ROWS[:4]), ("b", ROWS[4:])):
        write(tmp_path / "file", part, form)
        s3.put_file(str(tmp_path / "file"), f"lake/{form}/{name}.{kind}{'.gz' if 'gzip' in form else ''}")
    schema = {"n": "int64"} if kind == "csv" else None
    for path in (f"s3://lake/{form}", f"s3://lake/{form}/*.{kind}*"):
        source = open_source(Files(path, format=kind, storage="secret/lake", schema=schema))
        source.check()
        assert not source.only_here
        for rows_per_chunk in (1, 3, 100):
            walked = walk(source, rows_per_chunk)
            found, unreadable = walked.rows, walked.unreadable
            assert [row[:2] for row in found] == values(ROWS)
            assert not unreadable
        assert [file.name.partition(".")[0] for file in source.files.files] == ["a", "b"]


def test_a_large_object_of_lines_is_cut_without_reading_what_lies_between(s3, monkeypatch):
    lines = [json.dumps({"n": n, "t": "x" * 80}) for n in range(20_000)]
    s3.pipe_file("lake/large.jsonl", "\n".join(lines).encode())
    source = open_source(Files("s3://lake/large.jsonl", storage="secret/lake"))
    upper = source.last_key()
    read = []
    plain = source.texts.system.read

    def counted(name, start, end):
        read.append(end - start)
        return plain(name, start, end)

    monkeypatch.setattr(source.texts.system, "read", counted)
    edges = source.edges(None, upper, 5_000, 10)
    assert len(edges) in (4, 5)
    assert sum(read) < 0.25 * source.files.bytes
    found, after = [], None
    for edge in edges:
        found += [row[0] for batch in source.read(ChunkRange(after, edge), 1_000) for row in batch.rows]
        after = edge
    assert found == list(range(20_000))


def test_an_object_that_was_written_again_is_refused(s3):
    s3.pipe_file("lake/again.csv", b"n,t\n1,a\n")
    source = open_source(Files("s3://lake/again.csv", storage="secret/lake"))
    chunk = ChunkRange(None, source.last_key())
    s3.pipe_file("lake/again.csv", b"n,t\n2,b\n")
    with pytest.raises(DefinitionChanged, match=r"again\.csv is not what it was.*it was written again"):
        list(source.read(chunk, 10))


def test_a_store_that_does_not_answer_is_worth_another_attempt(monkeypatch):
    from prefect_batch.blocks.blame import blame_of

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        options = {
            "key": "test",
            "secret": "word",
            "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{taken.getsockname()[1]}"},
            "config_kwargs": {"retries": {"max_attempts": 1}},
        }
        know_url("secret/away", json.dumps(options))
        monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
        source = open_source(Files("s3://lake/a.csv", storage="secret/away"))
        with pytest.raises(Exception) as failed:  # noqa: PT011 - of whatever class it is
            source.check()
    assert blame_of(failed.value).passes
    assert "word" not in str(failed.value)


def test_files_in_memory_stay_in_this_process():
    import fsspec

    fsspec.filesystem("memory").pipe_file("/in/a.csv", b"n,t\n1,a\n2,b\n")
    source = open_source(Files("memory://in/a.csv"))
    assert source.only_here
    assert [row[:2] for row in walk(source, 1).rows] == [("1", "a"), ("2", "b")]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("ordrs.csv", r"there is no file .*ordrs\.csv: did you mean orders\.csv\?"),
        ("none/orders.csv", r"there is no file .*orders\.csv: there is no directory .*none"),
        ("x-*.csv", r"no file matches .*x-\*\.csv: "),
        ("empty", r"the directory .*empty has 0 files"),
        ("other", r"the directory .*other has 1 files, and the name of none ends in \.csv.*name them by a glob"),
        ("twice.csv", r"twice\.csv has more than one column a: give each column its own name with names=\[…\]"),
        ("blank.csv", r"has no line of column names: every file is empty"),
        ("binary.csv", r"the first line of binary\.csv cannot be read as column names"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(tmp_path, path, message):
    (tmp_path / "orders.csv").write_text("a,b\n1,2\n")
    (tmp_path / "twice.csv").write_text("a,b,a\n1,2,3\n")
    (tmp_path / "blank.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.xml").write_text("")
    with pytest.raises(BadSource, match=message):
        open_source(Files(str(tmp_path / path), format="csv")).check()


def test_files_with_other_columns_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("b,a\n2,1\n")
    (tmp_path / "c.csv").write_text("a,c\n1,2\n")
    source = open_source(Files(str(tmp_path / "*.csv")))
    read = source.read(ChunkRange(None, source.last_key()), 10)
    assert [next(read).rows, next(read).rows] == [[("1", "2")], [("1", "2")]]
    with pytest.raises(BadSource, match=r"c\.csv has other columns than a\.csv: it lacks b, and has c besides"):
        next(read)


def test_parquet_files_with_other_columns_are_named(tmp_path):
    pq.write_table(pa.table({"a": pa.array([1], pa.int64())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": pa.array([2], pa.int32())}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"a": ["3"]}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"b": [4]}), tmp_path / "d.parquet")
    for files, message in (
        ("c", r"c\.parquet has string in column a"),
        ("d", r"d\.parquet has other columns.*lacks a"),
    ):
        source = open_source(Files(f"{tmp_path}/[ab{files}].parquet"))
        read = source.read(ChunkRange(None, source.last_key()), 10)
        assert [next(read).rows, next(read).rows] == [[(1,)], [(2,)]]  # A narrower integer is one, too.
        with pytest.raises(BadSource, match=message):
            next(read)


def test_a_damaged_parquet_file_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(BadSource, match=r"a\.parquet cannot be read as Parquet"):
        open_source(Files(str(tmp_path / "a.parquet"))).check()


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    source = open_source(Files(str(tmp_path / "a.csv")))
    _ = source.files
    os.chmod(tmp_path / "a.csv", 0)
    if os.access(tmp_path / "a.csv", os.R_OK):
        pytest.skip("root may read everything")
    with pytest.raises(BadSource, match="may not be read"):
        source.check()


def test_a_torn_gzip_file_fails_in_words(tmp_path):
    write(tmp_path / "whole", ROWS * 100, "csv gzip")
    (tmp_path / "a.csv.gz").write_bytes((tmp_path / "whole").read_bytes()[:-20])
    source = open_source(Files(str(tmp_path / "a.csv.gz")))
    with pytest.raises(BadSource, match=r"a\.csv\.gz cannot be unpacked as gzip"):
        walk(source, 1_000, 1_000)


@pytest.mark.parametrize(
    ("path", "storage", "message"),
    [
        ("nosuch://x/a.csv", None, "there is no file system nosuch://"),
        ("memory://x/a.csv", "secret/odd", "must hold the options of the storage as a JSON object"),
    ],
)
def test_a_store_that_is_not_known_is_refused(path, storage, message):
    know_url("secret/odd", "not JSON, word")
    with pytest.raises(BadParameter, match=message) as refused:
        open_source(Files(path, storage=storage)).check()
    assert "word" not in str(refused.value)


def test_an_environment_variable_holds_the_options_of_the_storage(monkeypatch):
    monkeypatch.setenv("LAKE", '{"key": "me", "secret": "word"}')
    assert storage_options("env/LAKE") == {"key": "me", "secret": "word"}


def test_packed_files_are_said_to_be_one_stream_each(tmp_path):
    write(tmp_path / "a.csv.gz", ROWS, "csv gzip")
    (warning,) = open_source(Files(str(tmp_path / "a.csv.gz"))).check()
    assert "such a file is one stream, read by one chunk from its top" in warning


def test_worker_processes_get_the_secret_of_the_storage(s3, server, sqlite, job, tmp_path):
    from prefect.blocks.system import Secret

    from prefect_batch import Table, process_records
    from prefect_batch.blocks.databases import connections

    options = json.loads(connections.url_of("secret/lake"))
    Secret(value=options).save("lake-of-a-team", overwrite=True)
    sqlite.run("CREATE TABLE out (n INTEGER PRIMARY KEY, t TEXT)")
    s3.pipe_file("lake/flow/a.csv", b"n,t\n" + b"".join(b"%d,x\n" % n for n in range(100)))
    report = process_records(
        job=job,
        source=Files("s3://lake/flow/*.csv", storage="secret/lake-of-a-team", schema={"n": "int64"}),
        process=lambda record: record,
        sink=Table(sqlite.url, "out", key="n"),
        workers="processes",
        concurrency=2,
        chunk_size=40,
        dead_letters=str(tmp_path),
    )
    assert report.run.written == 100
    assert sqlite.rows("SELECT count(*) FROM out") == [(100,)]
