"""What one database does its own way stands in its folder: nobody else asks which database it is."""

import ast
import re
from pathlib import Path

import pytest

import prefect_batch

ROOT = Path(prefect_batch.__file__).parent
DATABASES = ROOT / "blocks" / "databases"
ROOMS = sorted(folder for folder in DATABASES.iterdir() if (folder / "dialect.py").exists())
MODULES = sorted(
    file
    for layer in ("blocks", "tasks", "flows", "deployments")
    for file in (ROOT / layer).rglob("*.py")
    if file.parent not in ROOMS and file != DATABASES / "known_dialects.py"
)
# A name of a database or driver, alone or as a URL begins with it.
NAME = re.compile(r"(sqlite3?|postgres(ql)?|mysql|mariadb|psycopg2?|pymysql|pysqlite|MySQLdb)(\+\w+)?(:/{0,3})?")
ASKED = {"drivername", "get_backend_name", "get_driver_name"}
DRIVERS = ("sqlite3", "psycopg", "psycopg2", "pymysql", "MySQLdb", "sqlalchemy.dialects")
EXCUSED = {
    "flows/demo/flights.py": "the demo makes a SQLite file of its own",
    "flows/demo/run_demo.py": "the demo makes a SQLite file of its own",
    "flows/demo/files.py": "the demo looks into the SQLite file that it made",
    "flows/scaffold/examples.py": "the example of a table is a SQLite file",
    "tasks/letters/condition.py": "a condition on letters is worked out by SQLite, whatever the ends of the job are",
}


def suspects(text):
    """The places in a module where it asks which database it is, or knows one by name."""
    tree = ast.parse(text)
    # A message may name the database.
    values = [value for value in ast.walk(tree) if isinstance(value, ast.FormattedValue)]
    said = {id(node) for value in values for node in ast.walk(value)}
    return [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(tree)
        if id(node) not in said and (asks(node) or is_name(node) or any(map(is_of_room, imports_of(node))))
    ]


def asks(node):
    if not isinstance(node, ast.Attribute):
        return False
    of_dialect = node.attr in ("name", "driver") and ast.unparse(node.value).endswith("dialect")
    return of_dialect or node.attr in ASKED


def is_name(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(NAME.fullmatch(node.value))


def imports_of(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def is_of_room(module):
    rooms = (f"prefect_batch.blocks.databases.{room.name}" for room in ROOMS)
    return any(f"{module}.".startswith(f"{name}.") for name in (*DRIVERS, *rooms))


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_else_knows_a_database_by_its_name(file):
    found = suspects(file.read_text())
    if str(file.relative_to(ROOT)) in EXCUSED:
        assert found, "it needs no excuse any more"
    else:
        assert not found


@pytest.mark.parametrize(
    "text",
    [
        "if engine.dialect.name == 'x': pass",
        "dialect = source.engine.dialect.name",
        "driver = connection.dialect.driver",
        "{'postgresql': 1}",
        "x in ('mysql', 'mariadb')",
        "match x:\n    case 'sqlite': pass",
        "url.startswith('sqlite:')",
        "url.startswith('postgresql+psycopg://')",
        "url.get_backend_name()",
        "url.drivername",
        "kind['pymysql']",
        "import sqlite3",
        "from psycopg import errors",
        "from sqlalchemy.dialects import mysql",
        "from prefect_batch.blocks.databases.sqlite.values import reader",
    ],
)
def test_such_a_place_is_seen(text):
    assert suspects(text)


@pytest.mark.parametrize(
    "text",
    ["f'the {engine.dialect.name} database'", "'in SQLite: RAISE(ABORT, …)'", "'sqlite:///shop.db'", "self.name"],
)
def test_a_message_may_name_a_database(text):
    assert not suspects(text)


def test_each_database_has_its_room():
    assert {"mysql", "postgresql", "sqlite"} <= {room.name for room in ROOMS}
