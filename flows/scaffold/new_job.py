"""Writes a new job: its parameters, its function with a test, and its deployment."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from textwrap import indent
from typing import Any

import pyarrow as pa
import yaml
from sqlalchemy import inspect

from prefect_batch.blocks.credentials import check_url
from prefect_batch.blocks.databases.connections import open_engine
from prefect_batch.blocks.databases.keyed_rows import KeyedRows
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.opening import open_source
from prefect_batch.blocks.parameters.files import Files, Format
from prefect_batch.blocks.parameters.tables import Table
from prefect_batch.flows.scaffold.examples import COLUMNS, EXAMPLES, Kind, example_url, write_example

_TEMPLATES = {
    "job.yaml": "job.yaml",
    "functions.py": "functions.py.txt",
    "test_functions.py": "test_functions.py.txt",
    "prefect.yaml": "prefect.yaml",
    ".env.example": "env.example.txt",
}
# What stands for a value of a column in the test, by the beginning of its Arrow type.
_SAMPLES = {"int": "1", "uint": "1", "float": "1.5", "double": "1.5", "bool": "True", "string": '"text"'}
# The example's function: it filters some orders, and fails for those without a quantity.
_BODY = """\
if record["qty"] == 0:
    return None
return {"id": record["id"], "total": record["qty"] * record["price"]}"""


@dataclass(frozen=True)
class NewJob:
    """What the files of a new job say.

    Attributes:
        source: The parameters of the source.
        sink: Those of the sink.
        columns: The source's columns with their Arrow types.
        example: The kind of the example that is the source, or None if the user has one.
    """

    job: str
    source: dict[str, Any]
    sink: dict[str, Any]
    columns: dict[str, str]
    example: Kind | None


def example_job(kind: Kind, to: Kind, job: str | None = None) -> NewJob:
    """Return a job that reads an example of this kind."""
    place = EXAMPLES[kind]
    if kind == "table":
        source: dict[str, Any] = {"connection": example_url(place), "name": "orders", "key": "id"}
    else:
        source = {"path": place, **({"schema": COLUMNS} if kind == "csv" else {})}
    return NewJob(job or "orders", source, _sink(to, "totals", "id"), COLUMNS, kind)


def job_on_table(connection: str, name: str, key: str | None, to: Kind, job: str | None = None) -> NewJob:
    """Return a job that reads this table by this key, or by its primary key.

    Raises:
        BadParameter: the table has no primary key, and no key is given.
        BadSource: it cannot be read.
    """
    check_url(connection)
    source = open_source(Table(connection, name, key=[key] if key else _primary_key(connection, name)))
    source.check()
    keys = source.key[0] if len(source.key) == 1 else list(source.key)
    found = {"connection": connection, "name": name, "key": keys}
    sink = _sink(to, f"{name}_out", keys, connection)
    return NewJob(job or _job_name(name), found, sink, _types(source.schema), None)


def job_on_files(path: str, kind: Format, key: str | None, to: Kind, job: str | None = None) -> NewJob:
    """Return a job that reads these files.

    Raises:
        BadParameter: the results go into a table, and no key is given.
        BadSource: the files cannot be read.
    """
    if to == "table" and key is None:
        raise BadParameter("name the column by which the results are known in their table: --key COLUMN")
    source = open_source(Files(path, kind))
    source.check()
    columns = _types(source.schema)
    return NewJob(
        job or _job_name(Path(path).stem), {"path": path, "format": kind}, _sink(to, "results", key), columns, None
    )


def write_job(new: NewJob, directory: Path) -> list[Path]:
    """Write the files of the job into the directory, which is made if it is missing.

    Returns:
        The files.

    Raises:
        BadParameter: one of them exists already. Nothing is written then.
    """
    texts = {name: _fill(template, new, directory) for name, template in _TEMPLATES.items()}
    example = EXAMPLES[new.example] if new.example else None
    there = [name for name in (*texts, example) if name and (directory / name).exists()]
    if there:
        raise BadParameter(f"{directory} has {', '.join(there)} already: name another directory")
    directory.mkdir(parents=True, exist_ok=True)
    if new.example and example:
        write_example(new.example, directory / example)
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in texts]


def _fill(template: str, new: NewJob, directory: Path) -> str:
    text = (files(__package__) / "templates" / template).read_text(encoding="utf-8")
    function, body, record, result = _function(new)
    parameters = {"job": new.job, "source": new.source, "process": f"functions:{function}", "sink": new.sink}
    return Template(text).substitute(
        job=new.job,
        source=_yaml({"source": new.source}),
        sink=_yaml({"sink": new.sink}),
        function=function,
        body=indent(body, " " * 4).rstrip(),
        record=record,
        result=result,
        parameters=indent(_yaml(parameters), " " * 6).rstrip(),
        directory=_yaml(str(directory.resolve())).removesuffix("...\n").rstrip(),
    )


def _function(new: NewJob) -> tuple[str, str, str, str]:
    """Return the function's name and body, and for its test a record and what it becomes."""
    if new.example:
        return "total", _BODY, '{"id": 1, "qty": 2, "price": 2.5}', '{"id": 1, "total": 5.0}'
    columns = "\n".join(f"#   {name}: {kind}" for name, kind in new.columns.items())
    record = ", ".join(f'"{name}": {_sample(kind)}' for name, kind in new.columns.items())
    return "transform", f"# The columns of a record:\n{columns}\nreturn record", f"{{{record}}}", "record"


def _sample(kind: str) -> str:
    return next((sample for start, sample in _SAMPLES.items() if kind.startswith(start)), "None")


def _sink(to: Kind, name: str, key: Any, connection: str = example_url("results.db")) -> dict[str, Any]:
    if to == "table":
        return {"connection": connection, "name": name, "key": key, "create": True}
    return {"path": name, "format": to}


def _primary_key(connection: str, name: str) -> list[str]:
    """Return the columns of the table's primary key.

    Raises:
        BadParameter: there is none.
        BadSource: there is no such table.
    """
    columns = ", ".join(column.name for column in KeyedRows(Table(connection, name, key=["any"])).all_columns)
    found = inspect(open_engine(connection)).get_pk_constraint(name)["constrained_columns"]
    if not found:
        raise BadParameter(
            f"table {name} has no primary key: name the column that orders it, --key COLUMN, of {columns}"
        )
    return found


def _types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}


def _job_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "job"


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
