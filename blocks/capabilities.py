"""Optional capabilities of an end, which a run uses if the end has their methods.

The rules of `blocks.contracts` hold for them, too, such as that every call may be repeated, and come from several
threads at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import pyarrow as pa

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.dead_letter import Origin
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.key_sum import KeySum
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.record import Record

# Whether a sink writes to the rows that its source reads.
InPlace = Literal["no", "perhaps", "yes"]


@runtime_checkable
class MeetsItsSource(Protocol):
    """An optional capability of a sink: to know whether it writes to the rows that the source reads.

    A chunk that is repeated would then read what it has written, and change it again. Unless the answer is ``no``, the
    sink therefore `needs_ledger`. Where the source cannot be told apart from the sink, the answer is ``perhaps``.

    Attributes:
        in_place: The answer. It is set when the sink is opened again for a chunk.
    """

    in_place: InPlace

    def meet(self, source: Source) -> None:
        """Find the answer, which connects. It is called before `Sink.check`.

        Raises:
            BadSink: The sink cannot be written while this source is read.
        """


@runtime_checkable
class AbandonsPasses(Protocol):
    """An optional capability of a sink whose rows stay when a pass is given up: to tell how many, and to end it."""

    def committed(self, pass_: PassRef) -> int | None:
        """Return how many rows of an unfinished pass the sink has, or None if it cannot tell."""

    def abandon(self, pass_: PassRef) -> None:
        """Let no chunk of this pass be committed any more, by a run that was taken for dead."""


@runtime_checkable
class GivesTables(Protocol):
    """An optional capability of a source: to pass its records to vectorized functions as Arrow tables."""

    def read_tables(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the same records as `Source.read`, with a `table` in each batch that has an exact one.

        A batch whose values Arrow cannot hold exactly has rows, as in `read`.
        """


@runtime_checkable
class CutsExactly(Protocol):
    """The capability of a source whose `edges` are only about as far apart as asked for: to cut a range exactly.

    A chunk that is too large is split by it, down to single keys.
    """

    def cut(self, chunk: ChunkRange, rows: int) -> Key:
        """Return the key at which the first `rows` records of the range end, or its `upto` if it has no more.

        It may take as long as reading the range. Records with this key are all within those, or all beyond them.
        """


@runtime_checkable
class FindsRecords(Protocol):
    """An optional capability of a source: to find records by their keys, for a replay that reads them again."""

    def find(self, keys: Sequence[Key]) -> Iterator[Batch]:
        """Yield the records that have one of these keys, in any order.

        A key may belong to no record any more, which is not an error, or to several, which are all yielded. The key of
        each row equals the one that was asked for.
        """


class KeySide(Protocol):
    """One side of a comparison: the keys of an end without its records. Ranges are those of the source."""

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return keys in ``(after, upto]``, as `Source.edges`."""

    def sum(self, chunk: ChunkRange) -> KeySum:
        """Return the sum of the range's keys, each counted once. It is called only if the keys are integers."""

    def keys(self, chunk: ChunkRange) -> Iterator[Key]:
        """Yield the range's keys, each once, in the order of this side."""

    def beyond(self, upto: Key) -> int:
        """Return how many records are beyond this key."""

    def has(self, keys: Iterable[Key], after: Key | None, upto: Key | None) -> set[Key]:
        """Return those of these keys that are in ``(after, upto]``, in comparable form. None as a bound is no bound."""

    def comparable(self, key: Key) -> Key:
        """Return the key in the form in which it equals the same key of another side."""


@runtime_checkable
class KeySet(Protocol):
    """A sink's side of a comparison, if the sink has no order in which ranges of its keys could be read.

    Attributes:
        doubt: What is wrong with the sink itself, as a sentence, or empty.
    """

    doubt: str

    def has(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of these keys of the source that it has.

        Raises:
            TypeError: The keys are of other types, so that none could be equal.
        """

    def others(self, most: int) -> tuple[int, list[Key]]:
        """Return how many keys `has` was never asked for, and at most `most` of them."""


@runtime_checkable
class HoldsKeys(Protocol):
    """An optional capability of a sink: to return the keys of its complete passes, for `reconcile` to compare."""

    def key_set(self, key: tuple[str, ...]) -> KeySet:
        """Return the keys by these columns, which are those of the source's key.

        Raises:
            BadSink: The sink does not have these columns, or no complete pass.
        """


@runtime_checkable
class ComparesKeys(Protocol):
    """An optional capability of an end: to return its keys without its records, for `reconcile` to compare."""

    def key_side(self, key: tuple[str, ...]) -> KeySide:
        """Return the keys by these columns, which are those of the source's key, even if the end is a sink.

        Raises:
            BadSink: The sink does not have these columns.
        """


@runtime_checkable
class ShowsStatements(Protocol):
    """An optional capability of a source: to show how it reads a range, for the preview of a run."""

    def statement_text(self, chunk: ChunkRange) -> str:
        """Return the statement that reads this range, for people."""

    def explain(self, chunk: ChunkRange) -> tuple[str, tuple[str, ...]]:
        """Return a sentence on how the range would be found, and the steps of the plan.

        Returns:
            Both are empty if that is not known.
        """


@runtime_checkable
class Replays(Protocol):
    """The capability of a source of dead letters: to return a row's letter, and to resolve a chunk's letters."""

    @property
    def origin(self) -> Source | None:
        """The job's source, if the records are read there again, or None if they are those of the letters."""

    def origin_of(self, row: tuple[Any, ...]) -> Origin:
        """Return the letter that this row is."""

    def record_of(self, row: tuple[Any, ...]) -> Record:
        """Return the record, or what the letter holds of it if the record is missing."""

    def missing(self, row: tuple[Any, ...]) -> Exception | None:
        """Return why this row has no record to process.

        Returns:
            None if it has one, and then all rows of its batch have one.
        """

    def settle(self, chunk: ChunkRange, run_id: str) -> None:
        """Resolve the letters of a committed chunk, except those that it buried again. The call may be repeated."""


@runtime_checkable
class OfFiles(Protocol):
    """The capability of a source of files: a list of the files of a pass, fixed when the pass begins."""

    @property
    def files(self) -> FileList:
        """The files of the pass in reading order. For a source that was just opened, the files that exist now."""

    def with_files(self, files: FileList) -> Source:
        """Return the same source over these files. Reading a range of changed files raises `DefinitionChanged`."""


@runtime_checkable
class WritesOneByOne(Protocol):
    """An optional capability of a transaction: to write rows one by one, if that finds bad ones faster."""

    def write_one_by_one(self, rows: list[Record] | pa.Table) -> dict[int, Exception | None] | None:
        """Write the rows one by one, in their order, as `SinkTransaction.write` would.

        Returns:
            The refused rows by their place, each with its error, or with None if only writing that row alone would show
            the reason. All others are written. None, with nothing written, if these rows cannot be written this way.
        """


@runtime_checkable
class LeavesRowsOut(Protocol):
    """An optional capability of a transaction: to leave rows out on purpose, whose records count as filtered."""

    @property
    def skipped(self) -> Sequence[int]:
        """The places of the rows of the last write that were left out."""


@runtime_checkable
class TakesTables(Protocol):
    """An optional capability of a transaction: to take the outputs of vectorized functions as they are."""

    def write_table(self, table: pa.Table) -> None:
        """Write the rows of a table, as `SinkTransaction.write` would.

        Args:
            table: Columns of any type, each in any number of Arrow chunks. It may have no rows.
        """
