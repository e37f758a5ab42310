"""Every error that prefect-batch raises, in one tree.

BatchError
├── Refused                  the job cannot start as it is asked for; nothing was read or written
│   ├── BadParameter         a parameter is out of its range
│   ├── BadSource            the source cannot be walked: no such table, column, key; NULL keys
│   ├── BadSink              the sink cannot take the records in this write mode
│   ├── BadPlace             dead letters cannot be written there
│   ├── BadProcessor         the processor cannot be imported or is not marked
│   ├── DefinitionChanged    the job was started with another definition
│   ├── JobIsOwned           another run works on this job
│   ├── NotFinished          an interrupted run has to be finished first
│   ├── NotAtWork            nobody works on this job, so that nobody can be asked anything
│   └── BadCursor            the saved cursor cannot be read by this version
├── FailureRateExceeded      too many records failed; the pass can be resumed
├── ChunkFailed              a chunk failed as a whole; the pass can be resumed
├── CircuitOpen              the sink takes nothing any more; nothing was buried, and the pass can be resumed
├── SinkRefuses              the sink took none of a chunk's records; the chunk is held back
├── DiskNearlyFull           a disk that the run fills has too little space left; the pass can be resumed
├── LostOwnership            another run took the job over; this one stopped without saving
├── ChunkIsDone              another run has committed this chunk meanwhile; its result is in the ledger
└── RunStopped               the run was asked to stop; the pass can be resumed
Raised by processors: SkipRecord (filters the record), StopBatch (aborts the run), BadRecords (names bad ones)
Given to letters: RowNotFound, UnknownColumn, DoesNotFit, BadOutput, BadRecord (why one record could not be written),
    RecordTimeout, WorkerDied (why it could not be processed), UnreadableRecord (why it could not be read),
    RecordIsGone, KeyIsShared (why not read again). Between processes: RemoteError
"""

from collections.abc import Sequence
from typing import Any

__all__ = [
    "BadCursor",
    "BadOutput",
    "BadParameter",
    "BadPlace",
    "BadProcessor",
    "BadRecord",
    "BadRecords",
    "BadSink",
    "BadSource",
    "BatchError",
    "ChunkFailed",
    "ChunkIsDone",
    "CircuitOpen",
    "DefinitionChanged",
    "DiskNearlyFull",
    "DoesNotFit",
    "FailureRateExceeded",
    "JobIsOwned",
    "KeyIsShared",
    "LostOwnership",
    "NotAtWork",
    "NotFinished",
    "RecordError",
    "RecordIsGone",
    "RecordTimeout",
    "Refused",
    "RemoteError",
    "RowNotFound",
    "RunStopped",
    "SinkRefuses",
    "SkipRecord",
    "StopBatch",
    "UnknownColumn",
    "UnreadableRecord",
    "WorkerDied",
]


class BatchError(Exception):
    """The root of all errors of prefect-batch."""


class Refused(BatchError):
    """The job cannot start as it is asked for; nothing was read or written."""


class BadParameter(Refused, ValueError):
    """A parameter is out of its range; the message says which values are allowed."""


class BadSource(Refused):
    """The source cannot be walked by this key; the message names the table and the column."""


class BadSink(Refused):
    """The sink cannot take the records in this write mode; the message says what is missing."""


class BadPlace(Refused):
    """Dead letters cannot be written to this place; choose another or mend its permissions."""


class BadProcessor(Refused):
    """The processor cannot be imported, or is not marked with ``@processor``."""


class DefinitionChanged(Refused):
    """The unfinished pass was started with another definition; go back to it, or pass ``restart=True``."""


class JobIsOwned(Refused):
    """Another run works on this job; wait for it, or stop it."""


class NotFinished(Refused):
    """An interrupted run or replay must be finished, or given up, before this can be done."""


class NotAtWork(Refused):
    """Nobody works on this job just now, so there is no run to stop or to tune."""


