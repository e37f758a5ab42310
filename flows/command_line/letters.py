"""The commands for dead letters: ``failures``, ``replay``, ``discard`` and ``purge``."""

import itertools
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.flows.command_line import output as printing
from prefect_batch.flows.command_line.output import AsJson, Ending, Yes, print_found, say

SHOWN = 20


@Parameter(name="*")
@dataclass(kw_only=True)
class Which:
    """Which letters.

    Parameters
    ----------
    group:
        Those of this group, as `failures` numbers them.
    error_type:
        Those with this type of error, with or without its module.
    message:
        Those with this text in their message.
    key:
        Those of the record with this key; give it several times for several.
    since:
        Those of records that failed then or later; UTC if no zone is given.
    until:
        Those of records that failed before; UTC if no zone is given.
    where:
        Those for which this SQL condition holds: error_type = 'ValueError' AND record.qty < 0.
    pass_number:
        Those of this pass; the latest if it is left out.
    """

    group: int | None = None
    error_type: str | None = None
    message: str | None = None
    key: Annotated[list[str] | None, Parameter(negative=())] = None
    since: datetime | None = None
    until: datetime | None = None
    where: str | None = None
    pass_number: Annotated[int | None, Parameter(name="--pass")] = None


def _arguments(job: str, which: Which) -> dict[str, Any]:
    """Return the selection as arguments, with a group's type of error and message in place of the group."""
    from prefect_batch.flows.operations.failures import group_number, look

    found = {name: value for name, value in vars(which).items() if name != "group"}
    if which.group is not None:
        if which.error_type or which.message:
            raise BadParameter("--group stands for a type of error and a message: leave --error-type and --message out")
        group = group_number(look(job, which.pass_number), which.group)
        found |= {"error_type": group.error_type, "message": group.message}
    return found


def failures(
    job: str,
    *,
    group: int | None = None,
    pass_number: Annotated[int | None, Parameter(name="--pass")] = None,
    status: Literal["open", "resolved", "discarded", "all"] = "open",
    export: Literal["csv", "parquet"] | None = None,
    output: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Show what failed in a job, grouped by cause.

    Parameters
    ----------
    job:
        The job's name.
    group:
        Show the records of this group.
    pass_number:
        The pass; the latest if it is left out.
    status:
        Which letters to show.
    export:
        Write the letters to a file of this format, with all their columns.
    output:
        The file to write; <job>-failures.csv or .parquet if it is left out.
    as_json:
        Print JSON instead of text.
    """
    from prefect_batch.flows.operations.failures import group_number, group_tables, look

    printing.announce_server()
    found = look(job, pass_number, status=None if status == "all" else status)
    chosen = None if group is None else group_number(found, group)
    if export is not None:
        file = output or Path(f"{job}-failures.{export}")
        say(f"{_export(group_tables(found, chosen), export, file):,} letters written to {file}")
    elif chosen is None:
        print_found(found, as_json=as_json)
    else:
        _print_letters(group_tables(found, chosen), as_json=as_json)


def _print_letters(tables: Iterable[Any], *, as_json: bool) -> None:
    import json

    letters = (letter for table in tables for letter in table.to_pylist())
    if as_json:
        printing.say_array({**letter, "key": json.loads(letter["key"])} for letter in letters)
        return
    for letter in itertools.islice(letters, SHOWN):
        say(f"{letter['id']}  key {letter['key']}  attempts {letter['attempts']}  {letter['status']}")
        say(f"  {letter['error_type']}: {letter['error_message']}")
        say(f"  {letter['record_json']}")
    if more := sum(1 for _ in letters):
        say(f"and {more:,} more: --json prints all of them, --export csv or parquet writes them to a file")


def _export(tables: Iterable[Any], kind: str, file: Path) -> int:
    """Write the letters to the file, readable by this user only, and return how many there are."""
    found = iter(tables)
    first = next(found, None)
    if first is None:
        raise BadParameter("there are no such letters, so nothing was written")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
        write = _write_parquet if kind == "parquet" else _write_csv
        return write(itertools.chain([first], found), opened)


def _write_parquet(tables: Iterable[Any], file: Any) -> int:
    import pyarrow.parquet as pq

    rows, writer = 0, None
    for table in tables:
        writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
        rows += table.num_rows
    if writer is not None:
        writer.close()
    return rows


def _write_csv(tables: Iterable[Any], file: Any) -> int:
    from prefect_batch.blocks.kinds.frames import to_frame

    rows = 0
    for table in tables:
        plain = table.drop_columns(["record", "redacted"])
        record = table.schema.field("record").type
        for field, column in zip(record, table["record"].combine_chunks().flatten(), strict=True):
            plain = plain.append_column(f"record.{field.name}", column)
        to_frame(plain).to_csv(file, index=False, header=not rows)
        rows += table.num_rows
    return rows


def replay(
    job: str,
    which: Which | None = None,
    *,
    process: str | None = None,
    records_from: Annotated[Literal["letter", "source"] | None, Parameter(name="--from")] = None,
    limit: int | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    restart: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> Ending:
    """Run a job's function over its dead letters again. What succeeds is resolved.

    Parameters
    ----------
    job:
        The job's name.
    process:
        The function: package.module:function, marked with @processor; the job's own if it is left out.
    records_from:
        Take the records as they failed, or read them from the source again.
    limit:
        Stop after about this many letters.
    dry_run:
        Process and report, but write and resolve nothing.
    restart:
        Abandon the interrupted replay and select letters again.
    as_json:
        Print the report as JSON.
    """
    from prefect_batch.flows.replay_dead_letters import replay_dead_letters

    printing.announce_server()
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # The job's function may be in a module here.
    arguments = _arguments(job, which or Which())
    arguments |= {"process": process, "from_": records_from, "limit": limit, "dry_run": dry_run, "restart": restart}
    return printing.print_outcome(replay_dead_letters(job, **arguments, return_state=True), as_json=as_json)


def discard(
    job: str,
    which: Which | None = None,
    *,
    reason: str,
    by: str | None = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Discard dead letters: they are kept with your reason, and no longer replayed.

    Parameters
    ----------
    job:
        The job's name.
    reason:
        Why.
    by:
        Who; the user of this machine if it is left out.
    yes:
        Do not ask.
    as_json:
        Print JSON instead of text.
    """
    from prefect_batch.flows.operations.decisions import count_open, discard_dead_letters

    printing.announce_server()
    arguments = _arguments(job, which or Which())
    if not yes:
        printing.confirm(f"Discard {count_open(job, **arguments):,} open letters of {job}?")
    count = discard_dead_letters(job, reason=reason, by=by, **arguments)
    done = printing.Done(f"{count:,} letters of {job} were discarded", {"job": job, "discarded": count})
    print_found(done, as_json=as_json)


def purge(job: str, *, older_than: timedelta, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove letters that were resolved long ago. Open and discarded ones stay.

    Parameters
    ----------
    job:
        The job's name.
    older_than:
        How long ago they were resolved, at least: 30d, or 12h.
    yes:
        Do not ask.
    as_json:
        Print JSON instead of text.
    """
    from prefect_batch.flows.operations.decisions import purge_dead_letters

    printing.announce_server()
    if not yes:
        printing.confirm(f"Remove the letters of {job} that were resolved more than {older_than} ago?")
    count = purge_dead_letters(job, older_than=older_than)
    sentence = f"{count:,} resolved letters of {job} were removed"
    print_found(printing.Done(sentence, {"job": job, "removed": count}), as_json=as_json)
