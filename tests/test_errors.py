"""The errors: one tree, facts as attributes, and every one of them the same after each journey that errors make."""

import ast
import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import cloudpickle
import pytest
from prefect import flow, task

import prefect_batch
from prefect_batch import process_records
from prefect_batch.blocks import errors
from prefect_batch.blocks.chunks import ChunkRange, ErrorCount, Tally
from prefect_batch.blocks.error_facts import Blame, ErrorCountFacts, PolicyFacts, RangeFacts, TallyFacts
from prefect_batch.blocks.errors import (
    BatchError,
    ChunkFailed,
    DiskNearlyFull,
    FailureRateExceeded,
    RemoteError,
    SinkRefuses,
)
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.tasks.run_chunk import run_chunk
from prefect_batch.tasks.workers.messages import WorkOrder
from prefect_batch.tasks.workers.worker import _remote

ROOT = Path(prefect_batch.__file__).parent
ERRORS = sorted(
    (kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)),
    key=lambda kind: kind.__name__,
)
SECRET = "hunter2"
RANGE = ChunkRange((1,), (9,))
# A value for each type of fact; an error with a fact of another type needs one here.
FACTS: dict[Any, Any] = {
    str: "a text",
    int: 3,
    float: 1.5,
    bool: True,
    Blame: Blame.SIZE,
    str | None: "another text",
    int | None: 4,
    tuple[str, ...]: ("one", "two"),
    RangeFacts: RANGE,
    TallyFacts: Tally(read=3, written=1, failed=2),
    PolicyFacts: FailurePolicy(max_failures=1),
    tuple[ErrorCountFacts, ...]: (ErrorCount("ValueError", 2, "7", "too much"),),
}


def made(kind: type, facts: dict = FACTS, *, all_facts: bool = True) -> Exception:
    """An error of this kind, with all its facts, or with those only that it must have."""
    if kind is errors.BadRecords:
        return kind([True, False], ["a text"])
    if not is_dataclass(kind):
        return kind(facts[str])
    types = get_type_hints(kind)
    asked = [field for field in fields(kind) if all_facts or field.default is MISSING]
    return kind(**{field.name: facts[types[field.name]] for field in asked})


def each() -> list:
    some = [made(kind) for kind in ERRORS]
    return some + [made(kind, all_facts=False) for kind in ERRORS if is_dataclass(kind)]


def assert_same(after: BaseException, before: BaseException) -> None:
    assert type(after) is type(before)
    assert (str(after), after.args, vars(after)) == (str(before), before.args, vars(before))


EACH = pytest.mark.parametrize("error", each(), ids=lambda error: type(error).__name__)


def test_all_errors_are_of_one_tree_in_one_module():
    for module in pkgutil.walk_packages(prefect_batch.__path__, "prefect_batch."):
        if module.name.split(".")[1] in ("blocks", "tasks", "flows") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    pending, found = [BatchError], set()
    while pending:
        found.add(kind := pending.pop())
        pending += kind.__subclasses__()
    assert {kind for kind in found if kind.__module__ != errors.__name__} == set()
    assert {kind.__name__ for kind in ERRORS} == set(errors.__all__)


@EACH
@pytest.mark.parametrize(
    "travel",
    [
        lambda error: pickle.loads(pickle.dumps(error)),
        lambda error: pickle.loads(cloudpickle.dumps(error)),
        copy.copy,
        copy.deepcopy,
    ],
    ids=["pickle", "cloudpickle", "copy", "deepcopy"],
)
def test_an_error_is_the_same_afterwards(error, travel):
    assert_same(travel(error), error)


def test_what_was_noted_on_an_error_goes_with_it():
    error = made(DiskNearlyFull)
    error.notes = ["seen at night"]
    assert pickle.loads(pickle.dumps(error)).notes == ["seen at night"]


@EACH
def test_it_passes_the_connection_between_a_run_and_its_workers(error):
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        ours.send(WorkOrder(RANGE, 100, {7: error}, hold_refused=True))
        assert_same(theirs.recv().doomed[7], error)
        theirs.send(_remote(error))
        told = ours.recv()
    assert isinstance(told, (RemoteError, SinkRefuses, errors.LostOwnership, errors.StopBatch))
    assert str(error) in str(told)


