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
    │   └── BadCursor            the saved cursor cannot be read by this version
    ├── FailureRateExceeded      too many records failed; the pass can be resumed
    ├── ChunkFailed              a chunk failed as a whole; the pass can be resumed
    ├── LostOwnership            another run took the job over; this one stopped without saving
    └── RunStopped               the run was asked to stop; the pass can be resumed
    Raised by processors: SkipRecord (filters the record), StopBatch (aborts the run)
    Given to letters: RowNotFound, UnknownColumn, BadOutput (why one record could not be written)
"""

__all__ = [
    "BadCursor",
    "BadOutput",
    "BadParameter",
    "BadPlace",
    "BadProcessor",
    "BadSink",
    "BadSource",
    "BatchError",
    "ChunkFailed",
    "DefinitionChanged",
    "FailureRateExceeded",
    "JobIsOwned",
    "LostOwnership",
    "RecordError",
    "Refused",
    "RowNotFound",
    "RunStopped",
    "SkipRecord",
    "StopBatch",
    "UnknownColumn",
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


class BadCursor(Refused):
    """The saved cursor cannot be read; use the version that wrote it, or ``prefect-batch reset``."""


class FailureRateExceeded(BatchError):
    """Too many records failed, so the run stopped; mend the cause and call the job again to resume."""


class ChunkFailed(BatchError):
    """A chunk failed as a whole and was rolled back; mend the cause and call the job again to resume."""


class LostOwnership(BatchError):
    """Another run took this job over, so this one stopped without saving its cursor."""


class RunStopped(BatchError):
    """The run was asked to stop; chunks in flight were finished, and the next call goes on from there."""


class SkipRecord(Exception):  # noqa: N818 - a signal of the processor, not an error
    """Raise it in a processor to filter the record in hand."""


class StopBatch(Exception):  # noqa: N818 - a signal of the processor, not an error
    """Raise it in a processor to abort the run; the chunk in hand is rolled back."""


class RecordError(BatchError):
    """One record cannot be written as it is; it becomes a dead letter."""


class RowNotFound(RecordError):
    """``write="update"`` found no row with this record's key in the sink."""


class UnknownColumn(RecordError):
    """The record has a column that the sink's table has not."""


class BadOutput(RecordError, TypeError):
    """The processor returned something that is not a dict, a list of dicts, or None."""
