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
LAYERS = ("blocks", "tasks", "flows", "deployments", "testing")
# The rooms in the order of their imports: a row may import itself and the rows above it.
ROOMS = (
    {
        "blocks.passwords": "Passwords in URLs, hidden from every text.",
        "blocks.error_facts": "Errors that carry facts as attributes, and survive pickling and copying.",
        "blocks.errors": "Every error of the package, in one tree.",
        "blocks.suggestions": "What may have been meant by a name that does not exist.",
        "blocks.prefect_api": "Calls to the Prefect API, made again while it does not answer.",
        "blocks.stores": "A directory, local or in an object store, in which a file appears whole or not at all.",
    },
    {"blocks.kinds": "The one table of kinds of values: in Arrow, in Python, as text and in JSON."},
    {
        "blocks.credentials": "Connections as a person names them, and the secrets behind them.",
        "blocks.keys": "Keys: tuples of values that can be saved exactly.",
        "blocks.jobs": "The names of jobs, of their replays, and of their passes.",
        "blocks.processor": "The mark of a function that may process records, and what it may raise.",
    },
    {
        "blocks.key_sum": "A sum over keys, by which two sets of them are compared.",
        "blocks.batches": "The records that are in memory at once.",
        "blocks.file_list": "The files that a pass reads, and ranges over them.",
    },
    {
        "blocks.chunks": "Ranges of the key, the counts of the work on them, and its result.",
        "blocks.dead_letter": "A failed record, whole, with its error.",
    },
    {
        "blocks.contracts": "What a source and a sink must do.",
        "blocks.capabilities": "What an end may do besides.",
        "blocks.parameters": "What a person writes: frozen values that check themselves and open nothing.",
        "blocks.state": "Where a job stands, kept in Prefect.",
    },
    {
        "blocks.databases": "Tables and queries of SQL databases; what one does its own way is in its folder.",
        "blocks.files": "Files as sources and as sinks.",
        "blocks.letters": "Dead letters: buried, read, decided on, replayed, purged.",
    },
    {
        "blocks.blame": "What is to blame for an error: one record, an end, this process, or a passing cause.",
        "blocks.health": "The numbers that health checks look at.",
        "blocks.opening": "Which parameter opens as which source or sink.",
    },
    {"tasks.error_text": "Errors as text: stacks, and messages without their values."},
    {
        "tasks.work": "The work on one chunk.",
        "tasks.letters": "Which dead letters are meant, and why they failed.",
        "tasks.plan": "Which pass, and which chunks come next.",
        "tasks.reconcile": "Whether source = sink + filtered + letters.",
        "tasks.report": "What a run did, as text, page and picture.",
    },
    {"tasks.workers": "Worker processes below the Prefect tasks."},
    {"tasks.run_chunk": "The Prefect task of one chunk, and its cache key."},
    {
        "flows.reporting": "Artifacts, events, alerts and hooks.",
        "flows.server": "Prefect's server on SQLite, without its pauses.",
    },
    {"flows.run": "One run of a job, from its checks to its end."},
    {
        "flows.process_records": "The flow that processes records.",
        "flows.operations": "What a person asks of a job from outside.",
    },
    {
        "flows.replay_dead_letters": "The flow that replays dead letters.",
        "flows.reconcile": "The flow that reconciles a job.",
    },
    {
        "flows.demo": "What `make demo` runs.",
        "flows.scaffold": "The files of a new job.",
    },
    {
        "flows.command_line": "The commands of `prefect-batch`.",
        "flows.__main__": "The command line as a module.",
    },
    {"deployments": "The calendar: deployments to start from."},
    {"testing": "The kit for tests: it may import everything, and nothing imports it."},
)
ROWS = {room: number for number, row in enumerate(ROOMS) for room in row}
# These know nothing of each other.
APART = {"blocks.databases", "blocks.files", "blocks.letters"}
# The errors are one tree in one module, by whose name saved letters know them.
MOST_LINES = {"blocks.errors": 700}
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


def room_of(name):
    """The room of a module: ``blocks.databases`` for ``blocks.databases.sqlite.write``."""
    parts = name.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in ROWS), None)


def rooms_imported(file):
    """The modules of ours that `file` imports: lazily and for types only, too."""
    names = {name_of(module) for module in MODULES}
    for node in nodes_of(file):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prefect_batch"):
            module = node.module.removeprefix("prefect_batch").removeprefix(".")
            inner = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name for name in inner if name in names)
            if any(name not in names for name in inner):
                yield module
        elif isinstance(node, ast.Import):
            yield from (
                a.name.removeprefix("prefect_batch.") for a in node.names if a.name.startswith("prefect_batch.")
            )


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_imports_go_down_only(file):
    if name_of(file) in LAYERS:
        return  # Only a docstring: no room.
    mine = room_of(name_of(file))
    assert mine is not None, f"{file} is in no room: add it to ROOMS, with a sentence on what it is for"
    for module in rooms_imported(file):
        if not module and ROWS[mine] >= ROWS["flows.demo"]:
            continue  # The package as a user imports it.
        theirs = room_of(module)
        assert theirs is not None, f"{name_of(file)} imports {module or 'prefect_batch'}, which is in no room"
        beside = ROWS[theirs] == ROWS[mine] and mine not in APART
        assert theirs == mine or beside or ROWS[theirs] < ROWS[mine], f"{name_of(file)} imports {module}"


def test_no_module_imports_itself_by_way_of_others():
    arrows = {name_of(file): set(rooms_imported(file)) - {name_of(file)} for file in MODULES}
    while leaves := [name for name, imports in arrows.items() if not imports & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"these import each other in a circle, or import a circle: {sorted(arrows)}"


def test_every_room_exists_and_says_what_it_is_for():
    for room, sentence in (pair for row in ROOMS for pair in row.items()):
        place = ROOT / room.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").is_file(), room
        assert sentence[0].isupper(), room
        assert sentence.endswith("."), room


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
def test_what_begins_with_an_underscore_stays_in_its_module(file):
    for node in nodes_of(file):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("prefect_batch"):
            assert not [alias.name for alias in node.names if alias.name.startswith("_")], node.module


@pytest.mark.parametrize("name", ["prefect_batch.blocks.errors", "prefect_batch.testing"])
def test_the_exports_of_these_are_sorted_and_exist(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, exported) for exported in module.__all__)


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


def test_the_kit_for_tests_needs_neither_pytest_nor_prefect():
    code = "import sys; import prefect_batch.testing; sys.exit(not {'pytest', 'prefect'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
