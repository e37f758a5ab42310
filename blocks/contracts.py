"""What the two ends of a job must do: a source is read by ranges of its key, a sink takes a chunk in a transaction."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from prefect_batch.blocks.batches import Batch, Record
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.dead_letter import Origin
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.keys import Key

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
    """What source and sink have in common; opened from a parameter, they connect when first used."""

    @property
    def name(self) -> str:
        """What it is, as messages call it: ``table orders``."""

    @property
    def connections(self) -> tuple[str, ...]:
        """The connections it uses, as they stand in the parameters."""

    @property
    def one_thread(self) -> bool:
        """Whether two threads on it are slower than one."""

    @property
    def only_here(self) -> bool:
        """Whether no other process can reach it, as a database in memory."""


class Source(End, Protocol):
    """Records in the order of a key. Keys are compared by the source only; in Python, equality alone."""

    @property
    def key(self) -> tuple[str, ...]:
        """The key's columns, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that a record has, in order."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the records; columns of types that Arrow has not are text."""

    def check(self) -> list[str]:
        """Warnings about the source, each a sentence.

        Raises:
            BadSource: it cannot be walked by its key.
        """

    def last_key(self, after: Key | None = None) -> Key | None:
        """The highest key beyond `after`; None when there is no record."""

    def back(self, upto: Key, rows: int) -> Key | None:
        """The key `rows` records before `upto`; None for the start."""

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """At most `most` keys in ``(after, upto]``, each `rows` records after the former; the last may be `upto`."""

    def estimate(self, after: Key | None, upto: Key) -> int:
        """About how many records lie in ``(after, upto]``."""

    def read(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """The records of the range in the order of the key, in batches of at most `batch_rows`."""

    def key_of(self, row: tuple[Any, ...]) -> Key:
        """The key of a row that `read` gave."""


@runtime_checkable
class GivesTables(Protocol):
    """What a source may do besides: hand its records to vectorized functions as Arrow tables."""

    def read_tables(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """As `Source.read`, with a `table` in each batch that the source can give as one exactly."""


@runtime_checkable
class FindsRecords(Protocol):
    """What a source may do besides: find records by their keys."""

    def find(self, keys: Sequence[Key]) -> Iterator[Batch]:
        """The records that have one of these keys; several where a key is not unique."""


@runtime_checkable
class Replays(Protocol):
    """What a source of dead letters does besides: tell where a row comes from, and what became of a chunk."""

    def origin_of(self, row: tuple[Any, ...]) -> Origin:
        """The letter that this row is."""

    def record_of(self, row: tuple[Any, ...]) -> Record:
        """The record, or, where that is missing, what the letter holds of it."""

    def missing(self, row: tuple[Any, ...]) -> Exception | None:
        """Why this row has no record to process; None when it has one, as have then all rows of its batch."""

    def settle(self, chunk: ChunkRange, run_id: str) -> None:
        """Resolve the letters of a chunk that is committed, but for those that it buried again; harmless to repeat."""


@runtime_checkable
class OfFiles(Protocol):
    """What a source of files has besides: the files that the pass reads."""

    @property
    def files(self) -> FileList:
        """The files of the pass, in the order in which they are read."""


class SinkTransaction(Protocol):
    """One chunk's transaction; without `commit` nothing of it stays."""

    def write(self, records: list[Record]) -> None:
        """Write these records, all or an error; after an error only the savepoint around it can be left.

        Raises:
            RecordError: a record cannot be written as it is.
            Exception: the sink refused.
        """

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what was written in the block, and only that, when it raises."""

    def find(self) -> dict[str, Any] | None:
        """The chunk's result, if an earlier attempt of it was committed and the sink knows."""

    def record(self, result: dict[str, Any]) -> None:
        """Have the chunk's result committed with it, for `find`."""

    def commit(self) -> None:
        """Make everything written durable."""


@runtime_checkable
class WritesOneByOne(Protocol):
    """What a transaction may do besides: write rows singly, where that is quicker than to look for the bad ones."""

    def write_one_by_one(self, rows: list[Record] | pa.Table) -> dict[int, Exception | None] | None:
        """Write the rows, each for itself, in their order; those that were refused, by their place, and why.

        No error where only a write of that row alone would tell why; None when it cannot do that with these rows. After
        an error only the savepoint around it can be left.
        """


@runtime_checkable
class TakesTables(Protocol):
    """What a sink's transaction may do besides: take the outputs of vectorized functions as they are."""

    def write_table(self, table: pa.Table) -> None:
        """As `SinkTransaction.write`, for the rows of a table; in columns of any type, and in any number of chunks.

        Raises:
            RecordError: a record cannot be written as it is.
            Exception: the sink refused.
        """


class Sink(End, Protocol):
    """Takes the rows of a chunk, all or none."""

    @property
    def needs_ledger(self) -> bool:
        """Whether a repeated chunk would write its rows twice, were it not for `SinkTransaction.find`."""

    @property
    def held_rows(self) -> int:
        """How many rows are best held in memory before the transaction begins; 0 for none."""

    def check(self, source_schema: pa.Schema) -> list[str]:
        """Warnings about the sink, each a sentence.

        Raises:
            BadSink: it cannot be written as asked for.
        """

    def begin_pass(self, pass_: PassRef) -> None:
        """Make the sink ready for a new pass: remove what is left of an earlier one of this number."""

    def prepare(self, records: Sequence[Record], source_schema: pa.Schema) -> None:
        """Make what is missing of the sink from these first records, where that was asked for.

        Raises:
            BadSink: it is missing and may not be made, or not from these records.
        """

    def transaction(self, pass_: PassRef, chunk: ChunkRange) -> AbstractContextManager[SinkTransaction]:
        """A transaction, rolled back at the end of the block unless it was committed."""

    def end_pass(self, pass_: PassRef) -> None:
        """Do what is to be done when a pass is complete; harmless to repeat."""
