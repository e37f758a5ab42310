"""Ends that only this process can reach: other processes never get them, so that nothing is lost in their memory."""

import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect.task_runners import ProcessPoolTaskRunner
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import StaticPool

from prefect_batch import Files, Query, Table, dead_letters, process_records, replay_dead_letters
from prefect_batch.blocks.databases import connections
from prefect_batch.blocks.databases.connections import close_engines, file_of, open_engine
from prefect_batch.blocks.databases.known_dialects import dialect_of
from prefect_batch.blocks.databases.sqlite.location import in_memory, is_private
from prefect_batch.blocks.errors import BadPlace, BadSink, BadSource, Refused
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.stores.opening import open_store
from prefect_batch.flows.run import choose_workers

ROWS = 300
MEMORY = {
    "no name": "sqlite://",
    ":memory:": "sqlite:///:memory:",
    "mode=memory": "sqlite:///file:{}?mode=memory&cache=shared&uri=true",
    "mode=memory, not shared": "sqlite:///file:{}?mode=memory&uri=true",
    ":memory:, shared": "sqlite:///file::memory:?cache=shared&uri=true",
    "memdb": "sqlite:///file:/{}?vfs=memdb&uri=true",
    "memdb, not shared": "sqlite:///file:{}?vfs=memdb&uri=true",
    "a temporary one": "sqlite:///file:?uri=true",
}
ON_DISK = {
    "a path": "sqlite:///{}/a.db",
    "a URI": "sqlite:///file:{}/a.db?uri=true",
    "a path with a mode that is none": "sqlite:///{}/a.db?mode=memory",
    "no URI, though it looks like one": "sqlite:///file:{}?vfs=memdb",
}
FILES = ("memory://{}/x", "dir::memory://{}/x", "filecache::memory://{}/x", "simplecache::memory://{}/x")
# What makes worker processes necessary, and what leaves the choice.
NEEDED = {"workers=processes": {"workers": "processes"}, "record_timeout": {"record_timeout": 30}}
FREE: dict[str, dict[str, Any]] = {"many records": {}, "threads": {"workers": "threads"}}


def is_in_memory(engine):
    return dialect_of(engine).in_memory(engine)


@dataclass(frozen=True)
class Case:
    """A job with an end that only this process can reach, what it is refused with, and its sink's number of rows."""

    source: Any
    sink: Any
    error: type[Refused]
    named: str
    letters: str = ""


@pytest.fixture(autouse=True)
def many(monkeypatch):
    """So few records are many here: where nothing forbids it, they are given to worker processes."""
    monkeypatch.setattr(choose_workers, "FEW_RECORDS", 0)
    yield
    close_engines()
    fsspec.filesystem("memory").store.clear()


def fill(url):
    with open_engine(url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, qty INTEGER)")
        connection.exec_driver_sql(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) "
            "INSERT INTO orders SELECT i, i FROM n"
        )
    return url


def on_disk(tmp_path):
    return fill(f"sqlite:///{tmp_path}/orders.db")


def at(template):
    return template.format(uuid.uuid4().hex)


def parquet(url):
    with fsspec.open(url, "wb") as file:
        pq.write_table(pa.table({"id": range(ROWS), "qty": range(ROWS)}), file)
    return url


def table_sink(spelling):
    def case(tmp_path):
        sink = Table(at(MEMORY[spelling]), "out", key="id", create=True)
        return Case(Table(on_disk(tmp_path), "orders", key="id"), sink, BadSink, "table out")

    return case


def table_source(spelling):
    def case(tmp_path):
        source = Table(fill(at(MEMORY[spelling])), "orders", key="id")
        return Case(source, Table(f"sqlite:///{tmp_path}/out.db", "out", key="id", create=True), BadSource, "orders")

    return case


def query_source(tmp_path):
    source = Query(fill("sqlite://"), "SELECT * FROM orders", key="id")
    return Case(source, Table(f"sqlite:///{tmp_path}/out.db", "out", key="id", create=True), BadSource, "the query")


def files_source(template):
    def case(tmp_path):
        url = at(template)
        parquet(f"memory://{url.rpartition('://')[2]}/a.parquet")
        sink = Table(f"sqlite:///{tmp_path}/out.db", "out", key="id", create=True)
        return Case(Files(url, "parquet"), sink, BadSource, f"the files {url}")

    return case


def files_sink(tmp_path):
    url = at("memory://{}/x")
    return Case(Table(on_disk(tmp_path), "orders", key="id"), Files(url, "parquet"), BadSink, f"the files in {url}")


def letters_place(tmp_path):
    place, url = at("memory://{}/letters"), on_disk(tmp_path)
    sink = Table(url, "out", key="id", create=True)
    return Case(Table(url, "orders", key="id"), sink, BadPlace, f"the dead letters in {place}", place)


CASES = {
    **{f"a table as the sink, {spelling}": table_sink(spelling) for spelling in ("no name", "mode=memory")},
    "a table as the source": table_source("memdb"),
    "a query": query_source,
    **{f"files as the source, {template}": files_source(template) for template in (FILES[0], FILES[-1])},
    "files as the sink": files_sink,
    "the dead letters": letters_place,
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request, tmp_path, server):
    return request.param(tmp_path)


def run(job, case, tmp_path, flow=process_records, **more):
    letters = case.letters or str(tmp_path / "letters")
    options = {"concurrency": 2, "chunk_size": 100, "retry_delay_seconds": 0.1, "dead_letters": letters, **more}
    return flow(job=job, source=case.source, process=dict, sink=case.sink, **options)


