"""The commands for a job described in a file (``plan``, ``run``, ``doctor``), and ``reconcile`` and ``demo``."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.flows.command_line.output import AsJson, Ending, announce_server, print_found, print_outcome, say

if TYPE_CHECKING:
    from prefect_batch.tasks.reconcile.reconciliation import Reconciliation

Changes = Annotated[
    list[str] | None, Parameter(name=("-p", "--param"), negative=(), help="Another value for a parameter: name=value.")
]


def plan(file: Path, *, param: Changes = None, as_json: AsJson = False) -> None:
    """Show what a run would do: its bounds, its chunks, its SQL, and how the database reads it. Nothing is changed.

    Parameters
    ----------
    file:
        A YAML file with the parameters of process_records.
    """
    announce_server()
    parameters = _read(file, param)
    from prefect_batch.flows.operations.preview import plan_job
    from prefect_batch.flows.run.parameters import Parameters

    print_found(plan_job(Parameters.of(**parameters)), as_json=as_json)


def run(file: Path, *, param: Changes = None, as_json: AsJson = False) -> Ending:
    """Run a job. After an interruption of any kind, the same command resumes it.

    Parameters
    ----------
    file:
        A YAML file with the parameters of process_records.
    """
    announce_server()
    parameters = _read(file, param)
    from prefect_batch.flows.process_records import process_records

    return print_outcome(process_records(**parameters, return_state=True), as_json=as_json)


def doctor(file: Path | None = None, *, as_json: AsJson = False) -> Ending:
    """Examine what a run needs: versions, the Prefect API, workers and, of a job, both ends. Nothing is changed.

    Parameters
    ----------
    file:
        A YAML file with the parameters of process_records.
    """
    from prefect_batch.flows.operations.doctor import examine

    found = []
    for finding in examine(None if file is None else partial(_read, file, None)):
        found.append(finding)
        if not as_json:
            say(str(finding))
    if as_json:
        say(json.dumps([finding.encode() for finding in found], indent=2))
    return Ending.REFUSED if any(finding.verdict == "fault" for finding in found) else Ending.DONE


def reconcile(
    job: str,
    *,
    repair: Annotated[bool, Parameter(negative=())] = False,
    most_keys: int = 20,
    as_json: AsJson = False,
) -> int:
    """Compare the keys in source and sink over what a job's latest pass has read.

    Ends with 0 if all agree, and with 1 if something differs or could not be verified.

    Parameters
    ----------
    job:
        The job's name.
    repair:
        Do the ranges again in which keys are missing.
    most_keys:
        How many missing and surplus keys are named in each range.
    """
    from prefect_batch.flows.reconcile import reconcile as reconcile_job

    announce_server()
    found = cast("Reconciliation", reconcile_job(job, repair=repair, most_keys=most_keys))
    print_found(found, as_json=as_json)
    return Ending.DONE if found.status == "agrees" else Ending.REFUSED


def demo(*, directory: Path = Path("prefect-batch-demo")) -> None:
    """Process the flights of New York 2013, kill the run, resume it, compare, replay and reconcile.

    Parameters
    ----------
    directory:
        Where the database, the dead letters and the demo's own Prefect server keep their files.
    """
    from prefect_batch.flows.demo.run_demo import run_demo

    run_demo(directory)


def _read(file: Path, changes: list[str] | None) -> dict[str, Any]:
    """Return the parameters in the file with these changes. Functions are also found below the current directory."""
    from prefect_batch.flows.command_line.job_file import parse_value, read_job_file

    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    parted = [change.partition("=") for change in changes or ()]
    for name, equals, _ in parted:
        if not equals:
            raise BadParameter(f"-p {name} must look like -p chunk_size=20000")
    return read_job_file(file, {name.strip(): parse_value(value) for name, _, value in parted})
