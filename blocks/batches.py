"""Batches: the records that are in memory at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_batch.blocks.keys import Key

if TYPE_CHECKING:
    import pyarrow as pa

    from prefect_batch.blocks.kinds.record import Record


# A batch has fewer rows than it may if they take more bytes than about this.
BATCH_BYTES = 32 * 2**20


class Batch:
    """The rows that are in memory at once, as tuples or as an Arrow table.

    A tuple has the values in the order of the names, and may have more values behind them.

    Attributes:
        names: The names of the columns.
        table: The rows as a table. None if the source gave tuples.
        row_bytes: Roughly how many bytes a row takes in memory.
        unreadable: Records that the source found among the rows and cannot read.
    """

    unreadable: "Sequence[Unreadable]" = ()

    def __init__(
        self,
        names: tuple[str, ...],
        rows: list[tuple[Any, ...]] | None = None,
        row_bytes: int = 0,
        *,
        table: "pa.Table | None" = None,
    ) -> None:
        if (rows is None) == (table is None):
            raise ValueError("a batch has rows or a table")
        self.names, self.table, self.row_bytes = names, table, row_bytes
        self._rows = rows

    def __len__(self) -> int:
        if self._rows is not None:
            return len(self._rows)
        assert self.table is not None
        return int(self.table.num_rows)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples, which are made from `table` on first access."""
        if self._rows is None:
            from prefect_batch.blocks.kinds.convert import values_of

            assert self.table is not None
            self._rows = list(zip(*map(values_of, self.table.columns), strict=True))
        return self._rows

    def row(self, index: int) -> tuple[Any, ...]:
        """Return one row as a tuple, without converting the other rows."""
        if self._rows is not None:
            return self._rows[index]
        from prefect_batch.blocks.kinds.convert import values_of

        assert self.table is not None
        return tuple(values_of(column.slice(index, 1))[0] for column in self.table.columns)


@dataclass(frozen=True)
class Unreadable:
    """A record that cannot be read, and the reason.

    Attributes:
        raw: The bytes of a record of a file.
        line: The number of the record's line, from 1. None if it is not known.
        record: The record of another source, with what could not be read as an object that shows its text.
    """

    key: Key
    raw: bytes = b""
    line: int | None = None
    reason: str = ""
    record: "Record | None" = None


class FileBatch(Batch):
    """A batch of a file, whose rows do not contain their key: `row` appends the key that `key_at` returns."""

    def __init__(
        self,
        names: tuple[str, ...],
        rows: list[tuple[Any, ...]] | None = None,
        row_bytes: int = 0,
        *,
        table: "pa.Table | None" = None,
        key_at: Callable[[int], Key],
        unreadable: Sequence[Unreadable] = (),
    ) -> None:
        super().__init__(names, rows, row_bytes, table=table)
        self._key_at = key_at
        self.unreadable = unreadable

    def row(self, index: int) -> tuple[Any, ...]:
        """Return the row's values in the order of the names, followed by the values of its key."""
        return (*super().row(index), *self._key_at(index))
