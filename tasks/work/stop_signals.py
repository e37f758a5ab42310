"""Signals to the chunks of a run in this process: begin no further chunk, or roll back the running ones."""

from prefect_batch.blocks.errors import RunStopped

ROLLED_BACK = "the run was told to stop at once; this chunk was rolled back"
NOT_BEGUN = "the run is about to stop; this chunk was not begun"

_abandoned: set[str] = set()
_refusing: set[str] = set()


def abandon(run_id: str) -> None:
    """Make the chunks of this run in this process roll back at their next batch."""
    _abandoned.add(run_id)


def refuse(run_id: str) -> None:
    """Begin no chunk of this run in this process any more, nor any chunk's next attempt."""
    _refusing.add(run_id)


def is_abandoned(run_id: str) -> bool:
    """Return whether the run's chunks have to roll back."""
    return run_id in _abandoned


def check_abandoned(run_id: str) -> None:
    """Raise RunStopped if the run has to stop at once, so that the chunk is rolled back."""
    if run_id in _abandoned:
        raise RunStopped(ROLLED_BACK)


def check_refusing(run_id: str) -> None:
    """Raise RunStopped if the run is stopping, so that the chunk is not begun."""
    if run_id in _refusing:
        raise RunStopped(NOT_BEGUN)


def forget_signals(run_id: str) -> None:
    """Forget the signals of a run that has ended."""
    _abandoned.discard(run_id)
    _refusing.discard(run_id)
