"""The records that are in memory at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_batch.blocks.keys import Key

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Batch", "FileBatch", "Unreadable"]


class Batch:
    """Rows in memory at once: the columns' names, and the rows as tuples in the order of the names, or as a `table`.

    Rows may be longer than the names. `table` is None where the source gave tuples; where it gave a table, `rows` are
    made from that when they are first asked for. `row_bytes` is about what a row takes in memory. `unreadable` are
    records that the source found beside the rows and cannot read.
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
        """All rows as tuples."""
        if self._rows is None:
            from prefect_batch.blocks.kinds.convert import values_of

            assert self.table is not None
            self._rows = list(zip(*map(values_of, self.table.columns), strict=True))
        return self._rows

    def row(self, index: int) -> tuple[Any, ...]:
        """One row as a tuple, without making all of them."""
        if self._rows is not None:
            return self._rows[index]
        assert self.table is not None
        return tuple(column[index].as_py() for column in self.table.columns)


@dataclass(frozen=True)
class Unreadable:
    """A record of a file that cannot be read: its bytes as they are, its line if that is known, and why."""

    key: Key
    raw: bytes
    line: int | None
    reason: str


class FileBatch(Batch):
    """A batch whose rows do not hold their key: `key_at` tells it, and `row` has it behind the values."""

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
        """The row's values in the order of the names, and then its key's."""
        return (*super().row(index), *self._key_at(index))
