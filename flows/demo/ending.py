"""The end of the demo: the failed flights go through a fixed function, and nothing is lost."""

from typing import TYPE_CHECKING, cast

from prefect_batch.blocks.errors import BatchError

if TYPE_CHECKING:
    from prefect_batch.tasks.reconcile.reconciliation import Reconciliation


def replay_and_reconcile(job: str) -> None:
    """Replay the job's dead letters with the fixed function, and compare source and sink.

    Raises:
        BatchError: a record is neither in the sink nor accounted for.
    """
    from prefect_batch.flows.reconcile import reconcile
    from prefect_batch.flows.replay_dead_letters import replay_dead_letters

    print("5. The function is mended, and the dead letters are replayed with it.\n", flush=True)  # noqa: T201
    report = replay_dead_letters(job, process="prefect_batch.flows.demo.flights:minutes_gained_if_arrived")
    print(f"\n{report}\n", flush=True)  # noqa: T201 - a program's output
    print("6. Source and sink compared, key by key.\n", flush=True)  # noqa: T201
    found = cast("Reconciliation", reconcile(job))
    print(f"\n   {found}\n", flush=True)  # noqa: T201
    if found.status != "agrees" or found.open:
        raise BatchError(f"{job} does not agree with its source")
