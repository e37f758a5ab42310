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
├── RunStopped               the run was asked to stop; the pass can be resumed
├── UnknownJob               the job has no cursor: it never ran against this Prefect API
└── KeysDiffer               a reconciliation did not find source and sink to agree
Raised by processors: SkipRecord (filters the record), StopBatch (aborts the run), BadRecords (names bad ones)
Raised by sinks: WriteAgain (nothing was written, and the same call will go another way)
Given to letters: RowNotFound, UnknownColumn, DoesNotFit, BadOutput, BadRecord (why one record could not be written),
    RecordTimeout, WorkerDied (why it could not be processed), UnreadableRecord (why it could not be read),
    RecordIsGone, KeyIsShared (why not read again). Between processes: RemoteError

An error with facts is a dataclass: its fields are its `args`, from which pickle and copy make it again, and its message
is made from them. Every other error has its message alone. No text in an error shows a password.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect_batch.blocks.error_facts import ErrorCountFacts, PolicyFacts, RangeFacts, TallyFacts
from prefect_batch.blocks.passwords import hide_passwords

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
    "KeysDiffer",
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
    "UnknownJob",
    "UnreadableRecord",
    "WorkerDied",
    "WriteAgain",
]

MOST_SHOWN = 10


def _shown(value: Any) -> Any:
    """The value as an error may hold it."""
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(_shown, value))
    return hide_passwords(value) if isinstance(value, str) else value


