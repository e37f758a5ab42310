"""The shape of the package: layers, exports, and what an import costs."""

import ast
import contextlib
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import prefect_batch

ROOT = Path(prefect_batch.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAYERS = ("blocks", "tasks", "flows", "deployments")
# The errors are one tree in one module, by whose name saved letters know them.
MOST_LINES = {"blocks.errors": 520}
MODULES = sorted(file for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))


def name_of(file):
    """The name of the module in `file`, below the package: ``tasks.plan.begin``."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def nodes_of(file):
    text = file.read_text()
    for _ in range(3):
        # Python 3.11.7 sometimes cannot, while another thread of these tests prints a stack (python/cpython#106905).
        with contextlib.suppress(SystemError):
            return list(ast.walk(ast.parse(text)))
    return list(ast.walk(ast.parse(text)))


def imported(file):
    for node in nodes_of(file):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_imports_go_down_only(file):
    allowed = LAYERS[: LAYERS.index(file.relative_to(ROOT).parts[0]) + 1]
    for module in imported(file):
        if module and module.startswith("prefect_batch."):
            assert module.split(".")[1] in allowed, f"{file} imports {module}"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_files_and_functions_are_small(file):
    assert len(file.read_text().splitlines()) <= MOST_LINES.get(name_of(file), 400)
    for node in nodes_of(file):
        if isinstance(node, ast.FunctionDef):
            documented = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
            first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 40, f"{file}: {node.name}"


def test_the_exports_are_sorted_and_exist():
    assert prefect_batch.__all__ == sorted(prefect_batch.__all__)
    for name in prefect_batch.__all__:
        assert getattr(prefect_batch, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = prefect_batch.nothing


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_each_modules_exports_are_sorted_and_exist(file):
    if file.stem == "__main__":
        return
    module = importlib.import_module(f"prefect_batch.{name_of(file)}")
    exported = getattr(module, "__all__", [])
    assert sorted(exported) == sorted(set(exported))
    assert all(hasattr(module, name) for name in exported)


@pytest.mark.parametrize("name", ["processor", "Table", "SkipRecord", "BatchError"])
def test_a_module_with_processors_does_not_import_prefect(name):
    code = f"import sys; from prefect_batch import {name}; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Values and pure functions, which a worker process, a unit test or a user's script imports at once.
LIGHT = (
    "blocks.batches",
    "blocks.chunks",
    "blocks.errors",
    "blocks.jobs",
    "blocks.key_sum",
    "blocks.keys",
    "blocks.parameters.failure_policy",
    "blocks.state.position",
    "tasks.plan.planner",
)


def test_values_and_pure_functions_import_no_heavy_library():
    code = f"""
import importlib, sys
for name in {LIGHT}:
    importlib.import_module("prefect_batch." + name)
    for heavy in ("prefect", "sqlalchemy", "pandas"):
        if heavy in sys.modules:
            sys.exit(f"prefect_batch.{{name}} imports {{heavy}}")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_every_error_is_in_the_tree_at_the_modules_head():
    from prefect_batch.blocks import errors

    for name in errors.__all__:
        if name != "RecordError":
            assert name in errors.__doc__, name


def test_the_collection_is_registered_with_prefect():
    module = importlib.import_module(PROJECT["project"]["entry-points"]["prefect.collections"]["prefect_batch"])
    assert module.JobCursor is prefect_batch.JobCursor


def test_every_package_is_listed():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    packages = [f"prefect_batch.{name_of(file)}" for file in MODULES if file.stem == "__init__"]
    assert listed[0] == "prefect_batch"
    assert sorted(listed[1:]) == sorted(packages)


def paths_in(text):
    """Each path of this repository that a text names: a folder and what is in it, or a document."""
    return set(
        re.findall(r"(?<![\w/.])(?:(?:blocks|tasks|flows|testing|tests|docs)/[\w./-]*|\w+\.md|pyproject\.toml)", text)
    )


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "__init__.py"])
def test_each_place_that_is_named_to_newcomers_is_there(name):
    text = (ROOT / name).read_text() if name.endswith(".md") else prefect_batch.__doc__
    named = paths_in(text)
    assert len(named) >= 20
    assert {path for path in named if not (ROOT / path.rstrip(".")).exists()} == set()


def test_each_room_is_on_the_page_of_help():
    assert len(prefect_batch.__doc__.splitlines()) <= 60
    rooms = {file.parent.relative_to(ROOT).as_posix() for file in MODULES if file.stem == "__init__"}
    inner = {room for room in rooms if room.count("/") == 1} - {"flows/demo", "blocks/stores"}
    assert inner <= paths_in(prefect_batch.__doc__)


def test_the_page_of_help_names_all_that_can_be_imported():
    from prefect_batch.blocks import errors

    named = set(re.findall(r"\w+", prefect_batch.__doc__))
    assert set(prefect_batch.__all__) - set(errors.__all__) <= named
