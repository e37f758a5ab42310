"""What the two ends of a job must do: a source is read by ranges of its key, a sink takes a chunk in a transaction.

`Source` and `Sink` are all that a run needs. The other protocols are capabilities: an end that has their methods is
asked for more. `prefect_batch.testing` has a suite of tests for each of the two.

How an end is used:

- Each process opens it once for a run, from its parameter. Its methods are then called from several threads at once,
  while other processes do the same.
- Everything may be asked again with the same arguments: a chunk that failed is tried again, and a run that was killed
  is resumed by another one. An end keeps nothing in memory that a second opening would miss.
- An error that `blocks.transient` takes for passing fails the chunk, which is tried again; any other error of a read
  fails the chunk, too, and one of a write costs the record that caused it.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.dead_letter import Origin
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.record import Record

__all__ = [
    "End",
    "FindsRecords",
    "GivesTables",
    "OfFiles",
    "Replays",
    "Sink",
    "SinkTransaction",
    "Source",
    "TakesTables",
    "WritesOneByOne",
]


class End(Protocol):
    """What source and sink have in common. Opening one connects nowhere; it connects when it is first used."""

    @property
    def name(self) -> str:
        """What it is, as messages call it: ``table orders``. Never a password."""

    @property
    def connections(self) -> tuple[str, ...]:
        """The connections it uses, as they stand in the parameters; ``secret/<name>`` is sent to worker processes."""

    @property
    def one_thread(self) -> bool:
        """Whether two threads on it are slower than one. It must bear several threads all the same."""

    @property
    def only_here(self) -> bool:
        """Whether no other process can reach it, as a database in memory; a run then works with threads."""


class Source(End, Protocol):
    """Records in the order of a key.

    A key is a tuple of values that JSON can hold exactly (see `blocks.keys`). Only the source orders keys: elsewhere
    they are saved, loaded, handed back and compared for equality. A key from an earlier run must still name a place in
    the order when its record is gone. Records of equal keys are never separated.

    A pass reads the ranges ``(after, upto]`` between the keys that `edges` gave. Each record must lie in exactly one of
    them, however many rows were asked for. Records may come, change and go during a pass: what lies in a range when it
    is read is what counts. A source for which that is no sound answer, as for files, raises `DefinitionChanged`.
    """

    @property
    def key(self) -> tuple[str, ...]:
        """The key's columns, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that a record has, in order."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the records, with the columns `names`; types that Arrow does not have are text."""

    def check(self) -> list[str]:
        """Check, before a pass begins, that the source can be read by its key. Nothing is changed.

        Returns:
            Warnings, each a sentence.

        Raises:
            BadSource: It cannot be read by its key.
        """

    def last_key(self, after: Key | None = None) -> Key | None:
        """Return the highest key beyond `after`, which may be the key of no record any more.

        It is asked once, when a pass begins, and is the pass's upper bound: what is added later is not read.

        Returns:
            The key; None when there is no record beyond `after`.
        """

    def back(self, upto: Key, rows: int) -> Key | None:
        """Return the key `rows` records before `upto`; an incremental pass with an overlap begins after it.

        Returns:
            The key; None for the start, when there are not more than `rows` records up to `upto`.

        Raises:
            BadParameter: The source cannot count backwards; passes over it then have no overlap.
        """

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return the ends of the next ranges, each about `rows` records after the former.

        `after` and `upto` may be keys of records that are gone. What is returned is saved, and a resumed pass reads
        the same ranges; so a range may have become empty, or have more records, when it is read.

        Args:
            after: Where the first range begins; None for the start. It is not `upto`.
            upto: The end of the pass. The last range of a pass ends there, whether or not a record has this key.
            rows: How many records a range should have; it has more only where they cannot be separated.
            most: How many ends are wanted.

        Returns:
            At least one key and at most `most`, in order, all in ``(after, upto]``, none twice. There are fewer than
            `most` only if the last one is `upto`.
        """

    def estimate(self, after: Key | None, upto: Key) -> int:
        """Return about how many records lie in ``(after, upto]``: for the progress shown, and the choice of workers."""

    def read(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the records of the range in the order of the key.

        The same range may be read again, after a retry or a restart, and at the same time by another thread or process
        that was taken for dead; each reading is independent. A range may be empty, and then nothing is yielded. The
        iterator may be left before its end, and then has to release what it holds.

        Args:
            chunk: The range. Either of its keys may be that of a record that is gone.
            batch_rows: How many records a batch may have at most; memory is limited by it.

        Yields:
            Batches with the columns `names` in their order. Only a source of JSON objects may have other columns in a
            batch than these.
        """

    def key_of(self, row: tuple[Any, ...]) -> Key:
        """Return the key of a row that ``Batch.row`` gave; a letter, and a range that ends there, are named by it."""


