"""The cursor of a job as a Prefect block: the truth about what is finished, readable from outside."""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.exceptions import ObjectNotFound
from pydantic import Field

from prefect_batch.blocks.contracts import PassRef
from prefect_batch.blocks.errors import BadCursor, BadParameter
from prefect_batch.blocks.letters.ids import of_replay
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.past_runs import PastRun, decode_history
from prefect_batch.blocks.state.position import Position
from prefect_batch.blocks.state.samples import Series
from prefect_batch.blocks.values import ErrorCount, Tally

__all__ = ["Cursor", "CursorStore", "JobCursor", "RunState", "check_job"]

SCHEMA_VERSION = 1
_BLOCK_TYPE = "batch-job-cursor"
_JOB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

Status = Literal["running", "stopped", "failed", "complete", "reset"]


def check_job(job: str) -> str:
    """The job's name, when it can be a block's name and a directory's.

    Raises:
        BadParameter: it has other characters, or more than 60.
    """
    if not _JOB.fullmatch(job) or len(job) > 60:
        raise BadParameter(
            f"job={job!r} must be at most 60 lowercase letters, digits and single dashes, such as 'clean-orders'"
        )
    return job


class JobCursor(Block):
    """Where a job stands. Written by its runs, one at a time; read it with ``status("<job>")``.

    Example:
        ```python
        from prefect_batch.blocks.state.cursor import JobCursor

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
    status: str = Field(default="", description="Running, stopped, failed, complete or reset.")
    message: str = Field(default="", description="Why the job is in this status.")
    definition: dict[str, Any] = Field(default_factory=dict, description="Source, key, processor and sink.")
    position: dict[str, Any] = Field(default_factory=dict, description="The finished prefix and the planned chunks.")
    estimate: int = Field(default=0, description="Estimated number of records of the pass.")
    dead_letters: str = Field(default="", description="The directory of the dead-letter files.")
    tally: dict[str, Any] = Field(default_factory=dict, description="Counts of the pass.")
    run: dict[str, Any] = Field(default_factory=dict, description="The latest run: its id, times, counts and errors.")
    updated_at: str = Field(default="", description="When this was saved, in UTC.")
    history: list[Any] = Field(default_factory=list, description="The former runs, at most 50.")


@dataclass(frozen=True)
class RunState:
    """The latest run of a job: counts of this run alone, and the most frequent errors.

    `policy` holds the failure limits, so that a hook in another process can judge the run again. `series` is how the
    run went over time, and `waiting` why no further chunk is started just now; empty when nothing holds it back.
    `redact` names the columns that must not be seen. `limits` are the `concurrency` and the `max_rate` of just now.
    """

    run_id: str
    started_at: str
    tally: Tally = Tally()
    errors: tuple[ErrorCount, ...] = ()
    rate: float | None = None
    finished_at: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    series: Series = field(default_factory=Series)
    waiting: str = ""
    redact: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        """The state as JSON."""
        return {
            **vars(self),
            "tally": self.tally.encode(),
            "errors": [vars(error) for error in self.errors],
            "series": self.series.encode(),
        }

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "RunState":
        """The state that `encode` wrote."""
        errors = tuple(ErrorCount(**error) for error in encoded["errors"])
        redact = tuple(encoded.get("redact", ()))
        series = Series.decode(encoded["series"]) if "series" in encoded else Series()
        return cls(
            **{**encoded, "tally": Tally.decode(encoded["tally"]), "errors": errors, "series": series, "redact": redact}
        )


@dataclass(frozen=True)
class Cursor:
    """A job's saved state: its definition, the pass it is on, where that stands, and its latest run."""

    job: str
    pass_number: int
    pass_id: str
    mode: Literal["full", "incremental"]
    definition: dict[str, Any]
    position: Position
    estimate: int
    dead_letters: str
    run: RunState
    tally: Tally = Tally()
    status: Status = "running"
    message: str = ""
    updated_at: str = ""
    history: tuple[PastRun, ...] = ()

    @property
    def pass_ref(self) -> PassRef:
        """The pass that it is on."""
        return PassRef(
            self.job, self.pass_number, self.pass_id, adds=self.position.start is not None or of_replay(self.job)
        )

    def encode(self) -> dict[str, Any]:
        """The fields of `JobCursor`."""
        return {
            **vars(self),
            "schema_version": SCHEMA_VERSION,
            "position": self.position.encode(),
            "tally": self.tally.encode(),
            "run": self.run.encode(),
            "history": [list(past) for past in self.history],
        }

    @classmethod
    def decode(cls, fields: dict[str, Any]) -> "Cursor":
        """The cursor in the fields of a `JobCursor`.

        Raises:
            BadCursor: another version wrote it, or it was edited to nonsense.
        """
        job, version = fields.get("job"), fields.get("schema_version")
        way_out = f"to give it up and start a new pass: prefect-batch reset {job}"
        if version != SCHEMA_VERSION:
            raise BadCursor(
                f"the cursor of {job} has version {version}, and this prefect-batch reads version {SCHEMA_VERSION}: "
                f"use the version that wrote it, or, {way_out}"
            )
        try:
            decoded = {
                **{name: fields[name] for name in cls.__dataclass_fields__ if name != "history"},
                "position": Position.decode(fields["position"]),
                "tally": Tally.decode(fields["tally"]),
                "run": RunState.decode(fields["run"]),
                "history": decode_history(fields.get("history")),
            }
            _ = fields["pass_number"] + 1, fields["pass_id"][0]  # A pass has both.
            return cls(**decoded)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise BadCursor(f"the cursor of {job} cannot be read ({error!r}); {way_out}") from error


class CursorStore:
    """The cursor of one job in the Prefect API."""

    def __init__(self, job: str) -> None:
        self.job = job
        self._id: UUID | None = None

    def load(self) -> Cursor | None:
        """The saved cursor, or None if the job never ran.

        Raises:
            BadCursor: it cannot be read.
            httpx.HTTPError: the Prefect API did not answer; this proves nothing about the cursor.
        """
        fields = self._read()
        return None if fields is None else Cursor.decode({**fields, "job": self.job})

    def save(self, cursor: Cursor) -> Cursor:
        """Save the cursor; the result is what was saved, with its time."""
        cursor = replace(cursor, updated_at=datetime.now(timezone.utc).isoformat())
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
        """Delete the cursor; whether there was one."""
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
    """The fields of every job's cursor, by the job's name."""
    documents = call_api(lambda client: client.read_block_documents_by_type(_BLOCK_TYPE))
    return [{**document.data, "job": document.name} for document in sorted(documents, key=lambda d: str(d.name))]
