"""The statuses of a job: what each means, and which change of one to another is allowed, and why. Pure."""

from collections.abc import Mapping
from typing import Literal, get_args

Status = Literal["running", "stopped", "failed", "complete", "reset"]
# How a run ended. The last one is never saved, but seen: the cursor says running, and no run is active.
PastStatus = Literal["running", "stopped", "failed", "complete", "reset", "died"]

STATUSES: tuple[Status, ...] = get_args(Status)

# Also of a run that died, and of a dry run, which saves no status.
MEANINGS: Mapping[str, str] = {
    "running": "A run is at work on the pass.",
    "stopped": "The run stopped before the end of its pass. What it did is saved.",
    "failed": "The run failed before the end of its pass. What it did before is saved.",
    "complete": "The pass is complete: every record is written, filtered, or kept as a dead letter.",
    "reset": "The pass was given up by hand. The next run starts a new one.",
    "died": "The run ended without saving how, as one that was killed. The next run resumes the pass.",
    "dry run": "A dry run: nothing was written, and nothing saved.",
}

_RESUMED = "the next run resumes the pass, or begins a new one with restart=True"
_RESET = "a person resets the job"
_REOPENED = "reconcile makes ranges of the pass unfinished again"

# None: the job has no cursor yet.
CHANGES: Mapping[Status | None, Mapping[Status, str]] = {
    None: {"running": "the first run begins pass 1"},
    "running": {
        "running": "the run died, and the next one resumes the pass",
        "stopped": "the run is asked to stop, is interrupted, or reaches its limit",
        "failed": "too many records fail, or a chunk, the sink or a disk does",
        "complete": "all chunks are finished, and no more records failed than may",
        "reset": "the run died, and a person resets the job",
    },
    "stopped": {"running": _RESUMED, "stopped": _REOPENED, "reset": _RESET},
    "failed": {"running": _RESUMED, "stopped": _REOPENED, "reset": _RESET},
    "complete": {"running": "the next run begins the next pass", "stopped": _REOPENED, "reset": _RESET},
    "reset": {"running": "the next run begins a new pass", "stopped": _REOPENED, "reset": _RESET},
}


def check_change(before: Status | None, after: Status) -> None:
    """Raise unless a job may change from the one status to the other.

    Raises:
        ValueError: it may not.
    """
    if after not in CHANGES[before]:
        allowed = ", ".join(CHANGES[before])
        raise ValueError(f"a job cannot change from {before or 'no status'} to {after}, only to {allowed}")


def as_markdown() -> str:
    """Return the table of the statuses and the diagram of their changes, for the documentation."""
    lines = ["| status | meaning |", "| --- | --- |"]
    lines += [f"| {status} | {meaning} |" for status, meaning in MEANINGS.items()]
    lines += ["", "```"]
    for before, changes in CHANGES.items():
        for n, (after, reason) in enumerate(changes.items()):
            start = (before or "(none)") if n == 0 else ""
            branch = "───" if len(changes) == 1 else "─┬─" if n == 0 else " └─" if n == len(changes) - 1 else " ├─"
            lines.append(f"{start:<9}{branch}▶ {after:<9} {reason}")
    return "\n".join([*lines, "```"])
