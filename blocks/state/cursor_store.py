"""The cursor of a job as a Prefect block, readable from outside."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.exceptions import ObjectNotFound
from pydantic import Field

from prefect_batch.blocks.errors import UnknownJob
from prefect_batch.blocks.jobs import check_job, main_job
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.cursor import SCHEMA_VERSION, Cursor
from prefect_batch.blocks.state.statuses import STATUSES

_BLOCK_TYPE = "batch-job-cursor"


class JobCursor(Block):
    """The progress of a job, written by its runs, one at a time. Read it with ``status("<job>")``.

    Example:
        ```python
        from prefect_batch.blocks.state.cursor_store import JobCursor

        cursor = JobCursor.load("clean-orders")
        ```
    """

    _block_type_name = "Batch Job Cursor"
    _block_type_slug = _BLOCK_TYPE
    _documentation_url = None

    # A PATCH merges keys, and Prefect loads old documents as they are: fields may be added, never retyped.
    schema_version: int = Field(default=SCHEMA_VERSION, description="The version of this document's form.")
    job: str = Field(default="", description="The job's name.")
    pass_number: int = Field(default=0, description="The pass, numbered from 1.")
    pass_id: str = Field(default="", description="A random name of the pass, part of every cache key.")
    mode: str = Field(default="full", description="Full or incremental.")
    status: str = Field(default="", description=f"{', '.join(STATUSES[:-1])} or {STATUSES[-1]}.".capitalize())
    message: str = Field(default="", description="Why the job is in this status.")
    definition: dict[str, Any] = Field(default_factory=dict, description="Source, key, processor and sink.")
    position: dict[str, Any] = Field(default_factory=dict, description="The finished prefix and the planned chunks.")
    estimate: int = Field(default=0, description="Estimated number of records of the pass.")
    dead_letters: str = Field(default="", description="The directory of the dead-letter files.")
    tally: dict[str, Any] = Field(default_factory=dict, description="Counts of the pass.")
    run: dict[str, Any] = Field(default_factory=dict, description="The latest run: its id, times, counts and errors.")
    updated_at: str = Field(default="", description="When this was saved, in UTC.")
    history: list[Any] = Field(default_factory=list, description="The former runs, at most 50.")


class CursorStore:
    """The cursor of one job in the Prefect API."""

    def __init__(self, job: str) -> None:
        self.job = job
        self._id: UUID | None = None

    def load(self) -> Cursor | None:
        """Return the saved cursor.

        Returns:
            None if the job never ran.

        Raises:
            BadCursor: it cannot be read.
            httpx.HTTPError: the Prefect API did not answer, which proves nothing about the cursor.
        """
        fields = self._read()
        return None if fields is None else Cursor.decode({**fields, "job": self.job})

    def save(self, cursor: Cursor) -> Cursor:
        """Save the cursor.

        Returns:
            What was saved, with its time.
        """
        cursor = replace(cursor, updated_at=datetime.now(UTC).isoformat())
        fields = cursor.encode()
        if self._id is None and self._read() is None:
            # `Block.save` also registers the block's type, which every other save can do without.
            self._id = UUID(str(JobCursor(**fields).save(self.job, overwrite=True, _sync=True)))  # type: ignore[call-arg]
            return cursor
        assert self._id is not None
        update = BlockDocumentUpdate(data=fields, merge_existing_data=False)
        document = self._id
        call_api(lambda client: client.update_block_document(document, update))
        return cursor

    def delete(self) -> bool:
        """Delete the cursor.

        Returns:
            Whether there was one.
        """
        if self._read() is None or self._id is None:
            return False
        document = self._id
        call_api(lambda client: client.delete_block_document(document))
        self._id = None
        return True

    def _read(self) -> dict[str, Any] | None:
        try:
            document = call_api(lambda client: client.read_block_document_by_name(self.job, _BLOCK_TYPE))
        except ObjectNotFound:
            return None
        self._id = document.id
        return document.data


def load_all() -> list[dict[str, Any]]:
    """Return the fields of every job's cursor, sorted by the job's name."""
    documents = call_api(lambda client: client.read_block_documents_by_type(_BLOCK_TYPE))
    return [{**document.data, "job": document.name} for document in sorted(documents, key=lambda d: str(d.name))]


def load_cursor(job: str) -> Cursor:
    """Return the job's cursor.

    Raises:
        UnknownJob: the job never ran here.
        BadCursor: its cursor cannot be read.
    """
    check_job(main_job(job))  # Its replays have a cursor, too.
    cursor = CursorStore(job).load()
    if cursor is None:
        raise UnknownJob(job)
    return cursor
