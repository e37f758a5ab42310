"""What is raised for one record concerns that record: in every form of function, in threads and in processes."""

import asyncio
import contextlib
import errno
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefect_batch import BadRecords, SkipRecord, StopBatch, Table, processor
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import BadRecord, RemoteError
from prefect_batch.tasks.work.work_chunk import ChunkJob, forget, work_chunk
from prefect_batch.tasks.workers.messages import WorkerSetup
from prefect_batch.tasks.workers.pool import WorkerPool
from prefect_batch.tasks.workers.send_function import send_function

FORMS = ("record", "async", "frame", "table")
WORKERS = ("threads", "processes")
ROWS = 64


def hostile(name="Hostile"):
    """An error that raises another one whatever it is asked, of a class that no other process knows."""

    def refuse(*_args):
        raise SystemExit("asked")

    methods = ("__str__", "__repr__", "__reduce__", "__reduce_ex__", "__getattribute__", "__eq__", "__hash__")
    return type(name, (Exception,), dict.fromkeys(methods, refuse))("x")


def noted(error):
    error.add_note("\ud800 \0 noted")
    return error


def by_record(number):
    """What is raised for the record of this number; the others are written."""
    return {
        10: lambda: SkipRecord("no"),
        11: lambda: BadRecord("bad"),
        12: lambda: BadRecords([99], "there is no such position"),
        13: lambda: ValueError("x"),
        14: lambda: SystemExit("bad option"),
        15: KeyboardInterrupt,
        16: asyncio.CancelledError,
        17: lambda: GeneratorExit("x"),
        18: lambda: type("Own", (BaseException,), {})("own"),
        19: hostile,
        20: lambda: ValueError("no such file: caf\udce9.csv \0 " + "x" * 40),
        21: lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
        22: lambda: StopIteration("next"),
        23: lambda: ValueError("long " * 2_000_000),
        24: lambda: noted(ValueError("x")),
        25: lambda: type("\ud800Odd", (Exception,), {"__module__": 5})("x"),
        26: lambda: ConnectionError("the service of the function is away"),
        27: lambda: RecursionError("deep"),
        28: lambda: hostile("SkipRecord"),
        40: lambda: StopBatch("enough"),
        41: MemoryError,
        42: lambda: OSError(errno.EMFILE, "Too many open files"),
        43: lambda: RuntimeError("can't start new thread"),
    }.get(number)


def of_form(form, each):
    """A function of this form that calls `each` with every number, in turn, and returns what it got."""

    async def later(record):
        await asyncio.sleep(0)
        each(record["id"])
        return record

    def record(record):
        each(record["id"])
        return record

    @processor(vectorized=True)
    def frame(frame):
        for number in frame["id"]:
            each(number)
        return frame

    @processor(vectorized=True)
    def table(table: pa.Table):
        for number in table["id"].to_pylist():
            each(number)
        return table

    return {"async": later, "record": record, "frame": frame, "table": table}[form]


def raises(number):
    if error := by_record(number):
        raise error()


@contextlib.contextmanager
def working(job, function, workers, timeout=None):
    """A way to have chunks done, as a run has them done."""
    if workers == "threads":
        with ThreadPoolExecutor(1) as thread:
            yield lambda chunk: thread.submit(work_chunk, job(function), chunk).result()
        forget(job(function).run_id)
    else:
        setup = WorkerSetup(job(""), send_function(function), list(sys.path), {}, timeout)
        with WorkerPool(setup, 1) as pool:
            yield lambda chunk: pool.work(chunk, 1000, lambda _level, _text: None)


@pytest.fixture
def job(sqlite, tmp_path, request):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE out (id INTEGER PRIMARY KEY)")
    sqlite.many("INSERT INTO t VALUES (:n)", [{"n": n} for n in range(ROWS)])
    source, sink = Table(sqlite.url, "t", key="id"), Table(sqlite.url, "out", key="id")

    def make(process, **options):
        name = request.node.name
        return ChunkJob("raised", 1, "p", name, source, sink, process, str(tmp_path / "letters"), 1000, **options)

    return make


