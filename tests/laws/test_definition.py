"""The definition is the whole definition: what is bound to a function belongs to it, and its body does not."""

import dataclasses
import functools
import json
import re
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_batch import Table, process_records
from prefect_batch.blocks.errors import BadProcessor, DefinitionChanged
from prefect_batch.blocks.processor import processor, resolve_processor
from prefect_batch.flows.replay_dead_letters import replay_dead_letters
from prefect_batch.tasks.plan.begin import define, differences
from prefect_batch.tasks.plan.bound import bound_to

ENDS = Table("sqlite:///a.db", "a", key="id"), Table("sqlite:///a.db", "b", key="id")
SECRET = "sk-live-7f3a9c"


def definition(function, job="clean-orders", key=b"key"):
    return define(*ENDS, resolve_processor(function).name, bound_to(function, job, lambda: key))


def clean(row, *others, tenant=1, rate=1.0, **more):
    return {**row, "tenant": tenant}


def second(row, tenant=1):
    return {**row, "tenant": tenant}


class Cleaner:
    """Has an argument under its own name, one under another, and state."""

    def __init__(self, tenant, _scale=2):
        self.tenant = tenant
        self.factor = _scale * 2
        self.lock = threading.Lock()
        self.count = 0
        self.seen = {}

    def __call__(self, row):
        self.count += 1
        self.seen[row["id"]] = True
        return {**row, "tenant": self.tenant}

    method = __call__


@dataclasses.dataclass
class Settings:
    """A callable that is a dataclass, and has no hash."""

    tenant: object
    rate: float = 1.0

    def __call__(self, row):
        return row


class Slotted:
    __slots__ = ("_tenant",)

    def __init__(self, tenant):
        self._tenant = tenant

    def __call__(self, row):
        return row


class Family:
    @classmethod
    def clean(cls, row):
        return row


class Daughter(Family):
    pass


class Son(Family):
    pass


def closure(tenant):
    def inner(row):
        return {**row, "tenant": tenant}

    return inner


def wrapped(tenant):
    inner = closure(tenant)

    @functools.wraps(inner)
    def outer(row):
        return inner(row)

    return outer


FORMS = {
    "a partial": lambda value: functools.partial(clean, tenant=value),
    "a partial by position": lambda value: functools.partial(second, {}, value),
    "a partial of a partial": lambda value: functools.partial(functools.partial(clean, tenant=value), rate=2.0),
    "a partial with more": lambda value: functools.partial(clean, extra=value),
    "a partial of a builtin": lambda value: functools.partial(max, {"id": 1}, key=value),
    "a closure": closure,
    "a decorated closure": wrapped,
    "a lambda with a default": lambda value: lambda row, tenant=value: {**row, "tenant": tenant},
    "a callable object": Cleaner,
    "a callable dataclass": Settings,
    "a callable with slots": Slotted,
    "a bound method": lambda value: Cleaner(value).method,
    "a partial of a bound method": lambda value: functools.partial(Cleaner(value).method),
    "a list of functions": lambda value: functools.partial(clean, tenant=[1, {"a": value}]),
}
NAMES = re.compile(r"process: the (argument|variable) [\w.]*(tenant|extra|key) has another value")

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("form", FORMS)
@given(first=plain, other=plain)
@settings(max_examples=25)
def test_a_value_that_differs_is_named_and_an_equal_one_is_not(form, first, other):
    make = FORMS[form]
    assert differences(definition(make(first)), definition(make(first))) == []
    found = differences(definition(make(first)), definition(make(other)))
    if repr(first) != repr(other):  # 1 and True are equal, and 0.0 and -0.0; neither is the same value.
        assert len(found) == 1
        assert NAMES.fullmatch(found[0])


@pytest.mark.parametrize("form", FORMS)
def test_neither_the_definition_nor_a_difference_shows_the_value(form):
    now = definition(FORMS[form](SECRET))
    shown = json.dumps(now) + "".join(differences(definition(FORMS[form]("other")), now))
    assert SECRET not in shown
    assert now != definition(FORMS[form](SECRET), key=b"another key")
    assert now != definition(FORMS[form](SECRET), job="other-job")


def test_another_function_in_a_partial_is_another_process():
    found = differences(definition(functools.partial(clean, tenant=1)), definition(functools.partial(second, tenant=1)))
    assert found == [f"process: was '{__name__}:clean', is now '{__name__}:second'"]


def test_an_argument_more_or_less_is_named():
    one, both = functools.partial(clean, tenant=1), functools.partial(clean, tenant=1, rate=2)
    assert differences(definition(one), definition(both)) == ["process: the argument rate is new"]
    assert differences(definition(both), definition(one)) == ["process: the argument rate is gone"]


def test_an_argument_means_the_same_by_position_and_by_name():
    assert definition(functools.partial(second, {}, 5)) == definition(functools.partial(second, row={}, tenant=5))


def test_other_objects_are_their_types_and_functions_their_names():
    assert definition(closure(threading.Lock())) == definition(closure(threading.Lock()))
    assert differences(definition(closure(object())), definition(closure(threading.Lock()))) == [
        "process: the variable tenant was object of builtins:object, is now object of _thread:lock"
    ]
    found = differences(definition(closure(clean)), definition(closure(second)))
    assert found == [f"process: the variable tenant was function {__name__}:clean, is now function {__name__}:second"]


