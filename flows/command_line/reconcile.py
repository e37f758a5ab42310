"""The command that compares source and sink: ``reconcile``."""

from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from prefect_batch.flows.command_line.output import AsJson, Ending, announce_server, print_found

if TYPE_CHECKING:
    from prefect_batch.tasks.reconcile.reconciliation import Reconciliation


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