def letters_of(result):
    letters = pq.read_table(result.letters).to_pylist()
    return {json.loads(letter["key"])[0]: letter for letter in letters}


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("form", FORMS)
def test_one_record_costs_one_record_whatever_is_raised_for_it(form, workers, job, sqlite):
    with working(job, of_form(form, raises), workers) as work:
        result = work(ChunkRange(None, (30,)))
        raised = {n for n in range(31) if by_record(n)}
        assert sqlite.rows("SELECT id FROM out ORDER BY id") == [(n,) for n in range(31) if n not in raised]
        assert (result.tally.filtered, result.tally.failed) == (1, len(raised) - 1)
        letters = letters_of(result)
        assert set(letters) == raised - {10}
        assert letters[11]["error_message"] == "bad"
        assert letters[14]["error_message"] == "bad option"
        assert letters[19]["error_type"].endswith("Hostile")
        assert "caf\\udce9.csv \\x00" in letters[20]["error_message"]
        assert len(letters[23]["error_message"]) < 20_000
        assert "10,000,000 characters" in letters[23]["error_message"]
        assert "noted" in letters[24]["traceback"]
        json.dumps(result.encode(), ensure_ascii=False).encode()  # As it is stored in Prefect.
        # What is no fault of a record stops the chunk or the run, and buries nothing.
        for number, blame in ((41, Blame.SIZE), (42, Blame.PROCESS), (43, Blame.PROCESS)):
            with pytest.raises(RemoteError) as failed:
                work(ChunkRange((number - 1,), (number,)))
            assert failed.value.blame == blame, number
        assert work(ChunkRange((43,), (ROWS,))).tally.written == ROWS - 44
        with pytest.raises(StopBatch, match="enough"):
            work(ChunkRange((30,), (40,)))
    assert sqlite.rows("SELECT count(*) FROM out WHERE id BETWEEN 31 AND 43") == [(0,)]


@pytest.mark.parametrize("workers", WORKERS)
def test_an_async_record_that_takes_too_long_is_a_letter(workers, job, sqlite):
    async def function(record):
        if record["id"] == 7:
            await asyncio.sleep(600)
        while record["id"] == 8:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(600)
        return record

    def timed(process):
        return job(process, record_timeout=0.2)

    with working(timed, function, workers) as work:
        letters = letters_of(work(ChunkRange(None, (ROWS,))))
    assert {key: letter["stage"] for key, letter in letters.items()} == {7: "timeout", 8: "timeout"}
    assert sqlite.rows("SELECT count(*) FROM out") == [(ROWS - 2,)]


def test_a_record_that_takes_too_long_is_a_letter(job, sqlite):
    def each(number):
        while number == 7:
            pass

    with working(job, of_form("record", each), "processes", timeout=0.3) as work:
        letters = letters_of(work(ChunkRange(None, (ROWS,))))
    assert {key: letter["stage"] for key, letter in letters.items()} == {7: "timeout"}
    assert sqlite.rows("SELECT count(*) FROM out") == [(ROWS - 1,)]


@pytest.mark.parametrize("form", ["frame", "table"])
def test_too_little_memory_for_many_records_may_suffice_for_each(form, job):
    seen = []

    def each(number):
        seen.append(number)
        if len(seen) > 5:
            seen.clear()
            raise MemoryError

    def function(batch):
        seen.clear()
        return of_form(form, each)(batch)

    function.__annotations__ = {"batch": pa.Table if form == "table" else None}
    with working(job, processor(vectorized=True)(function), "threads") as work:
        assert work(ChunkRange(None, (ROWS,))).tally.written == ROWS


@pytest.mark.parametrize("named", [None, 7, [True], ["x"], [-1], range(99), [{}], object, [0.5, None]], ids=repr)
@pytest.mark.parametrize("form", ["frame", "table"])
def test_bad_records_that_names_nothing_costs_the_record_that_it_was_raised_for(form, named, job):
    def each(number):
        if number == 7:
            raise BadRecords(named, named)

    with working(job, of_form(form, each), "threads") as work:
        result = work(ChunkRange(None, (ROWS,)))
    assert set(letters_of(result)) == {7}


@pytest.mark.parametrize("left", ["a task", "a callback"])
def test_what_a_function_left_running_ends_nobodys_program(left, job, sqlite):
    async def leave(record):
        async def end():
            sys.exit(3)

        if record["id"] == 7:
            loop = asyncio.get_running_loop()
            loop.left = loop.create_task(end()) if left == "a task" else loop.call_soon(sys.exit, 3)
        await asyncio.sleep(0.01)
        return record

    with working(job, leave, "threads") as work, pytest.raises(RemoteError, match="SystemExit: 3"):
        work(ChunkRange(None, (ROWS,)))
    assert sqlite.rows("SELECT count(*) FROM out") == [(0,)]


def test_a_real_interrupt_of_the_main_thread_is_no_error_of_a_record(job, sqlite):
    def each(number):
        if number == 7:
            raise KeyboardInterrupt  # As the handler of Ctrl-C does, in the main thread.

    function = of_form("record", each)
    with pytest.raises(KeyboardInterrupt):
        work_chunk(job(function), ChunkRange(None, (ROWS,)))
    forget(job(function).run_id)
    assert sqlite.rows("SELECT count(*) FROM out") == [(0,)]