class BatchError(Exception):
    """The root of all errors of prefect-batch."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*map(_shown, args))

    def __post_init__(self) -> None:
        """Keep the facts of a dataclass as `args`."""
        self.__dict__.update({name: _shown(fact) for name, fact in vars(self).items()})
        self.args = tuple(vars(self).values())

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        # Prefect's log shows it.
        return f"{type(self).__name__}({str(self)!r})"


class Refused(BatchError):
    """The job cannot start as it is asked for; nothing was read or written."""


class BadParameter(Refused, ValueError):
    """A parameter is out of its range; the message says which values are allowed."""


@dataclass(eq=False, repr=False)
class BadSource(Refused):
    """The source cannot be walked by this key; the message names the table and the column.

    `source` is the table, the query or the file; `suggestion` is what may have been meant: "did you mean totals?".
    """

    message: str
    source: str | None = None
    column: str | None = None
    suggestion: str | None = None


@dataclass(eq=False, repr=False)
class BadSink(Refused):
    """The sink cannot take the records in this write mode; the message says what is missing.

    `sink` is the table or the directory.
    """

    message: str
    sink: str | None = None
    column: str | None = None


class BadPlace(Refused):
    """Dead letters cannot be written to this place; choose another or fix its permissions."""


class BadProcessor(Refused):
    """The processor cannot be imported, or is not marked with ``@processor``."""


@dataclass(eq=False, repr=False)
class DefinitionChanged(Refused):
    """The unfinished pass was started with another definition; go back to it, or pass ``restart=True``.

    `differences` are the parts that differ, or the files: what each was, and what it is now.
    """

    what: str
    way_on: str
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.differences:
            return f"{self.what}. {self.way_on}"
        more = len(self.differences) - MOST_SHOWN
        lines = [*self.differences[:MOST_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
        return "\n  ".join([f"{self.what}:", *lines]) + f"\n{self.way_on}"


@dataclass(eq=False, repr=False)
class JobIsOwned(Refused):
    """Another run works on this job; wait for it, or stop it.

    `since` is in ISO 8601, in UTC. Of a run that started at the same moment nothing is known.
    """

    job: str
    run_id: str | None = None
    host: str | None = None
    pid: int | None = None
    since: str | None = None

    def __str__(self) -> str:
        if self.since is None:
            return f"{self.job} was taken by another run that started at the same moment"
        owner = f"flow run {self.run_id} on {self.host} (pid {self.pid}), since {self.since[:19]} UTC"
        return f"{self.job} is already at work: {owner}; wait for it, or stop it"


@dataclass(eq=False, repr=False)
class NotFinished(Refused):
    """An interrupted run or replay must be finished, or given up, before this can be done.

    `letters` is how many of those asked for will be done again; None where a replay needs them all.
    """

    job: str
    letters: int | None = None

    def __str__(self) -> str:
        if self.letters is None:
            return (
                f"a replay of {self.job} was interrupted and needs the letters as they are: finish it first, by "
                "calling it again, or give it up with restart=True"
            )
        return (
            f"{self.letters:,} of these letters of {self.job} belong to chunks that an interrupted run or replay "
            "will do again, and nothing was discarded: finish it first, by calling it again, or choose others"
        )


@dataclass(eq=False, repr=False)
class NotAtWork(Refused):
    """Nobody works on this job just now, so there is no run to stop or to tune."""

    job: str

    def __str__(self) -> str:
        return f"no run works on {self.job} just now; prefect-batch status {self.job} says where it stands"


@dataclass(eq=False, repr=False)
class BadCursor(Refused):
    """The saved cursor cannot be read; use the version that wrote it, or ``prefect-batch reset``.

    `fault` ends the sentence "the cursor of the job …".
    """

    job: str
    fault: str

    def __str__(self) -> str:
        reset = f"to give it up and start a new pass: prefect-batch reset {self.job}"
        return f"the cursor of {self.job} {self.fault}; {reset}"


@dataclass(eq=False, repr=False)
class FailureRateExceeded(BatchError):
    """Too many records failed, so the run stopped; fix the cause and call the job again to resume.

    `reason` says which limit of the `policy` the run's `tally` exceeds. `top_errors` are the run's, the most frequent
    first; `letters` is the directory of the failed records, and None after a dry run, which keeps none.
    """

    job: str
    reason: str
    tally: TallyFacts
    policy: PolicyFacts
    top_errors: tuple[ErrorCountFacts, ...] = ()
    letters: str | None = None
    way_on: str = "call the job again: it goes on where it stopped"

    def __str__(self) -> str:
        errors = "".join(
            f"\n  {error.count:,} × {error.error_type}: {error.example_message} (key {error.example_key})"
            for error in self.top_errors[:3]
        )
        letters = f"\nThe failed records are in {self.letters}." if self.letters else ""
        way_on = f"Mend the cause, or allow more with max_failure_rate, and {self.way_on}."
        return f"{self.job}: {self.reason}.{errors}{letters}\n{way_on}"


@dataclass(eq=False, repr=False)
class ChunkFailed(BatchError):
    """A chunk failed as a whole and was rolled back; fix the cause and call the job again to resume.

    `cause` is the error as text, with its type.
    """

    job: str
    range: RangeFacts
    cause: str

    def __str__(self) -> str:
        return f"{self.job}: chunk {self.range.text} failed and was rolled back: {self.cause}"


@dataclass(eq=False, repr=False)
class CircuitOpen(BatchError):
    """The sink took not one record of several chunks in a row; fix it and call the job again to resume.

    `chunks` and `records` are how many it refused, from the range `first` to `last`; `error` is what it said at last.
    """

    job: str
    chunks: int
    records: int
    first: RangeFacts
    last: RangeFacts
    error: str

    def __str__(self) -> str:
        which = self.first.text if self.chunks == 1 else f"{self.first.text} to {self.last.text}"
        in_a_row = "1 chunk" if self.chunks == 1 else f"{self.chunks} chunks in a row"
        return (
            f"{self.job}: the sink took not one record of {in_a_row}, {which}, and refused {self.records:,}; "
            f"the latest error: {self.error}.\n"
            "Nothing of these chunks was written or buried, and the cursor stays before them. Mend the sink and call "
            "the job again: it goes on where it stopped. If the sink is well and these records are bad, let them "
            "become dead letters with circuit_breaker=None."
        )


@dataclass(eq=False, repr=False)
class SinkRefuses(BatchError):
    """The sink took none of a chunk's `records`, and said `error`; the chunk was rolled back, nothing of it buried."""

    records: int
    error: str

    def __str__(self) -> str:
        return f"the sink took none of the first {self.records:,} records of this chunk ({self.error}); it is held back"