@pytest.mark.usefixtures("server")
def test_it_is_the_result_of_the_task_that_failed_with_it():
    failing = [made(kind) for kind in ERRORS]

    @task(persist_result=True, result_serializer=run_chunk.result_serializer)
    def fail(place: int) -> None:
        raise failing[place]

    @flow
    def fail_all() -> list:
        futures = [fail.submit(place) for place in range(len(failing))]
        return [(future.result(raise_on_failure=False), future.state) for future in futures]

    for (after, state), before in zip(fail_all(), failing, strict=True):
        assert_same(after, before)
        # As from a worker of Dask or Ray.
        assert_same(pickle.loads(cloudpickle.dumps(state)).result(raise_on_failure=False), before)


@EACH
def test_it_can_be_hashed_and_equals_only_itself(error):
    assert {error: 1}[error] == 1
    assert error != copy.copy(error)


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if issubclass(kind, BatchError)])
def test_it_never_shows_a_password(kind):
    url = f"postgresql://me:{SECRET}@host/shop?password={SECRET}"
    error = made(kind, {**FACTS, str: url, str | None: url, tuple[str, ...]: (url, url)})
    assert SECRET.encode() not in pickle.dumps(error)
    assert SECRET not in f"{error} {error!r} {error.args} {vars(error)}"


@pytest.mark.usefixtures("server")
def test_the_facts_of_a_run_that_failed_too_often(sqlite, tmp_path, job):
    def fail(record: dict) -> dict:
        raise ValueError(f"no price for {record['id']}")

    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1), (2), (3)")
    table = prefect_batch.Table(sqlite.url, "t", key="id")
    with pytest.raises(FailureRateExceeded) as raised:
        process_records(
            job=job, source=table, process=fail, sink=table, dead_letters=str(tmp_path), max_failure_rate=0.5
        )
    error = raised.value
    assert (error.job, error.tally.read, error.tally.failed, error.policy.max_failure_rate) == (job, 3, 3, 0.5)
    assert [(found.error_type, found.count) for found in error.top_errors] == [("ValueError", 3)]
    assert Path(error.letters) == tmp_path / job
    assert list(Path(error.letters).rglob("*.parquet"))
    assert_same(pickle.loads(pickle.dumps(error)), error)


@pytest.mark.usefixtures("server")
def test_the_facts_of_a_chunk_that_failed(sqlite, tmp_path, job):
    sqlite.run("CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1), (2), (3)")
    sqlite.run("CREATE TABLE out (id INTEGER PRIMARY KEY)")

    def process(record: dict) -> dict:
        sqlite.run("DROP TABLE IF EXISTS out")
        return record

    with pytest.raises(ChunkFailed) as raised:
        process_records(
            job=job,
            source=prefect_batch.Table(sqlite.url, "t", key="id"),
            process=process,
            sink=prefect_batch.Table(sqlite.url, "out", key="id"),
            dead_letters=str(tmp_path),
            retries=0,
        )
    error = raised.value
    assert (error.job, error.range.after, error.range.upto) == (job, None, (3,))
    assert error.cause.startswith("BadSink: there is no table out")


# Texts of other libraries, which give no other sign.
_ALLOWED = {
    "blocks/blame.py",  # Python, which has no other sign that no thread can be started.
    "flows/command_line/main.py",  # Prefect, which raises a RuntimeError when its API does not answer.
}
_TEXT_METHODS = {"startswith", "endswith", "partition", "rpartition", "find", "index", "split", "removeprefix"}


def _is_text_of_error(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "args"
    named = node.args[0] if isinstance(node, ast.Call) and len(node.args) == 1 else None
    is_text = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "repr")
    return is_text and isinstance(named, (ast.Name, ast.Attribute)) and _names_error(named)


def _names_error(node: ast.Name | ast.Attribute) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr
    return name in ("error", "exc", "cause", "problem", "orig", "__cause__", "__context__")


def _matches(node: ast.AST) -> bool:
    """Whether the text of an error decides something here."""
    if isinstance(node, ast.Compare):
        return any(_is_text_of_error(side) for side in (node.left, *node.comparators))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in _TEXT_METHODS:
            return _is_text_of_error(node.func.value)
        return node.func.attr in ("match", "search", "fullmatch") and any(map(_is_text_of_error, node.args))
    return False


def test_the_text_of_an_error_decides_nothing():
    for folder in ("blocks", "tasks", "flows"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if name in _ALLOWED or (name.startswith("blocks/databases/") and file.name == "errors.py"):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                assert not _matches(node), f"{name}:{node.lineno}"


@pytest.mark.parametrize(
    "line",
    [
        "if 'locked' in str(error): pass",
        "if error.args[0] == 1205: pass",
        "if str(error.__cause__).startswith('no such'): pass",
        "re.search('x', str(exc))",
    ],
)
def test_and_such_a_line_would_be_found(line):
    assert any(map(_matches, ast.walk(ast.parse(line))))
