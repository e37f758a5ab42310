"""The commands that talk to a running job: ``stop`` and ``tune``."""

import time
from typing import Annotated

from cyclopts import Parameter

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.flows.command_line.output import AsJson, Ending, announce_server, print_found, say


def stop(
    job: str,
    *,
    now: Annotated[bool, Parameter(negative=())] = False,
    wait: bool = True,
    as_json: AsJson = False,
) -> Ending | None:
    """Stop a running job after its running chunks. Its next run resumes where it stopped.

    Parameters
    ----------
    job:
        The job's name.
    now:
        Roll the running chunks back instead of finishing them.
    wait:
        Return when it has stopped, and show its status; with --no-wait, return at once.
    """
    from prefect_batch.flows.operations.control import is_at_work
    from prefect_batch.flows.operations.control import stop as ask
    from prefect_batch.flows.operations.status import status as status_of

    announce_server()
    asked = ask(job, now=now)
    if not wait:
        print_found(asked, as_json=as_json)
        return None
    if not as_json:
        say(str(asked))
    while is_at_work(job):
        time.sleep(1)
    print_found(status_of(job), as_json=as_json)
    return None


def tune(job: str, *changes: str, as_json: AsJson = False) -> None:
    """Change limits of a running job, until that run ends: ``prefect-batch tune JOB concurrency=8 max_rate=5000``.

    Parameters
    ----------
    job:
        The job's name.
    changes:
        concurrency, max_rate (records per second), max_failure_rate (0 to 1) or max_failures, each with its new value;
        none removes a limit.
    """
    from prefect_batch.flows.operations.control import tune as ask

    announce_server()
    print_found(ask(job, **dict(map(_parsed, changes))), as_json=as_json)


def _parsed(change: str) -> tuple[str, float | None]:
    name, _, value = (part.strip() for part in change.partition("="))
    try:
        return name.replace("-", "_"), None if value.lower() == "none" else float(value)
    except ValueError as error:
        raise BadParameter(f"{change!r} must look like concurrency=8, max_rate=5000 or max_failures=none") from error