def rows(sink):
    if isinstance(sink, Files):
        return sum(
            pq.read_table(file).num_rows
            for file in fsspec.open_files(f"{sink.path}/*.parquet")
            for file in [file.open()]
        )
    with open_engine(sink.connection).connect() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM out").scalar()


@pytest.mark.parametrize("needed", NEEDED.values(), ids=NEEDED)
def test_they_are_refused_where_worker_processes_are_needed(case, needed, job, tmp_path):
    with pytest.raises(
        case.error, match=r"only this process can reach .*, and .* has other processes do the work"
    ) as e:
        run(job, case, tmp_path, **needed)
    assert case.named in str(e.value)
    assert next(iter(needed)) in str(e.value)


def test_they_are_refused_where_the_task_runner_has_other_processes(case, job, tmp_path):
    flow = process_records.with_options(task_runner=ProcessPoolTaskRunner(max_workers=1))
    with pytest.raises(case.error, match="the task runner ProcessPoolTaskRunner has other processes do the work"):
        run(job, case, tmp_path, flow)


@pytest.mark.parametrize("free", FREE.values(), ids=FREE)
def test_they_are_complete_where_threads_will_do(case, free, job, tmp_path):
    report = run(job, case, tmp_path, **free)
    assert (report.status, report.run.written, rows(case.sink)) == ("complete", ROWS, ROWS)


def test_ends_that_all_can_reach_go_to_worker_processes(job, tmp_path, server, monkeypatch):
    opened = []
    monkeypatch.setattr(choose_workers, "WorkerPool", lambda *_: opened.append(1) or pytest.skip("they are used"))
    url = on_disk(tmp_path)
    with pytest.raises(pytest.skip.Exception):
        run(job, Case(Table(url, "orders", key="id"), Table(url, "out", key="id", create=True), BadSink, ""), tmp_path)
    assert opened


def broken(record):
    if record["id"] % 100 == 0:
        raise ValueError("hundreds")
    return record


@pytest.mark.parametrize("needed", NEEDED.values(), ids=NEEDED)
def test_letters_in_memory_are_replayed_by_this_process_only(needed, job, tmp_path, server):
    case = letters_place(tmp_path)
    process_records(job=job, source=case.source, process=broken, sink=case.sink, dead_letters=case.letters)
    with pytest.raises(Refused, match=f"only this process can reach the dead letters of {job}"):
        replay_dead_letters(job, process=dict, **needed)
    replay_dead_letters(job, process=dict)
    assert rows(case.sink) == ROWS
    assert set(dead_letters(job, status="resolved")["key"]) == {"[100]", "[200]", "[300]"}


def test_a_refused_run_has_written_nothing(job, tmp_path, server):
    case = files_sink(tmp_path)
    with pytest.raises(BadSink):
        run(job, case, tmp_path, workers="processes")
    assert open_store(case.sink.path).find("") == []


@pytest.mark.parametrize("template", MEMORY.values(), ids=MEMORY)
def test_a_database_in_memory_is_told_by_each_spelling(template):
    url = at(template)
    assert in_memory(make_url(url))
    assert is_in_memory(open_engine(url))
    assert file_of(url) is None


# SQLAlchemy 2.1 warns of options that it leaves out without uri=true.
@pytest.mark.filterwarnings("ignore:Query string argument:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("template", ON_DISK.values(), ids=ON_DISK)
def test_a_file_is_not_taken_for_memory(template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = template.format(tmp_path if "{}/" in template else "x")
    fill(url)
    assert not in_memory(make_url(url))
    assert not is_in_memory(open_engine(url))
    assert file_of(url) is not None
    assert len([file for file in Path(tmp_path).iterdir() if "-" not in file.name]) == 1


@pytest.mark.parametrize("spelling", MEMORY)
def test_a_private_database_is_one_for_all_connections_of_this_process(spelling):
    """As SQLite tells it: whether a second connection sees what the first one has made."""
    url = at(MEMORY[spelling])
    (name, *_), options = make_url(url).get_dialect()().create_connect_args(make_url(url))
    first, second = (sqlite3.connect(name, uri=bool(options.get("uri"))) for _ in range(2))
    first.execute("CREATE TABLE t (id INTEGER)")
    seen = second.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    assert is_private(make_url(url)) is not seen
    first.close()
    second.close()
    with open_engine(url).connect() as one, open_engine(url).connect() as other:
        one.exec_driver_sql("CREATE TABLE t (id INTEGER)")
        one.commit()
        assert other.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 1


@pytest.mark.parametrize(
    "made",
    [
        lambda: create_engine("sqlite://"),
        lambda: create_engine("sqlite://", poolclass=StaticPool),
        lambda: create_engine("sqlite:///a.db", creator=lambda: sqlite3.connect(":memory:"), poolclass=StaticPool),
    ],
    ids=["its own", "one connection", "by a creator"],
)
def test_the_engine_of_a_block_is_asked(made, monkeypatch):
    class Connector:
        get_engine = staticmethod(made)

    monkeypatch.setattr(connections, "load_block", lambda _: Connector)
    engine = open_engine("sqlalchemy-connector/shop")
    assert is_in_memory(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 1


@pytest.mark.parametrize("template", [*FILES, "zip::memory://{}/x.zip"])
def test_a_chain_that_ends_in_memory_is_memory(template):
    url = at(template)
    if template.startswith("zip"):
        with fsspec.open(url.removeprefix("zip::"), "wb") as file:
            file.write(b"PK\x05\x06" + bytes(18))
    assert open_place(url).only_here


@pytest.mark.parametrize("template", ["{}", "dir::file://{}", "simplecache::file://{}"])
def test_a_chain_that_ends_in_a_directory_is_not(template, tmp_path):
    assert not open_place(template.format(tmp_path)).only_here
