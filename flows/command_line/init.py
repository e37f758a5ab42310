"""The command ``init``, which makes the files of a new job."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

from cyclopts import Parameter

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.flows.command_line.output import say
from prefect_batch.flows.scaffold.examples import Kind

if TYPE_CHECKING:
    from prefect_batch.flows.scaffold.new_job import NewJob

_WHAT = {
    "job.yaml": "what is read, by which function, and where the results go",
    "functions.py": "the function",
    "test_functions.py": "its test, for pytest",
    "prefect.yaml": "a deployment of the job",
    ".env.example": "where passwords and the Prefect API are named",
}


def init(
    directory: Path = Path(),
    *,
    from_: Annotated[Kind | None, Parameter(name="--from")] = None,
    to: Kind | None = None,
    source: str | None = None,
    table: str | None = None,
    key: str | None = None,
    job: str | None = None,
) -> None:
    """Make a new job: its parameters, a function with a test, and a deployment. Then prefect-batch run job.yaml works.

    Without --source the job reads a small example, which is made beside it.

    Parameters
    ----------
    directory:
        Where the files are made.
    from_:
        What the job reads: table, csv, jsonl or parquet.
    to:
        What it writes: table, csv, jsonl or parquet.
    source:
        What to read: for a table an SQLAlchemy URL without a password, secret/NAME or env/NAME; else a path.
    table:
        The table to read.
    key:
        The column that orders the table, if it is not its primary key; for files, the one that results are known by.
    job:
        The job's name.
    """
    from prefect_batch.flows.scaffold.new_job import write_job

    if source is None and (table or key):
        raise BadParameter("say where that is: --source CONNECTION, or --source PATH")
    from_ = from_ or ("table" if table else _ask("What does the job read"))
    to = to or _ask("What does it write")
    made = write_job(_job(from_, to, source, table, key, job, directory), directory)
    say(f"made in {directory.resolve()}:")
    for path in made:
        say(f"  {path.name:<18} {_WHAT[path.name]}")
    here = "" if directory.resolve() == Path.cwd() else f"cd {directory}; "
    say(f"\nnext:\n  {here}prefect-batch plan job.yaml   what a run would do\n  {here}prefect-batch run job.yaml")


def _ask(question: str) -> Kind:
    """Return what a person chooses. Where nobody can be asked it is a table."""
    if not sys.stdin.isatty():
        return "table"
    kinds = get_args(Kind)
    answer = input(f"{question} ({', '.join(kinds)})? [table] ").strip().lower() or "table"
    for kind in kinds:
        if answer == kind:
            return kind  # type: ignore[no-any-return]
    raise BadParameter(f"{answer!r} is none of {', '.join(kinds)}: choose one of them")


def _job(
    from_: Kind, to: Kind, source: str | None, table: str | None, key: str | None, job: str | None, directory: Path
) -> "NewJob":
    from prefect_batch.flows.scaffold.new_job import example_job, job_on_files, job_on_table

    if source is None:
        return example_job(from_, to, job)
    if from_ != "table":
        path = source if "://" in source or source.startswith("/") else str(Path(source).resolve())
        return job_on_files(path, from_, key, to, job)
    if table is None:
        raise BadParameter("name the table to read: --table NAME")
    return job_on_table(_reachable(source, directory), table, key, to, job)


def _reachable(connection: str, directory: Path) -> str:
    """Return the connection as it is from the directory: a database in a file is named by its full path."""
    from prefect_batch.blocks.credentials import check_url, parse_url
    from prefect_batch.blocks.databases.connections import file_of

    check_url(connection)
    if "://" not in connection or directory.resolve() == Path.cwd() or not (file := file_of(connection)):
        return connection
    return parse_url(connection).set(database=str(file.resolve())).render_as_string()
