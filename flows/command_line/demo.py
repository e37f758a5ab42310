"""The command ``prefect-batch demo``."""

from pathlib import Path


def demo(*, directory: Path = Path("prefect-batch-demo")) -> None:
    """Process the flights of New York 2013, kill the run, resume it, compare, replay and reconcile.

    Parameters
    ----------
    directory:
        Where the database, the dead letters and the demo's own Prefect server keep their files.
    """
    from prefect_batch.flows.demo.run_demo import run_demo

    run_demo(directory)
