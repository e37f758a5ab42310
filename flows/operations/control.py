"""Requests to a running job, from outside: to stop, or to continue with other limits."""

import getpass
import os
import socket
from dataclasses import dataclass
from typing import Any

from prefect_batch.blocks.errors import BadParameter, NotAtWork
from prefect_batch.blocks.jobs import check_job
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.blocks.state.ownership import Owner, living_owner
from prefect_batch.blocks.state.requests import RunRequest, changes_text, send_request

# A slip of the finger must not start thousands of processes.
MOST_CONCURRENCY = 256
_TUNED = ("concurrency", "max_rate", "max_failure_rate", "max_failures")


@dataclass(frozen=True)
class Acknowledged:
    """What a run was asked to do. It does so within a few seconds."""

    job: str
    run_id: str
    what: str

    def encode(self) -> dict[str, Any]:
        """Return the same as JSON."""
        return dict(vars(self))

    def __str__(self) -> str:
        return f"{self.job}: flow run {self.run_id} was asked to {self.what}"


def stop(job: str, *, now: bool = False) -> Acknowledged:
    """Ask the run that works on this job to stop: after its chunks in flight, or now, rolling them back.

    The next run resumes where it stopped.

    Raises:
        NotAtWork: The job is not running.
    """
    owner = _owner(job)
    send_request(job, RunRequest(owner.token, _who(), "now" if now else "drain"))
    return Acknowledged(job, owner.run_id, "stop at once" if now else "stop after the chunks at work")


def tune(job: str, **changes: Any) -> Acknowledged:
    """Change the limits of the running job until this run ends. The next run has its own limits again.

    Args:
        job: The job's name.
        changes: `concurrency`, `max_rate`, `max_failure_rate` or `max_failures`; None for no limit, where there is one.

    Raises:
        NotAtWork: The job is not running.
        BadParameter: There is no such limit, or not with this value.
    """
    changes = {name: _checked(name, value) for name, value in changes.items()}
    if not changes:
        raise BadParameter(f"say what to change: {', '.join(_TUNED)}")
    owner = _owner(job)
    send_request(job, RunRequest(owner.token, _who(), changes=changes))
    return Acknowledged(job, owner.run_id, f"go on with {changes_text(changes)}")


def is_at_work(job: str) -> bool:
    """Return whether a living run of this job is active."""
    return living_owner(check_job(job)) is not None


def _checked(name: str, value: Any) -> float | None:
    """Return the value of this limit if it is allowed.

    Raises:
        BadParameter: it may not, or there is no such limit.
    """
    if name not in _TUNED:
        raise BadParameter(f"{name} cannot be changed while a job runs, only {', '.join(_TUNED)}")
    if value is None and name in ("max_rate", "max_failures"):
        return None
    whole = name in ("concurrency", "max_failures")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or (whole and value != int(value)):
        raise BadParameter(f"{name}={value} must be a {'whole ' if whole else ''}number")
    if name == "concurrency" and not 1 <= value <= MOST_CONCURRENCY:
        raise BadParameter(f"concurrency={value} must be from 1 to {MOST_CONCURRENCY}")
    if name == "max_rate" and not 0 < value < float("inf"):
        raise BadParameter(f"max_rate={value} must be more than 0 records per second, or none")
    if name == "max_failure_rate":
        FailurePolicy(max_failure_rate=value)
    if name == "max_failures":
        FailurePolicy(max_failures=int(value))
    return int(value) if whole else float(value)


def _owner(job: str) -> Owner:
    owner = living_owner(check_job(job))
    if owner is None:
        raise NotAtWork(job)
    return owner


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container may run under a number without a name.
        user = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{user} on {socket.gethostname()}"