@runtime_checkable
class GivesTables(Protocol):
    """What a source may do besides: hand its records to vectorized functions as Arrow tables."""

    def read_tables(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the same records as `Source.read`, with a `table` in each batch that has an exact one.

        A batch whose values Arrow cannot hold exactly has rows, as those of `read`.
        """


@runtime_checkable
class FindsRecords(Protocol):
    """What a source may do besides: find records by their keys, for a replay that reads them again."""

    def find(self, keys: Sequence[Key]) -> Iterator[Batch]:
        """Yield the records that have one of these keys, in any order.

        A key may belong to no record any more, which is no error, or to several, which are all yielded.
        """


@runtime_checkable
class Replays(Protocol):
    """What a source of dead letters does besides: tell where a row comes from, and what became of a chunk."""

    def origin_of(self, row: tuple[Any, ...]) -> Origin:
        """Return the letter that this row is."""

    def record_of(self, row: tuple[Any, ...]) -> Record:
        """Return the record, or, where that is missing, what the letter holds of it."""

    def missing(self, row: tuple[Any, ...]) -> Exception | None:
        """Return why this row has no record to process; None when it has one, as have then all rows of its batch."""

    def settle(self, chunk: ChunkRange, run_id: str) -> None:
        """Resolve the letters of a committed chunk, except those that it buried again. It may be repeated."""


@runtime_checkable
class OfFiles(Protocol):
    """What a source of files has besides: a list of the files that a pass reads, fixed when the pass begins."""

    @property
    def files(self) -> FileList:
        """The files of the pass in the order in which they are read; of a source just opened, those that are there."""

    def with_files(self, files: FileList) -> Source:
        """Return the same source over these files. A range of files that have changed raises `DefinitionChanged`."""


class SinkTransaction(Protocol):
    """One chunk's transaction; without `commit` nothing of it stays. It is used by one thread.

    In this order: any number of writes, each in a savepoint of its own; `record`, once, if the sink `needs_ledger`;
    `commit`. Or `find` alone, before a chunk is read.
    """

    def write(self, records: list[Record]) -> None:
        """Write these records in their order: all, or an error.

        What every way to write promises, `write_table` and `write_one_by_one` too:

        - No error means that the sink has taken every row, as it is. A row that the sink would drop, cut or round is an
          error: what counts as written is what the sink did, not what was sent.
        - After an error it is open what was written, and the transaction may be unusable; the next call leaves the
          savepoint around the write. The rows are then written again in parts, to find those that are refused.
        - An error that has the attribute `refused_row` tells the place of a row that was refused.
        - The records and their values belong to the caller, and are not changed.
        - Of two rows with one key the later one wins, in a sink that is written by key.

        Args:
            records: The rows; they may be none, and may differ in their columns. A column that a record does not have
                is left as it is, or NULL; one that the sink does not have is an error.

        Raises:
            RecordError: A record cannot be written as it is.
            WriteAgain: The same call, made again in a new savepoint, will go another way.
            Exception: The sink refused.
        """

    def savepoint(self) -> AbstractContextManager[None]:
        """Return a block that undoes what was written in it, and only that, when it is left by an error.

        The error goes on. What was written before the block, and after it, stays. Blocks are not nested.

        Raises:
            BadSink: There is no way back to the beginning of the block.
        """

    def find(self) -> dict[str, Any] | None:
        """Return the result with which an earlier attempt of this chunk was committed.

        It is asked only if the sink `needs_ledger`: the chunk is then not done again.

        Returns:
            What was given to `record`; None when no attempt was committed.
        """

    def record(self, result: dict[str, Any]) -> None:
        """Have the chunk's result, which is JSON, committed with its rows, for `find`.

        Raises:
            ChunkIsDone: Another transaction has committed this chunk; the chunk is tried again, and finds it.
        """

    def commit(self) -> None:
        """Make all that was written durable, together with the result. Nothing is called after it.

        A chunk that wrote nothing is committed, too. A sink that names its rows by the chunk, as one of files, then
        removes what an earlier attempt has left.
        """


@runtime_checkable
class WritesOneByOne(Protocol):
    """What a transaction may do besides: write rows singly, where that is quicker than to look for the bad ones."""

    def write_one_by_one(self, rows: list[Record] | pa.Table) -> dict[int, Exception | None] | None:
        """Write the rows in their order, each for itself, as `SinkTransaction.write` would.

        Returns:
            The rows that were refused, by their place, each with its error, or with None where only a write of that row
            alone would tell why; all others are written. None instead of all that, when it cannot be done with these
            rows; nothing is then written.
        """


@runtime_checkable
class TakesTables(Protocol):
    """What a transaction may do besides: take the outputs of vectorized functions as they are."""

    def write_table(self, table: pa.Table) -> None:
        """Write the rows of a table, as `SinkTransaction.write` would.

        Args:
            table: Columns of any type, each in any number of Arrow chunks; it may have no rows.
        """


class Sink(End, Protocol):
    """Takes the rows of a chunk, all or none, so that the chunk can be done again.

    A repeated chunk must not double its rows: they replace those of the former attempt, by a key or by the name of the
    chunk, or the ledger tells that they are there.
    """

    @property
    def needs_ledger(self) -> bool:
        """Whether a repeated chunk would write its rows twice, were it not for `SinkTransaction.find`."""

    @property
    def held_rows(self) -> int:
        """How many rows are best held in memory before the transaction begins, as for one writer at a time; 0: none."""

    @property
    def fills(self) -> Path | None:
        """The directory of this machine that the rows go to, whose disk must not run full; None if there is none."""

    def check(self, source_schema: pa.Schema) -> list[str]:
        """Check, before a pass begins, that the sink can be written; the source's records have this schema.

        What the sink keeps for itself, as a ledger, may be made here; the target is not touched.

        Returns:
            Warnings, each a sentence.

        Raises:
            BadSink: It cannot be written as asked for.
        """

    def begin_pass(self, pass_: PassRef) -> None:
        """Make the sink ready for a new pass, and remove what unfinished passes of the job have left.

        It is called before the first chunk of a pass, and not when a pass is resumed. It may be repeated until then.
        """

    def prepare(self, records: Sequence[Record], source_schema: pa.Schema) -> None:
        """Make what is missing of the sink from the first records of a chunk, where that was asked for.

        Each chunk that has rows calls it before its transaction, so that several chunks do it at once, in several
        threads and processes, with different records. The first one decides; for the others it must be quick.

        Raises:
            BadSink: It is missing and may not be made, or not from these records.
        """

    def transaction(self, pass_: PassRef, chunk: ChunkRange) -> AbstractContextManager[SinkTransaction]:
        """Return a block with the transaction of this chunk, which is rolled back at its end unless it was committed.

        Chunks of a pass are written at the same time; a sink that has one writer at a time makes them wait. The same
        chunk may be in two transactions at once, if a run was taken for dead: one of them then wins.
        """

    def end_pass(self, pass_: PassRef) -> None:
        """Do what is to be done when all chunks of a pass are committed: publish them, forget the ledger.

        It is repeated, perhaps in another process, when a run was killed at the end of its pass.
        """
