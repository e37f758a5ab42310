"""The commands for the state of a job: ``status``, ``history`` and ``reset``."""

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prefect_batch.blocks.errors import BadCursor
from prefect_batch.flows.command_line.output import (
    AsJson,
    Done,
    Ending,
    Yes,
    announce_server,
    confirm,
    print_found,
    say,
)

if TYPE_CHECKING:
    from prefect_batch.flows.operations.status import JobStatus

WATCH_SECONDS = 2.0
# Home, and clear the screen: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html (CUP, ED).
CLEAR = "\x1b[H\x1b[2J"


def status(
    job: str | None = None, *, watch: Annotated[bool, Parameter(negative=())] = False, as_json: AsJson = False
) -> Ending:
    """Show the status of a job, or of all jobs.

    Parameters
    ----------
    job:
        The job's name; all jobs if it is left out.
    watch:
        Update it until no run is active; with --json, one document in a line for each change.
    as_json:
        Print JSON: one object for a job, a list for all.
    """
    from prefect_batch.flows.operations.status import status as status_of
    from prefect_batch.flows.operations.status import status_of_all

    announce_server()

    def look() -> "list[JobStatus]":
        return [status_of(job)] if job else status_of_all()

    if watch:
        return _watch(look, as_json=as_json)
    found = look()
    print_found(found[0] if job else found, as_json=as_json, nothing="no job has run against this Prefect API")
    return Ending.DONE


def _watch(look: Callable[[], "list[JobStatus]"], *, as_json: bool) -> Ending:
    """Show each change until no run is active: in place on a terminal, one after the other elsewhere.

    Returns:
        The exit code: whether a run has died.
    """
    in_place = sys.stdout.isatty() and not as_json
    shown = ""
    while True:
        found = look()
        text = json.dumps([one.encode() for one in found]) if as_json else "\n\n".join(map(str, found))
        if text != shown:
            say(f"{CLEAR if in_place else ''}{text}")
            shown = text
        if not any(one.status == "running" for one in found):
            return Ending.STOPPED if any(one.status == "died" for one in found) else Ending.DONE
        time.sleep(WATCH_SECONDS)


def history(job: str, *, as_json: AsJson = False) -> None:
    """Show the latest runs of a job, at most 50, with their counts and durations.

    Parameters
    ----------
    job:
        The job's name.
    """
    from prefect_batch.flows.operations.status import history as history_of

    announce_server()
    print_found(history_of(job), as_json=as_json)


def reset(job: str, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Reset a job: its next run starts a new pass from the beginning.

    What it has written stays, and so do its dead letters.

    Parameters
    ----------
    job:
        The job's name.
    yes:
        Do not ask.
    """
    from prefect_batch.flows.operations.reset import reset_job
    from prefect_batch.flows.operations.status import status as status_of

    announce_server()
    if not yes:
        try:
            say(str(status_of(job)))
        except BadCursor as error:
            say(str(error))
        confirm(f"\nForget where {job} stands, and start from the beginning next time?")
    reset_job(job)
    print_found(Done(f"{job} will start a new pass when it runs next", {"job": job, "reset": True}), as_json=as_json)
