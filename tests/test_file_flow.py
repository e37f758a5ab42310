"""Files through the flow: to the end, and through what may happen to them on the way."""

import json
import os

import pytest

from prefect_batch import Files, Table, dead_letters, process_records, status
from prefect_batch.blocks.errors import DefinitionChanged
from prefect_batch.blocks.letters.record_json import decode_record

pytestmark = pytest.mark.usefixtures("server")


def write_csv(path, numbers):
    path.write_text("id,name\n" + "".join(f'{n},"name\n{n}"\n' for n in numbers))


def double(record):
    return {"id": int(record["id"]), "name": record["name"]}


def run(database, job, path, tmp_path, process=double, **parameters):
    spec = parameters.pop("files", {})
    return process_records(
        job=job,
        source=Files(str(path), **spec),
        process=process,
        sink=Table(database.url, "out", key="id"),
        dead_letters=str(tmp_path / "letters"),
        **{"chunk_size": 7, "max_failure_rate": 0.5, **parameters},
    )


@pytest.fixture
def out(sqlite):
    sqlite.run("CREATE TABLE out (id INTEGER PRIMARY KEY, name TEXT)")
    return sqlite


def ids(database):
    return [n for (n,) in database.rows("SELECT id FROM out ORDER BY id")]


def test_a_file_reaches_the_table_and_what_cannot_be_read_is_a_letter(out, job, tmp_path):
    lines = [f"{n},name {n}" for n in range(40)]
    lines[11] = "11,too,many"
    lines[25] = "25"
    lines[30] = "30,\udcff"
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["id,name", *lines]), errors="surrogateescape")
    report = run(out, job, path, tmp_path)
    assert (report.run.read, report.run.written, report.run.failed) == (40, 37, 3)
    assert ids(out) == [n for n in range(40) if n not in (11, 25, 30)]
    letters = dead_letters(job).sort_values("key")
    assert set(letters["stage"]) == {"read"}
    records = [decode_record(text) for text in letters["record_json"]]
    assert sorted((record["__line__"], record["__raw__"]) for record in records) == [
        (13, b"11,too,many\n"),
        (27, b"25\n"),
        (32, b"30,\xff\n"),
    ]
    message = next(text for text in letters["error_message"] if "line 13" in text)
    assert message == "line 13 of a.csv: it has 3 fields, and there are 2 columns"


def test_an_unfinished_pass_goes_on_and_new_files_wait_for_the_next(out, job, tmp_path):
    (tmp_path / "in").mkdir()
    write_csv(tmp_path / "in" / "b.csv", range(10, 40))
    run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"}, limit=10)
    assert ids(out) == list(range(10, 20))
    write_csv(tmp_path / "in" / "a.csv", range(10))
    run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"})
    assert ids(out) == list(range(10, 40))
    report = run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"}, mode="incremental")
    assert report.run.read == 10
    assert ids(out) == list(range(40))
    report = run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"}, mode="incremental")
    assert (report.run.read, report.status) == (0, "complete")


def test_a_file_that_changed_since_an_incremental_pass_is_read_again(out, job, tmp_path, caplog):
    (tmp_path / "in").mkdir()
    for name, start in (("a", 0), ("b", 10)):
        write_csv(tmp_path / "in" / f"{name}.csv", range(start, start + 10))
    run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"}, mode="incremental")
    write_csv(tmp_path / "in" / "a.csv", range(100, 105))
    report = run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"}, mode="incremental")
    assert report.run.read == 5
    assert "1 files have changed since they were read, and are read again whole: a.csv" in caplog.text


@pytest.mark.parametrize("change", ["gone", "same size"])
def test_a_changed_file_is_named_on_resume(out, job, tmp_path, change):
    (tmp_path / "in").mkdir()
    write_csv(tmp_path / "in" / "a.csv", range(10))
    path = tmp_path / "in" / "b.csv"
    write_csv(path, range(10, 40))
    run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"}, limit=15)
    changed = os.stat(path).st_mtime_ns
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"10", b"99"))
        os.utime(path, ns=(changed, changed))
    with pytest.raises(DefinitionChanged, match=r"unfinished pass over files that have changed:\n  b\.csv: "):
        run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"})
    assert status(job).status != "complete"
    run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"}, restart=True)
    assert status(job).status == "complete"


def test_many_files_do_not_burden_the_cursor(out, job, tmp_path):
    (tmp_path / "in").mkdir()
    for n in range(1_000):
        (tmp_path / "in" / f"{n:05d}.csv").write_text(f"id,name\n{n},x\n")
    report = run(out, job, tmp_path / "in", tmp_path, files={"format": "csv"}, chunk_size=300)
    assert report.run.read == 1_000
    assert report.run.chunks < 10
    from prefect_batch.blocks.state.cursor_store import JobCursor

    assert len(JobCursor.load(job).model_dump_json()) < 20_000


@pytest.mark.parametrize(
    ("form", "workers"), [("csv", "threads"), ("csv", "processes"), ("jsonl", "processes"), ("parquet", "processes")]
)
def test_every_format_in_threads_and_processes(out, job, tmp_path, form, workers):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"a.{form}"
    rows = [{"id": n, "name": f"name {n}"} for n in range(100)]
    if form == "csv":
        write_csv(path, range(100))
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=30)
    report = run(out, job, path, tmp_path, workers=workers, concurrency=2)
    assert report.run.written == 100
    assert ids(out) == list(range(100))


def test_a_dry_run_writes_nothing(out, job, tmp_path):
    write_csv(tmp_path / "a.csv", range(20))
    assert run(out, job, tmp_path / "a.csv", tmp_path, dry_run=True).run.read == 20
    assert ids(out) == []


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_files_that_are_moved_away_once_they_were_read(out, job, tmp_path, form):
    import pyarrow as pa
    import pyarrow.parquet as pq

    incoming, archive = tmp_path / "in", tmp_path / "archive"
    incoming.mkdir()
    archive.mkdir()
    spec = {"format": form, "allow_empty": True}

    def arrive(name, numbers):
        path = incoming / f"{name}.{form}"
        if form == "csv":
            write_csv(path, numbers)
        elif form == "jsonl":
            path.write_text("".join(json.dumps({"id": n, "name": "x"}) + "\n" for n in numbers))
        else:
            pq.write_table(pa.table({"id": list(numbers), "name": ["x" for _ in numbers]}), path)

    def hourly():
        return run(out, job, incoming, tmp_path, files=spec, mode="incremental").run.read

    assert hourly() == 0
    arrive("a", range(5))
    arrive("b", range(5, 10))
    assert hourly() == 10
    (incoming / f"a.{form}").rename(archive / f"a.{form}")
    assert hourly() == 0
    (incoming / f"b.{form}").rename(archive / f"b.{form}")
    assert hourly() == 0
    arrive("c", range(10, 12))
    assert hourly() == 2
    assert ids(out) == list(range(12))
