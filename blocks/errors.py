"""Every error that prefect-batch raises, in one tree.

BatchError
├── Refused                  the job cannot start as requested, and nothing was read or written
│   ├── BadParameter         a parameter is out of its range
│   ├── BadSource            a table, column or key is missing, or a key is NULL
│   ├── BadSink              the sink cannot take the records in this write mode
│   ├── BadPlace             dead letters cannot be written there
│   ├── BadProcessor         the processor cannot be imported or is not decorated
│   ├── DefinitionChanged    the job was started with another definition
│   ├── JobIsOwned           another run of this job is active
│   ├── AlreadyWritten       a new pass would write rows again that an unfinished one has committed
│   ├── NotFinished          an interrupted run must be finished first
│   ├── NotAtWork            the job is not running
│   └── BadCursor            the saved cursor cannot be read by this version
├── FailureRateExceeded      too many records failed, and the pass can be resumed
├── ChunkFailed              a chunk failed as a whole, and the pass can be resumed
├── CircuitOpen              the sink rejects everything, no dead letters were written, and the pass can be resumed
├── SinkRefuses              the sink rejected all of a chunk's records, and the chunk is held back
├── TooLarge                 a chunk of one key failed for its size, and is held back
├── DiskNearlyFull           a disk that the run fills is nearly full, and the pass can be resumed
├── LostOwnership            another run took the job over, and this one stopped without saving
├── ConnectionLost           a database went away, and did not come back
├── ChunkIsDone              another run has committed this chunk, and its result is in the ledger
├── RunStopped               the run was asked to stop, and the pass can be resumed
├── ApiUnavailable           the Prefect API does not answer where PREFECT_API_URL says
├── UnknownJob               the job has no cursor: it never ran against this Prefect API
└── KeysDiffer               a reconciliation found that source and sink differ, or could not verify it
Raised by processors: SkipRecord (filters the record), StopBatch (aborts the run), BadRecords (names bad ones)
Raised by sinks: WriteAgain (nothing was written, and the same call will go another way)
Given to letters: RowNotFound, RowSkipped, KeyCollides, TooManyRows, UnknownColumn, DoesNotFit, BadOutput, BadRecord
    (why one record could not be written), RecordTimeout, WorkerDied (why it could not be processed), UnreadableRecord
    (why it could not be read), RecordIsGone, KeyIsShared (why not read again). Between processes: RemoteError

An error with facts is a dataclass. Its fields are its `args`, from which pickle and copy restore it, and its message is
built from them. Every other error has only its message. No text in an error shows a password.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect_batch.blocks.error_facts import Blame, ErrorCountFacts, PolicyFacts, RangeFacts, TallyFacts
from prefect_batch.blocks.passwords import hide_passwords

__all__ = [
    "AlreadyWritten",
    "ApiUnavailable",
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
    "ConnectionLost",
    "DefinitionChanged",
    "DiskNearlyFull",
    "DoesNotFit",
    "FailureRateExceeded",
    "JobIsOwned",
    "KeyCollides",
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
    "RowSkipped",
    "RunStopped",
    "SinkRefuses",
    "SkipRecord",
    "StopBatch",
    "TooLarge",
    "TooManyRows",
    "UnknownColumn",
    "UnknownJob",
    "UnreadableRecord",
    "WorkerDied",
    "WriteAgain",
]

MOST_SHOWN = 10


def _shown(value: Any) -> Any:
    """Return the value as an error may hold it, without passwords."""
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(_shown, value))
    return hide_passwords(value) if isinstance(value, str) else value


class BatchError(Exception):
    """The base class of all errors of prefect-batch."""

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
    """The job cannot start as requested, and nothing was read or written. Change what the message names."""


class BadParameter(Refused, ValueError):
    """A parameter is out of its range, or does not go with another. Change it as the message says."""


@dataclass(eq=False, repr=False)
class BadSource(Refused):
    """The source cannot be read by this key. Fix the table, column or key that the message names.

    Attributes:
        source: The table, the query or the file.
        suggestion: What may have been meant, such as "did you mean totals?".
    """

    message: str
    source: str | None = None
    column: str | None = None
    suggestion: str | None = None


@dataclass(eq=False, repr=False)
class BadSink(Refused):
    """The sink cannot take the records in this write mode. Add what the message says is missing, or use another mode.

    Attributes:
        sink: The table or the directory.
    """

    message: str
    sink: str | None = None
    column: str | None = None


class BadPlace(Refused):
    """Dead letters cannot be written to this place. Choose another place, or fix its permissions."""


class BadProcessor(Refused):
    """The processor cannot be imported, or is not decorated. Fix the import path, or add ``@processor``."""


@dataclass(eq=False, repr=False)
class DefinitionChanged(Refused):
    """The unfinished pass was started with another definition. Restore that, or pass ``restart=True``.

    Attributes:
        differences: The parts that differ, or the files, each with its former and its present value.
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
    """Another run of this job is active. Wait for it, or stop it.

    Attributes:
        since: The start of that run in ISO 8601, in UTC. None, as the other facts, if it started at the same moment.
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
class AlreadyWritten(Refused):
    """A new pass would write rows again that an unfinished one has committed. Resume that, or use ``write_again``."""

    job: str
    sink: str
    rows: int

    def __str__(self) -> str:
        return (
            f"{self.sink} has {self.rows:,} rows of the unfinished pass of {self.job}, and a pass from the beginning "
            "would write them again: resume without restart=True, or delete them and go ahead with write_again=True"
        )


@dataclass(eq=False, repr=False)
class NotFinished(Refused):
    """An interrupted run or replay must come first. Finish it by calling it again, or abandon it.

    Attributes:
        letters: How many of the letters asked for will be processed again. None if a replay needs all of them.
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
    """The job is not running, so there is no run to stop or to tune. Check its status with ``prefect-batch status``."""

    job: str

    def __str__(self) -> str:
        return f"no run works on {self.job} just now; prefect-batch status {self.job} says where it stands"


