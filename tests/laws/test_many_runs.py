"""A process that calls many runs keeps nothing of them. The long form is benchmarks/many_runs.py."""

import gc
import sys
import weakref
from collections import Counter

import pytest

from prefect_batch import Table, process_records
from prefect_batch.flows.run.memory import quiet_heap

CONTAINERS = (dict, list, set, weakref.WeakKeyDictionary)


def ours() -> Counter:
    """The objects of our classes that are alive, and how much the containers of our modules hold."""
    gc.collect()
    kinds = (type(one) for one in gc.get_objects())
    found = Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if _is_ours(kind))
    for module in [module for name, module in sys.modules.items() if name.startswith("prefect_batch.")]:
        for name, value in vars(module).items():
            if isinstance(value, CONTAINERS) and not name.startswith("__"):
                found[f"{module.__name__}.{name}"] = len(value)
    return found


def _is_ours(kind) -> bool:
    return str(getattr(kind, "__module__", "")).startswith("prefect_batch")


@pytest.mark.parametrize("failing", [False, True], ids=["complete", "failed"])
def test_nothing_of_ours_stays(failing, sqlite, server, tmp_path):
    sqlite.run("CREATE TABLE a (id INTEGER PRIMARY KEY)", *(f"INSERT INTO a VALUES ({n})" for n in range(40)))

    def clean(row):
        if failing:
            raise ValueError(row["id"])
        return row

    def run() -> None:
        source, sink = Table(sqlite.url, "a", key="id"), Table(sqlite.url, "b", key="id", create=True)
        options = {"chunk_size": 20, "dead_letters": str(tmp_path), "restart": True, "redact": None}
        process_records("many-runs", source, clean, sink, return_state=True, max_failures=0, **options)

    for _ in range(2):
        run()
    before = ours()
    for _ in range(3):
        run()
    assert ours() - before == Counter()


class Garbage:
    """Refers to itself, so that only the collector can remove it."""

    def __init__(self) -> None:
        self.me = self


def test_a_run_makes_no_young_garbage_old():
    gc.collect()
    left = weakref.ref(Garbage())
    with quiet_heap():
        assert left() is None


def test_what_is_alive_stays_out_of_collections_in_a_run():
    kept = Garbage()
    with quiet_heap():
        assert not any(one is kept for one in gc.get_objects())
    assert any(one is kept for one in gc.get_objects())
