"""What the two ends of a job must do: a source is read by ranges of its key, a sink takes a chunk in a transaction.

`Source` and `Sink` are all that a run needs. What an end may offer beyond them is in `blocks.capabilities`.
`prefect_batch.testing` has a suite of tests for each of the two.

How an end is used:

- Each process opens it once for a run, from its parameter. Its methods are then called from several threads at once,
  while other processes do the same.
- Every call may be repeated with the same arguments: a chunk that failed is tried again, and another run resumes one
  that was killed. An end keeps nothing in memory that a second opening would miss.
- An error of a read fails the chunk. An error of a write costs the record that caused it, unless `blocks.blame` finds
  something else to blame: then the chunk fails, and is tried again if the cause passes.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.record import Record


class End(Protocol):
    """What source and sink have in common. Opening one does not connect: it connects when first used."""

    @property
    def name(self) -> str:
        """What messages call it, such as ``table orders``. Never a password."""

    @property
    def connections(self) -> tuple[str, ...]:
        """The connections it uses, as the parameters name them. What is ``secret/`` and ``env/`` is sent to workers."""

    @property
    def one_thread(self) -> bool:
        """Whether two threads on it are slower than one. It must support several threads all the same."""

    @property
    def only_here(self) -> bool:
        """Whether no other process can reach it, as with a database in memory. A run then uses threads."""


class Source(End, Protocol):
    """Records in the order of a key.

    A key is a tuple of values that JSON can hold exactly (see `blocks.keys`). Only the source orders keys: elsewhere
    they are saved, loaded, passed back and compared for equality. A key from an earlier run must still mark a place in
    the order when its record is gone. Records with equal keys are never separated.

    A pass reads the ranges ``(after, upto]`` between the keys that `edges` returned. Each record must be in exactly one
    of them, however many rows were asked for. Records may be added, changed and removed during a pass: what counts is
    what is in a range when it is read. A source for which that is not sound, such as files, raises `DefinitionChanged`.
    """

    @property
    def key(self) -> tuple[str, ...]:
        """The key's columns, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of a record's columns, in order."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the records, with the columns `names` and text for types that Arrow does not have."""

    def check(self) -> list[str]:
        """Check, before a pass begins, that the source can be read by its key, without changing anything.

        Returns:
            Warnings, each a sentence.

        Raises:
            BadSource: The source cannot be read by its key.
        """

    def last_key(self, after: Key | None = None) -> Key | None:
        """Return the highest key beyond `after`, which itself may be the key of a record that is gone.

        It is called once, when a pass begins, and the key is the pass's upper bound: what is added later is not read.

        Returns:
            The key, or None if nothing is beyond `after`. If that cannot be known without reading, as in a text file,
            it may be a key behind all records, even if there are none.
        """

    def back(self, upto: Key, rows: int) -> Key | None:
        """Return the key `rows` records before `upto`, after which an incremental pass with an overlap begins.

        Returns:
            The key, or None for the start if there are not more than `rows` records up to `upto`.

        Raises:
            BadParameter: The source cannot count backwards, so that its passes cannot have an overlap.
        """

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return the ends of the next ranges, each about `rows` records after the one before.

        `after` and `upto` may be keys of records that are gone. The result is saved, and a resumed pass reads the same
        ranges. A range may therefore have become empty, or larger, when it is read.

        Args:
            after: Where the first range begins. None is the start. It is never `upto`.
            upto: The end of the pass. The last range of a pass ends there, whether or not a record has this key.
            rows: How many records a range should have. It has more only if they cannot be separated. A chunk that is
                too large is split by this, down to ``rows=1``, unless the source `CutsExactly`.
            most: The number of ends wanted.

        Returns:
            At least one key and at most `most`, in order, without duplicates, all in ``(after, upto]``. There are fewer
            than `most` only if the last one is `upto`.
        """

    def estimate(self, after: Key | None, upto: Key) -> int:
        """Return roughly how many records are in ``(after, upto]``, to show progress and to choose the workers."""

    def read(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the records of the range in key order.

        The same range may be read again, after a retry or a restart, and at the same time by another thread or process
        that was taken for dead. Each reading is independent. For an empty range nothing is yielded. The iterator may be
        closed before its end, and then has to release what it holds.

        Args:
            chunk: The range. Either of its keys may be that of a record that is gone.
            batch_rows: The maximum number of records in a batch, which limits the memory used.

        Yields:
            Batches with the columns `names` in their order. Only a source of JSON objects may have other columns in a
            batch than these.
        """

    def key_of(self, row: tuple[Any, ...]) -> Key:
        """Return the key of a row that ``Batch.row`` returned.

        Letters are identified by it, and a range may end at it. For a row that is a dead letter it is the key of the
        record in the job's own source.
        """