@dataclass(eq=False, repr=False)
class BadCursor(Refused):
    """The saved cursor cannot be read. Use the version that wrote it, or run ``prefect-batch reset``.

    Attributes:
        fault: The end of the sentence "the cursor of the job …".
    """

    job: str
    fault: str

    def __str__(self) -> str:
        reset = f"to give it up and start a new pass: prefect-batch reset {self.job}"
        return f"the cursor of {self.job} {self.fault}; {reset}"


@dataclass(eq=False, repr=False)
class FailureRateExceeded(BatchError):
    """Too many records failed, so the run stopped. Fix the cause, and call the job again to resume.

    Attributes:
        reason: Which limit of the `policy` the run's `tally` exceeds.
        top_errors: The run's errors, the most frequent first.
        letters: The directory of the failed records. None after a dry run, which keeps none.
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
    """A chunk failed as a whole and was rolled back. Fix the cause, and call the job again to resume.

    Attributes:
        cause: The error as text, with its type.
    """

    job: str
    range: RangeFacts
    cause: str

    def __str__(self) -> str:
        return f"{self.job}: chunk {self.range.text} failed and was rolled back: {self.cause}"


@dataclass(eq=False, repr=False)
class CircuitOpen(BatchError):
    """The sink rejected every record of several chunks in a row. Fix the sink, and call the job again to resume.

    Attributes:
        chunks: How many chunks the sink rejected.
        records: How many records it rejected.
        first: The range of the first of these chunks.
        last: The range of the last of these chunks.
        error: The latest error of the sink.
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
    """The sink rejected all of a chunk's `records` with `error`. The chunk was rolled back without dead letters.

    The circuit breaker then decides whether the chunk is repeated or the run stops.
    """

    records: int
    error: str

    def __str__(self) -> str:
        return f"the sink took none of the first {self.records:,} records of this chunk ({self.error}); it is held back"


@dataclass(eq=False, repr=False)
class TooLarge(BatchError):
    """A chunk of a single key failed for its size with `error`. It was rolled back without dead letters.

    If other chunks pass after it, it is repeated and its records are tried one by one. Otherwise the run stops.
    """

    error: str
    records = 1

    def __str__(self) -> str:
        return f"this chunk of one key is too large ({self.error}); it is held back"


