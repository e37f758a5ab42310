"""The names of jobs, of their replays, and of their passes."""

import re
from dataclasses import dataclass

from prefect_batch.blocks.errors import BadParameter

_REPLAY = "--replay"


def replay_job(job: str) -> str:
    """Return the name under which a job's replays keep their cursor, their cache and their chunks in the ledger.

    No job can have this name, because a job's name has single dashes only.
    """
    return job + _REPLAY


def main_job(name: str) -> str:
    """Return the job whose replays have this name, or the name itself if it is a job's."""
    return name.removesuffix(_REPLAY)


def of_replay(name: str) -> bool:
    """Return whether this is the name of a job's replays."""
    return name.endswith(_REPLAY)


def pass_title(name: str, number: int) -> str:
    """Return the name of a pass or a replay for messages: ``clean-orders: pass 1``."""
    return f"{main_job(name)}: {'replay' if of_replay(name) else 'pass'} {number}"


@dataclass(frozen=True)
class PassRef:
    """A pass of a job.

    Attributes:
        number: The pass, counted from 1.
        id: Its random name.
        adds: Whether it begins where the previous pass ended, so that its records are added to those of that pass.
    """

    job: str
    number: int
    id: str
    adds: bool = False


_JOB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check_job(job: str) -> str:
    """Return the job's name if it can be the name of a block and of a directory.

    Raises:
        BadParameter: it has other characters, or more than 60.
    """
    if not _JOB.fullmatch(job) or len(job) > 60:
        raise BadParameter(
            f"job={job!r} must be at most 60 lowercase letters, digits and single dashes, such as 'clean-orders'"
        )
    return job