class SinkTransaction(Protocol):
    """One chunk's transaction, of which nothing remains without `commit`. It is used by one thread.

    The calls come in this order: any number of writes, each in a savepoint of its own; `record`, once, if the sink
    `needs_ledger`; `commit`. The chunk's dead letters are buried between the last two. Or `find` alone, before a chunk
    is read.
    """

    def write(self, records: list[Record]) -> None:
        """Write these records in their order, or raise an error.

        All ways to write, including `write_table` and `write_one_by_one`, promise this:

        - If there is no error, the sink has taken every row unchanged. A row that the sink would drop, cut or round is
          an error: what counts as written is what the sink did, not what was sent.
        - After an error, it is undefined what was written, and the transaction may be unusable. The next call leaves
          the savepoint around the write. The rows are then written again in parts, to find those that are refused.
        - If an error has the attribute `refused_row`, it is the place of a row that was refused.
        - The records and their values belong to the caller, and are not changed.
        - Of two rows with the same key the later one wins, in a sink that is written by key.

        Args:
            records: The rows, possibly none. Their columns may differ. A column that a record does not have is left as
                it is, or NULL. A column that the sink cannot store is an error.

        Raises:
            RecordError: A record cannot be written as it is.
            WriteAgain: The same call, repeated in a new savepoint, will go another way.
            Exception: The sink refused.
        """

    def savepoint(self) -> AbstractContextManager[None]:
        """Return a block for one write. If the block raises, its writes are undone, and the error propagates.

        What was written before and after the block stays. Blocks are not nested.

        Raises:
            BadSink: There is no way back to the beginning of the block.
        """

    def find(self) -> dict[str, Any] | None:
        """Return the result with which an earlier attempt of this chunk was committed.

        It is called only if the sink `needs_ledger`. If there is a result, the chunk is not repeated.

        Returns:
            What was passed to `record`, or None if no attempt was committed.
        """

    def record(self, result: dict[str, Any]) -> None:
        """Store the chunk's result, which is JSON, to be committed with its rows and returned by `find`.

        It may be the chunk's `Split`, whose parts then come in its place, each with a transaction of its own. A chunk
        has one result: of two transactions at once, one with rows and one with a split, one is committed. Whoever walks
        over the chunks of a pass leaves the split ones out: the first part of one begins where it begins.

        Raises:
            ChunkIsDone: Another transaction has committed this chunk. The chunk is tried again, and finds its result.
            LostOwnership: Another run has completed the pass, so that its chunks may not be repeated any more.
        """

    def commit(self) -> None:
        """Make everything written durable, together with the result. Nothing is called after it.

        A chunk that wrote nothing is committed, too.

        Raises:
            ChunkIsDone: Another transaction has committed this chunk, which `record` could not know.
        """


class Sink(End, Protocol):
    """Takes the rows of a chunk, all or none, so that the chunk can be repeated.

    A repeated chunk must not double its rows: they replace those of the earlier attempt, by a key or by the name of the
    chunk, or the ledger shows that they are already there.
    """

    @property
    def needs_ledger(self) -> bool:
        """Whether a repeated chunk would write its rows twice without `SinkTransaction.find`."""

    @property
    def held_rows(self) -> int:
        """The number of rows to hold in memory before the transaction begins, as for a single writer. 0 holds none."""

    @property
    def fills(self) -> Path | None:
        """The directory on this machine that the rows are written to, whose disk must not fill up, or None."""

    def check(self, source_schema: pa.Schema, *, dry_run: bool = False) -> list[str]:
        """Check, before a pass begins, that records of the source's schema can be written to the sink.

        What the sink needs for itself, such as a ledger, may be created here, but not for a dry run, which leaves no
        trace. The target is not changed.

        Returns:
            Warnings, each a sentence.

        Raises:
            BadSink: The sink cannot be written as asked for.
        """

    def begin_pass(self, pass_: PassRef) -> None:
        """Prepare the sink for a new pass, and remove what unfinished passes of the job have left.

        It is called before the first chunk of a pass, but not when a pass is resumed. Until that chunk it may be
        repeated.
        """

    def prepare(self, records: Sequence[Record], source_schema: pa.Schema) -> None:
        """Create what is missing of the sink from the first records of a chunk, if that was asked for.

        Each chunk that has rows calls it before its transaction. Several chunks therefore call it at once, in several
        threads and processes, with different records. The first one decides. For the others it must be fast.

        Raises:
            BadSink: The target is missing and may not be created, or cannot be created from these records.
        """

    def transaction(self, pass_: PassRef, chunk: ChunkRange) -> AbstractContextManager[SinkTransaction]:
        """Return a block with the transaction of this chunk, which is rolled back at its end unless it was committed.

        Chunks of a pass are written at the same time. A sink with a single writer makes them wait. The same chunk may
        be in two transactions at once, if a run was taken for dead: one of them then wins.
        """

    def end_pass(self, pass_: PassRef) -> None:
        """Finish the pass once all its chunks are committed, for example by publishing them or clearing the ledger.

        It is repeated, perhaps in another process, if a run was killed at the end of its pass.
        """
