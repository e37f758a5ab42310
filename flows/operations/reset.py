"""Resetting a job, so that its next run starts a new pass."""

from uuid import uuid4

from prefect_batch.blocks.errors import BadCursor, UnknownJob
from prefect_batch.blocks.jobs import check_job
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.blocks.state.ownership import own_job
from prefect_batch.tasks.run_chunk import forget_cache


def reset_job(job: str) -> None:
    """Make the job's next run start a new pass. A cursor that cannot be read is deleted.

    Raises:
        UnknownJob: The job never ran against this Prefect API.
        JobIsOwned: The job is running.
    """
    store = CursorStore(check_job(job))
    with own_job(job, str(uuid4()), attempt=1):
        try:
            cursor = store.load()
        except BadCursor:
            store.delete()
            return
        if cursor is None:
            raise UnknownJob(job)
        forget_cache(job, cursor.pass_number, cursor.pass_id)
        # Kept, and not deleted: the next pass takes the next number, and leaves this one's dead letters alone.
        store.save(cursor.become("reset", "reset by hand"))