def test_a_method_of_another_class_is_another_definition():
    found = differences(definition(Daughter.clean), definition(Son.clean))
    assert found == [f"process: the argument self was {__name__}:Daughter, is now {__name__}:Son"]


def test_a_fixed_body_is_the_same_definition():
    def make(tenant, rate, *, fixed):
        if fixed:
            return lambda row: {**row, "tenant": tenant, "rate": rate}  # It needs one variable more.
        return lambda row: {**row, "tenant": str(tenant)}

    assert differences(definition(make(1, 2, fixed=False)), definition(make(1, 2, fixed=True))) == []
    assert differences(definition(make(1, 2, fixed=True)), definition(make(1, 3, fixed=False))) == []
    assert differences(definition(make(1, 2, fixed=False)), definition(make(3, 2, fixed=True))) != []


def test_the_defaults_of_a_named_function_are_its_code():
    assert definition(clean)["variables"] == definition(clean)["arguments"] == {}


def test_what_a_function_changes_itself_is_state():
    counted = 0

    def count(row):
        nonlocal counted
        counted += 1
        return row

    cache = {}

    def keep(row):
        return cache.setdefault(row["id"], row)

    cleaner = Cleaner(1)
    for function in (count, keep, cleaner, cleaner.method):
        before = definition(function)
        function({"id": counted})
        assert differences(before, definition(function)) == []
    cleaner.tenant = 2
    assert differences(before, definition(cleaner.method)) == ["process: the argument self.tenant has another value"]


def test_a_function_that_refers_to_itself_ends():
    def recursive(row):
        return recursive(row) if row else row

    loop = []
    loop.append(loop)
    assert differences(definition(recursive), definition(recursive)) == []
    assert definition(functools.partial(clean, tenant=loop))["arguments"]["tenant"]


def test_a_large_container_is_data_and_takes_no_time():
    table = dict.fromkeys(range(1_000_000))
    began = time.process_time()
    assert definition(closure(table))["variables"] == {"tenant": "object of builtins:dict"}
    assert time.process_time() - began < 1


def test_another_process_gives_the_same_hashes():
    code = """
import functools, json, sys
from prefect_batch.tasks.plan.bound import bound_to
from datetime import datetime
from pathlib import PurePosixPath
given = functools.partial(print, {"b", "a", "c"}, sep={"x": 1, "y": datetime(2024, 1, 1)}, end=PurePosixPath("a"))
print(json.dumps(bound_to(given, "job", lambda: b"key")))
sys.exit("prefect" in sys.modules)
"""
    seeds = ("1", "2")
    runs = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True)
        for seed in seeds
    ]
    assert [run.stderr for run in runs] == ["", ""]
    here = functools.partial(print, {"c", "a", "b"}, sep={"y": datetime(2024, 1, 1), "x": 1}, end=PurePosixPath("a"))
    assert [json.loads(run.stdout) for run in runs] == [bound_to(here, "job", lambda: b"key")] * 2


@pytest.mark.parametrize("form", FORMS)
def test_a_cursor_of_an_earlier_version_resumes(form):
    now = definition(FORMS[form](1))
    before = {name: value for name, value in now.items() if name not in ("arguments", "variables")}
    if "partial" in form or "functions" in form:
        before["process"] = "functools:partial"
    assert differences(before, now) == []


def test_a_changed_argument_is_refused_in_the_middle_of_a_pass(sqlite, server, tmp_path):
    sqlite.run("CREATE TABLE a (id INTEGER PRIMARY KEY)", *(f"INSERT INTO a VALUES ({n})" for n in range(1, 41)))

    def run(function, **options):
        source, sink = Table(sqlite.url, "a", key="id"), Table(sqlite.url, "b", key="id", create=True)
        options = {"chunk_size": 10, "dead_letters": str(tmp_path), **options}
        return process_records("whole-definition", source, function, sink, **options)

    run(functools.partial(clean, tenant=SECRET), limit=10)
    for other in (functools.partial(clean, tenant="b"), functools.partial(second, tenant=SECRET), clean):
        with pytest.raises(DefinitionChanged) as refused:
            run(other)
        assert SECRET not in str(refused.value)
    assert "process: the argument tenant is gone" in str(refused.value)
    assert run(functools.partial(clean, tenant=SECRET)).status == "complete"
    assert sqlite.rows("SELECT count(*), count(DISTINCT tenant) FROM b") == [(40, 1)]


@processor
def fails(row, tenant):
    raise ValueError(tenant)


def test_a_replay_does_not_find_a_function_without_its_arguments(sqlite, server, tmp_path):
    sqlite.run("CREATE TABLE a (id INTEGER PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    source, sink = Table(sqlite.url, "a", key="id"), Table(sqlite.url, "b", key="id", create=True)
    options = {"dead_letters": str(tmp_path), "max_failure_rate": 1.0, "circuit_breaker": None}
    process_records("replay-of-partial", source, functools.partial(fails, tenant=1), sink, **options)
    with pytest.raises(BadProcessor, match="tenant"):
        replay_dead_letters("replay-of-partial")
    assert replay_dead_letters("replay-of-partial", functools.partial(clean, tenant=1)).run.written == 1