@dataclass(eq=False, repr=False)
class DiskNearlyFull(BatchError):
    """A disk that the run fills has less than ``min_free_disk_mb`` left. Free some space, and call the job again.

    Attributes:
        contents: What the run keeps in the directory `place`, such as "dead letters".
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
    """Another run took this job over, so this run stopped without saving its cursor. The other run continues."""

    job: str

    def __str__(self) -> str:
        return (
            f"{self.job} was taken over by another run while this one was believed dead; this run stops without "
            "saving its cursor, and nothing is lost: the other one goes on"
        )


@dataclass(eq=False, repr=False)
class ConnectionLost(BatchError):
    """The connection to a database was lost, and it did not come back. Call the job again once it is there.

    Attributes:
        end: The table or the query.
        seconds: How long it was waited for.
    """

    end: str
    seconds: float
    reason: str

    def __str__(self) -> str:
        return (
            f"the connection to the database of {self.end} was lost, and in {self.seconds:.0f} s it did not come back: "
            f"{self.reason}"
        )


class ChunkIsDone(BatchError):
    """Another run has committed this chunk. A retry finds the result in the ledger."""


@dataclass(eq=False, repr=False)
class RunStopped(BatchError):
    """The run was asked to stop, and finished its chunks in flight. The next call resumes where it left off.

    Attributes:
        job: None if only a single chunk was abandoned because of the request.
    """

    reason: str
    job: str | None = None

    def __str__(self) -> str:
        return self.reason if self.job is None else f"{self.job}: {self.reason}"


@dataclass(eq=False, repr=False)
class ApiUnavailable(BatchError):
    """The Prefect API does not answer. Correct ``PREFECT_API_URL``, or start the server.

    Attributes:
        url: Where it was looked for, without a password.
        reason: What came instead of its answer.
    """

    url: str
    reason: str

    def __str__(self) -> str:
        ends = "" if self.url.rstrip("/").endswith("/api") else ", which ends with /api"
        way_out = "and whether the server runs (prefect server start)"
        return f"the Prefect API at {self.url} does not answer ({self.reason}): check PREFECT_API_URL{ends}, {way_out}"


@dataclass(eq=False, repr=False)
class UnknownJob(BatchError, KeyError):
    """This Prefect API has no cursor of the job, which never ran or was deleted. See ``prefect-batch status``."""

    job: str

    def __str__(self) -> str:
        return f"no job {self.job} has run against this Prefect API; prefect-batch status lists those that have"


@dataclass(eq=False, repr=False)
class KeysDiffer(BatchError):
    """Source and sink differ, or could not be verified, and an error was requested. Repair them, or see `doubts`.

    Attributes:
        found: The whole result as text.
        missing: The number of missing keys.
        surplus: The number of extra keys.
        doubts: What could not be verified.
    """

    found: str
    job: str
    missing: int
    surplus: int
    doubts: tuple[str, ...] = ()


class SkipRecord(Exception):
    """Filters the current record, when a processor raises it."""


class StopBatch(Exception):
    """Aborts the run and rolls the current chunk back, when a processor raises it."""


class WriteAgain(Exception):
    """The fast way to write did not work, and nothing was written. Repeat the call, which will go another way."""


class RecordError(BatchError):
    """One record cannot be written as it is. It becomes a dead letter."""


@dataclass(eq=False, repr=False)
class RowNotFound(RecordError):
    """``write="update"`` found no row with this record's key. Insert it first, or use ``write="upsert"``.

    Attributes:
        key: The columns of the key.
        refused_row: The place of its record among those that were to be written. None if that is not known.
    """

    table: str
    key: tuple[str, ...]
    refused_row: int | None = None

    def __str__(self) -> str:
        return f"table {self.table} has no row with this key ({', '.join(self.key)})"


@dataclass(eq=False, repr=False)
class RowSkipped(RecordError):
    """The database left a row out without an error. Change what skips it, or accept that with ``skipped="filtered"``.

    Triggers that return NULL or raise IGNORE, rules and row policies do that.

    Attributes:
        on_purpose: Whether the sink says ``skipped="filtered"``, so that the record counts as filtered.
        refused_row: The place of its record among those that were to be written. None if that is not known.
    """

    table: str
    on_purpose: bool = False
    refused_row: int | None = None

    def __str__(self) -> str:
        return f"the database skipped it: table {self.table} did not take the row, and there was no error"


@dataclass(eq=False, repr=False)
class KeyCollides(RecordError):
    """The sink takes this key for that of another record. Give the columns a collation that tells them apart.

    Attributes:
        columns: The columns of the key whose collation takes different texts for equal.
        refused_row: The place of its record among those that were to be written. None if that is not known.
    """

    table: str
    columns: tuple[str, ...]
    refused_row: int | None = None

    def __str__(self) -> str:
        return (
            f"table {self.table} has this key in another spelling, and takes the two for one, by the collation of "
            f"{', '.join(self.columns)}: the record was not written over the other"
        )


@dataclass(eq=False, repr=False)
class TooManyRows(RecordError):
    """One record changed several rows. Make the key unique in the table, as the table compares it.

    Attributes:
        changed: The number of rows that were changed for so many `records`.
    """

    table: str
    changed: int
    records: int

    def __str__(self) -> str:
        return f"table {self.table}: {self.changed:,} rows were changed for {self.records:,} by key; is it unique?"


class UnknownColumn(RecordError):
    """The record has a column that the sink does not have. Remove it in the processor, or add it to the sink."""


class DoesNotFit(RecordError):
    """A value is not exactly one of its column's kind. Change the value, or give the column another type.

    Attributes:
        refused_row: The place of its record among those that were to be written. None if that is not known.
    """

    refused_row: int | None = None


class BadRecord(RecordError):
    """A vectorized processor named this record as bad, with this reason. It becomes a dead letter."""


class BadRecords(Exception):
    """Names the bad records of a batch, when a vectorized processor raises it. The rest is processed again.

    Attributes:
        bad: A mask of the batch's length (True: bad), or positions from 0.
        reasons: One text for all bad records, or one for each of them in their order.
    """

    def __init__(self, bad: Any, reasons: str | Sequence[str] = "bad record") -> None:
        super().__init__(bad, reasons)
        self.bad, self.reasons = bad, reasons


class BadOutput(RecordError, TypeError):
    """The processor's output has a wrong type, or a value that the sink cannot store. Fix the processor.

    A processor of records must return a dict, a list of dicts, or None. A vectorized one must return a batch.
    """


class RecordIsGone(RecordError):
    """The source no longer has the record of a letter to replay. Use ``from_="letter"``, or discard the letter."""


class KeyIsShared(RecordError):
    """Several records of the source have the key of a letter to replay. Use ``from_="letter"``, or discard it."""


@dataclass(eq=False, repr=False)
class RecordTimeout(BatchError):
    """One record took longer than ``record_timeout``. It becomes a dead letter.

    Attributes:
        by_force: Whether no alarm reached the record, so that its worker process was killed.
    """

    seconds: float
    by_force: bool = False

    def __str__(self) -> str:
        return f"the record took longer than {self.seconds:g} s{' and was ended by force' if self.by_force else ''}"


class UnreadableRecord(RecordError):
    """A line of a file (the letter's ``__raw__``) cannot be parsed, or a value of a database not be decoded."""


@dataclass(eq=False, repr=False)
class WorkerDied(BatchError):
    """A worker process died, out of memory or by a crash in compiled code. The chunk is tried again, or in parts.

    Attributes:
        at: The place in its chunk, from 0, of the record that it was processing. None if it was reading or writing.
    """

    at: int | None = None

    def __str__(self) -> str:
        if self.at is None:
            return "a worker process died; was it out of memory?"
        return f"a worker process died while it processed a record (number {self.at + 1} of its chunk)"


@dataclass(eq=False, repr=False)
class RemoteError(BatchError):
    """An error of a worker process, as text.

    Attributes:
        blame: What was to blame for it where it was raised.
    """

    kind: str
    message: str
    traceback: str
    blame: Blame

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"
