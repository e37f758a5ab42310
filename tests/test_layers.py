"""The shape of the package: layers, exports, and what an import costs."""

import ast
import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import prefect_batch

ROOT = Path(prefect_batch.__file__).parent
# The kit for tests may import everything, and nothing imports it.
LAYERS = ("blocks", "tasks", "flows", "deployments", "testing")
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
    assert len(file.read_text().splitlines()) <= 400
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


def test_the_kit_for_tests_needs_neither_pytest_nor_prefect():
    code = "import sys; import prefect_batch.testing; sys.exit(not {'pytest', 'prefect'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_error_is_in_the_tree_at_the_modules_head():
    from prefect_batch.blocks import errors

    for name in errors.__all__:
        if name != "RecordError":
            assert name in errors.__doc__, name


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_collection_is_registered_with_prefect():
    project = importlib.import_module("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    module = importlib.import_module(project["entry-points"]["prefect.collections"]["prefect_batch"])
    assert module.JobCursor is prefect_batch.JobCursor


def test_every_package_is_listed():
    if sys.version_info < (3, 11):
        return
    listed = importlib.import_module("tomllib").loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    packages = [f"prefect_batch.{name_of(file)}" for file in MODULES if file.stem == "__init__"]
    assert listed[0] == "prefect_batch"
    assert sorted(listed[1:]) == sorted(packages)