@dataclass(eq=False, repr=False)
class DiskNearlyFull(BatchError):
    """A disk that the run fills has less than ``min_free_disk_mb`` left; free some space and call the job again.

    `contents` is what the run keeps in the directory `place`: "dead letters", for instance.
    """

    job: str
    contents: str
    place: str
    free_bytes: int
    least_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.job}: only {self.free_bytes // 2**20:,} MB are free where the {self.contents} lie "
            f"({self.place}), less than min_free_disk_mb={self.least_bytes // 2**20}; the run stopped before that disk "
            "is full. Free some space, or allow less, and call the job again: it goes on where it stopped."
        )


@dataclass(eq=False, repr=False)
class LostOwnership(BatchError):
    """Another run took this job over, so this one stopped without saving its cursor."""

    job: str

    def __str__(self) -> str:
        return (
            f"{self.job} was taken over by another run while this one was believed dead; this run stops without "
            "saving its cursor, and nothing is lost: the other one goes on"
        )


class ChunkIsDone(BatchError):
    """Another run has committed this chunk meanwhile; tried again, it finds the result in the ledger."""

    transient = True


@dataclass(eq=False, repr=False)
class RunStopped(BatchError):
    """The run was asked to stop; chunks in flight were finished, and the next call goes on from there.

    `job` is None where one chunk alone is given up for that.
    """

    reason: str
    job: str | None = None

    def __str__(self) -> str:
        return self.reason if self.job is None else f"{self.job}: {self.reason}"


@dataclass(eq=False, repr=False)
class UnknownJob(BatchError, KeyError):
    """The job has no cursor: it never ran against this Prefect API, or was reset and deleted."""

    job: str

    def __str__(self) -> str:
        return f"no job {self.job} has run against this Prefect API; prefect-batch status lists those that have"


@dataclass(eq=False, repr=False)
class KeysDiffer(BatchError):
    """Something differs between source and sink, or could not be verified, and this was asked to fail then.

    `found` is all of it as text; `missing` and `surplus` count keys, and `doubts` say what could not be verified.
    """

    found: str
    job: str
    missing: int
    surplus: int
    doubts: tuple[str, ...] = ()


class SkipRecord(Exception):
    """Raise it in a processor to filter the record in hand."""


class StopBatch(Exception):
    """Raise it in a processor to abort the run; the chunk in hand is rolled back."""


class WriteAgain(Exception):
    """The quick way to write was the wrong one; nothing was written, and the same call will take another way."""


class RecordError(BatchError):
    """One record cannot be written as it is; it becomes a dead letter."""


@dataclass(eq=False, repr=False)
class RowNotFound(RecordError):
    """``write="update"`` found no row with this record's key in the sink; `key` are the columns of the key."""

    table: str
    key: tuple[str, ...]

    def __str__(self) -> str:
        return f"table {self.table} has no row with this key ({', '.join(self.key)})"


class UnknownColumn(RecordError):
    """The record has a column that the sink's table does not have."""


class DoesNotFit(RecordError):
    """A value is not exactly one of its column's kind: change the value, or give the column another type."""


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


@dataclass(eq=False, repr=False)
class RecordTimeout(BatchError):
    """One record took longer than ``record_timeout``; it becomes a dead letter.

    `by_force`: no alarm reached it, and its worker process was ended.
    """

    seconds: float
    by_force: bool = False

    def __str__(self) -> str:
        return f"the record took longer than {self.seconds:g} s{' and was ended by force' if self.by_force else ''}"


class UnreadableRecord(RecordError):
    """A line of a file cannot be parsed; the letter has its bytes as ``__raw__``."""


@dataclass(eq=False, repr=False)
class WorkerDied(BatchError):
    """A worker process ended while it processed a record: out of memory, or a crash in compiled code.

    `record` is the place in its chunk, from 0, of a record that has ended two workers; None after a first time.
    """

    transient = True
    record: int | None = None

    def __str__(self) -> str:
        if self.record is None:
            return "a worker process died; was it out of memory?"
        return f"the worker process died twice while it processed this record (number {self.record + 1} of its chunk)"


@dataclass(eq=False, repr=False)
class RemoteError(BatchError):
    """What went wrong in a worker process, as text; `transient` is whether the chunk is worth another attempt."""

    kind: str
    message: str
    traceback: str
    transient: bool

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"
