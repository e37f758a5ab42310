"""The suite for sources, run on every kind of source that there is."""

import gzip
import json
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefect_batch import Files, Query, Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.letters.bury import DeadLetters, letters_folder
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.replay_list import ReplayList, list_path, write_replay_list
from prefect_batch.blocks.opening import open_source
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.testing import SourceCase, exercise_source


def records(count):
    """Keys with gaps, and values of several types."""
    texts = ["a", "é", "", "x,y", 'a"b', "漢", " ", None]
    return [
        {
            "id": 10 * n - 30,
            "name": texts[n % len(texts)],
            "price": None if n % 5 == 4 else Decimal(f"{n}.{n:02d}"),
            "day": date(2024, 2, 28) + timedelta(days=n),
        }
        for n in range(count)
    ]


def fill(database, rows):
    database.run(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(9), price NUMERIC(12,2), day DATE)",
    )
    if rows:
        typed = [
            {**row, "price": None if row["price"] is None else str(row["price"]), "day": str(row["day"])}
            for row in rows
        ]
        cast = "CAST(:day AS DATE)" if database.kind == "postgresql" else ":day"
        number = "CAST(:price AS NUMERIC(12,2))" if database.kind == "postgresql" else ":price"
        database.many(f"INSERT INTO t VALUES (:id, :name, {number}, {cast})", typed)


def test_tables(database):
    def make(count):
        fill(database, records(count))
        spec = Table(database.url, "t", key="id")
        return SourceCase(partial(open_source, spec), records(count), clear=lambda: database.run("DELETE FROM t"))

    exercise_source(make)


def test_tables_with_a_condition_and_some_columns(database):
    def make(count):
        fill(database, records(2 * count))
        spec = Table(database.url, "t", key="id", columns=["name"], where="(id + 30) % 20 = 0")
        wanted = [{"id": row["id"], "name": row["name"]} for row in records(2 * count)[::2]]
        return SourceCase(partial(open_source, spec), wanted, clear=lambda: database.run("DELETE FROM t"))

    exercise_source(make)


def test_queries(database):
    def make(count):
        fill(database, records(count))
        spec = Query(database.url, "SELECT id, name, '10:30 50%' AS label FROM t -- and no more", key="id")
        wanted = [{"id": row["id"], "name": row["name"], "label": "10:30 50%"} for row in records(count)]
        return SourceCase(partial(open_source, spec), wanted, clear=lambda: database.run("DELETE FROM t"))

    exercise_source(make)


def test_tables_with_a_key_of_several_columns_and_types(postgresql):
    """A moment and a UUID, of which several rows have the same moment."""

    def make(count):
        moment = datetime(2023, 11, 5, 4, 30, tzinfo=UTC)
        rows = [{"at": moment + timedelta(minutes=30 * (n // 3)), "id": uuid.UUID(int=n), "n": n} for n in range(count)]
        postgresql.run(
            "DROP TABLE IF EXISTS t", "CREATE TABLE t (at timestamptz, id uuid, n integer, PRIMARY KEY (at, id))"
        )
        if rows:
            postgresql.many("INSERT INTO t VALUES (:at, :id, :n)", rows)
        spec = Table(postgresql.url, "t", key=["at", "id"])
        return SourceCase(partial(open_source, spec), rows, clear=lambda: postgresql.run("DELETE FROM t"))

    exercise_source(make)


FORMS = {
    "parquet": {"format": "parquet"},
    "csv": {"format": "csv", "schema": {"id": "int64", "price": "decimal(12, 2)", "day": "date32"}},
    "csv gzip": {"format": "csv", "schema": {"id": "int64", "price": "decimal(12, 2)", "day": "date32"}},
    "jsonl": {"format": "jsonl"},
    "jsonl schema": {"format": "jsonl", "schema": {"id": "int64", "name": "string", "price": "string"}},
}


def content(rows, form):
    """The rows as a file of this form, and as they are read from it."""
    if form == "parquet":
        kinds = [("id", pa.int64()), ("name", pa.string()), ("price", pa.decimal128(12, 2)), ("day", pa.date32())]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(kinds)), sink, row_group_size=4)
        return sink.getvalue().to_pybytes(), rows
    if form.startswith("jsonl"):
        rows = [{"id": row["id"], "name": row["name"], "price": str(row["price"])} for row in rows]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(), rows
    # Text without a value is read as empty text.
    rows = [{**row, "name": row["name"] or ""} for row in rows]
    quoted = ['"' + row["name"].replace('"', '""') + '"' for row in rows]
    lines = [
        f"{row['id']},{name},{'' if row['price'] is None else row['price']},{row['day']}"
        for row, name in zip(rows, quoted, strict=True)
    ]
    text = "".join(f"{line}\n" for line in ["id,name,price,day", *lines])
    return gzip.compress(text.encode()) if form.endswith("gzip") else text.encode(), rows


@pytest.mark.parametrize("where", ["local", "memory"])
@pytest.mark.parametrize("form", FORMS)
def test_files(tmp_path, form, where):
    """Two files, of which the later has most of the records; none when there is no record."""

    def make(count):
        place = f"{tmp_path}/{count}" if where == "local" else f"memory://{tmp_path.name}/{count}"
        suffix = FORMS[form]["format"] + (".gz" if form.endswith("gzip") else "")
        fsspec.filesystem("file").makedirs(str(tmp_path / str(count)))
        parts = [part for part in (records(count)[:3], records(count)[3:]) if part]
        wanted = []
        for n, part in enumerate(parts):
            raw, rows = content(part, form)
            with fsspec.open(f"{place}/{n}.{suffix}", "wb", auto_mkdir=True) as file:
                file.write(raw)
            wanted += rows
        spec = Files(place, allow_empty=True, **FORMS[form])
        return SourceCase(partial(open_source, spec), wanted, divides=not form.endswith("gzip"))

    exercise_source(make)


def bury(place, rows):
    """The rows as letters of two chunks, and the list of all of them."""
    schema = pa.schema(
        [("id", pa.int64()), ("name", pa.string()), ("price", pa.decimal128(12, 2)), ("day", pa.date32())]
    )
    found = []
    for chunk, part in ((ChunkRange(None, (0,)), rows[:4]), (ChunkRange((0,), (900,)), rows[4:])):
        with DeadLetters(place, "job", 1, schema).open(chunk, "run") as burial:
            now = datetime(2024, 1, 1, tzinfo=UTC)
            burial.add([DeadLetter((row["id"],), "process", "E", "m", "t", 1, now, row) for row in part])
            burial.finish()
        found += [(f"{letters_folder('job', 1)}/{chunk.digest}.parquet", n) for n in range(len(part))]
    write_replay_list(open_place(place), list_path("job", 1), ReplayList.of(found))
    return list_path("job", 1)


@pytest.mark.parametrize("where", ["local", "memory"])
def test_dead_letters(tmp_path, where):
    def make(count):
        place = f"{tmp_path}/{count}" if where == "local" else f"memory://{tmp_path.name}/{count}"
        spec = Letters(place, "job", 1, (place, bury(place, records(count))), "letter", None, {})
        return SourceCase(partial(open_source, spec), records(count))

    exercise_source(make)


def test_dead_letters_whose_records_are_read_again(sqlite, tmp_path):
    def make(count):
        place = f"{tmp_path}/{count}"
        fill(sqlite, records(count))
        origin = Table(sqlite.url, "t", key="id")
        changed = [{**row, "name": "as it was"} for row in records(count)]
        spec = Letters(place, "job", 1, (place, bury(place, changed)), "source", origin, {})
        return SourceCase(partial(open_source, spec), records(count))

    exercise_source(make)
