"""What an end may do besides what its contract asks: an end that has these methods is asked for more.

What `blocks.contracts` says of every end, as that everything may be asked again and by several threads at once, is so
for these, too.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from prefect_batch.blocks.batches import Batch, Record
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.dead_letter import Origin
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.key_sum import KeySum
from prefect_batch.blocks.keys import Key

__all__ = [
    "ComparesKeys",
    "FindsRecords",
    "GivesTables",
    "KeySide",
    "OfFiles",
    "Replays",
    "ShowsStatements",
    "TakesTables",
    "WritesOneByOne",
]


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

        A key may belong to no record any more, which is no error, or to several, which are all yielded. The key of each
        row is equal to the one that was asked for.
        """


class KeySide(Protocol):
    """The keys of an end without its records: one side of a comparison. A range is one of the source's."""

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return keys in ``(after, upto]``, as `Source.edges`."""

    def sum(self, chunk: ChunkRange) -> KeySum:
        """Return the sum of the range's keys, each counted once. It is asked only where keys are integers."""

    def keys(self, chunk: ChunkRange) -> Iterator[Key]:
        """Yield the range's keys, each once, in the order of this side."""

    def beyond(self, upto: Key) -> int:
        """Return how many records lie beyond this key."""

    def has(self, keys: Iterable[Key], after: Key | None, upto: Key | None) -> set[Key]:
        """Return which of these keys lie in ``(after, upto]``, where None is no bound, in their comparable form."""

    def comparable(self, key: Key) -> Key:
        """Return the key in the form in which the same key of another side is equal to it."""


@runtime_checkable
class ComparesKeys(Protocol):
    """What an end may do besides: give its keys without its records, so that `reconcile` can compare both ends."""

    def key_side(self, key: tuple[str, ...]) -> KeySide:
        """Return the keys by these columns, which are those of the source's key; also a sink is asked for them.

        Raises:
            BadSink: It does not have these columns.
        """


@runtime_checkable
class ShowsStatements(Protocol):
    """What a source may do besides: show how it reads a range, for the preview of a run."""

    def statement_text(self, chunk: ChunkRange) -> str:
        """Return the statement that reads this range, for people."""

    def explain(self, chunk: ChunkRange) -> tuple[str, tuple[str, ...]]:
        """Return a sentence on how the range would be found, and the steps of that; both empty if it is not known."""


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