class BadCursor(Refused):
    """The saved cursor cannot be read; use the version that wrote it, or ``prefect-batch reset``."""


class FailureRateExceeded(BatchError):
    """Too many records failed, so the run stopped; mend the cause and call the job again to resume."""


class ChunkFailed(BatchError):
    """A chunk failed as a whole and was rolled back; mend the cause and call the job again to resume."""


class CircuitOpen(BatchError):
    """The sink took not one record of several chunks in a row; mend it and call the job again to resume.

    `chunks` and `records` are how many it refused.
    """

    def __init__(self, message: str, chunks: int = 0, records: int = 0) -> None:
        super().__init__(message, chunks, records)
        self.chunks, self.records = chunks, records

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


class SinkRefuses(BatchError):
    """The sink took none of a chunk's `records`, and said `error`; the chunk was rolled back, nothing of it buried."""

    def __init__(self, records: int, error: str) -> None:
        super().__init__(records, error)
        self.records, self.error = records, error

    def __str__(self) -> str:
        """What happened, and what it means."""
        return f"the sink took none of the first {self.records:,} records of this chunk ({self.error}); it is held back"


class DiskNearlyFull(BatchError):
    """A disk that the run fills has less than ``min_free_disk_mb`` left; free some space and call the job again."""


class LostOwnership(BatchError):
    """Another run took this job over, so this one stopped without saving its cursor."""


class ChunkIsDone(BatchError):
    """Another run has committed this chunk meanwhile; tried again, it finds the result in the ledger."""

    transient = True


class RunStopped(BatchError):
    """The run was asked to stop; chunks in flight were finished, and the next call goes on from there."""


class SkipRecord(Exception):
    """Raise it in a processor to filter the record in hand."""


class StopBatch(Exception):
    """Raise it in a processor to abort the run; the chunk in hand is rolled back."""


class RecordError(BatchError):
    """One record cannot be written as it is; it becomes a dead letter."""


class RowNotFound(RecordError):
    """``write="update"`` found no row with this record's key in the sink."""


class UnknownColumn(RecordError):
    """The record has a column that the sink's table has not."""


class DoesNotFit(RecordError):
    """A value is not exactly one of its column's type in the sink's files: change the value, or give a schema."""


class BadRecord(RecordError):
    """A vectorized processor named this record as a bad one, with this reason."""


class BadRecords(Exception):
    """Raise it in a vectorized processor to name the bad records of its batch; it is called again without them.

    `bad` is a mask of the batch's length (True: bad) or positions from 0; `reasons` is one text for all, or one for
    each bad record in their order.
    """

    def __init__(self, bad: Any, reasons: str | Sequence[str] = "bad record") -> None:
        super().__init__(bad, reasons)
        self.bad, self.reasons = bad, reasons


class BadOutput(RecordError, TypeError):
    """The processor returned something that is not a dict, a list of dicts, or None."""


class RecordIsGone(RecordError):
    """A letter is replayed from the source, which has no record with its key any more."""


class KeyIsShared(RecordError):
    """A letter is replayed from the source, where several records have its key."""


class RecordTimeout(BatchError):
    """One record took longer than ``record_timeout``; it becomes a dead letter."""


class UnreadableRecord(RecordError):
    """A line of a file cannot be parsed; the letter has its bytes as ``__raw__``."""


class WorkerDied(BatchError):
    """A worker process ended while it processed a record: out of memory, or a crash in compiled code."""

    transient = True


class RemoteError(BatchError):
    """What went wrong in a worker process, as text; `transient` is whether the chunk is worth another attempt."""

    def __init__(self, kind: str, message: str, traceback: str, transient: bool) -> None:
        super().__init__(kind, message, traceback, transient)
        self.kind, self.message, self.traceback, self.transient = kind, message, traceback, transient

    def __str__(self) -> str:
        """The error as it was in the worker."""
        return f"{self.kind}: {self.message}"
