"""Batches: the records that are in memory at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from prefect_batch.blocks.keys import Key

if TYPE_CHECKING:
    import pyarrow as pa

    from prefect_batch.blocks.kinds.record import Record


# A batch has fewer rows than it may if they take more bytes than about this.
BATCH_BYTES = 32 * 2**20


class _Absent(Enum):
    ABSENT = "absent"


# What a row has for a column that its record does not have, as a line of JSON may lack a key. It is not NULL.
ABSENT = _Absent.ABSENT


class Batch:
    """The rows that are in memory at once, as tuples or as an Arrow table.

    A tuple has the values in the order of the names, and may have more values behind them.

    Attributes:
        names: The names of the columns.
        table: The rows as a table. None if the source gave tuples.
        row_bytes: Roughly how many bytes a row takes in memory.
        gaps: Whether a row may be `ABSENT` in a column. Tables have NULL there.
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
        gaps: bool = False,
    ) -> None:
        if (rows is None) == (table is None):
            raise ValueError("a batch has rows or a table")
        self.names, self.table, self.row_bytes, self.gaps = names, table, row_bytes, gaps
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

    def record(self, row: tuple[Any, ...]) -> "Record":
        """Return the record that a row is."""
        return {name: value for name, value in zip(self.names, row, strict=False) if value is not ABSENT}


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
    """A batch of a file, whose rows do not contain their key: `row` appends the key that `key_at` returns.

    `absent` returns the columns that records of the table do not have, by the index of the row.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        rows: list[tuple[Any, ...]] | None = None,
        row_bytes: int = 0,
        *,
        table: "pa.Table | None" = None,
        key_at: Callable[[int], Key],
        unreadable: Sequence[Unreadable] = (),
        gaps: bool = False,
        absent: Callable[[], Mapping[int, Iterable[str]]] | None = None,
    ) -> None:
        super().__init__(names, rows, row_bytes, table=table, gaps=gaps or absent is not None)
        self._key_at, self._absent = key_at, absent
        self.unreadable = unreadable

    def row(self, index: int) -> tuple[Any, ...]:
        """Return the row's values in the order of the names, followed by the values of its key."""
        if self._absent is not None:
            return (*self.rows[index], *self._key_at(index))
        return (*super().row(index), *self._key_at(index))

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples, without their keys."""
        rows = super().rows
        if self._absent is not None:
            for index, missing in self._absent().items():
                pairs = zip(self.names, rows[index], strict=True)
                rows[index] = tuple(ABSENT if name in missing else value for name, value in pairs)
            self._absent = None
        return rows
