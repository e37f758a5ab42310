"""The outputs of many records, with the record that each row comes from: by rows, or as columns."""

import itertools
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
from typing_extensions import Self

from prefect_batch.blocks.values import Item, Record

__all__ = ["ItemRows", "ItemTable", "join_tables"]


class ItemRows(Sequence[Item]):
    """Items of one row each, kept as places and rows: an object for each would take half a microsecond more."""

    def __init__(self, places: list[int], rows: list[Record]) -> None:
        self.places, self.rows = places, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, part: int) -> Item: ...

    @overload
    def __getitem__(self, part: slice) -> "ItemRows": ...

    def __getitem__(self, part: int | slice) -> "Item | ItemRows":
        if isinstance(part, slice):
            return ItemRows(self.places[part], self.rows[part])
        return Item(self.places[part], [self.rows[part]])


class ItemTable:
    """What records of a batch became: row *i* of `table` comes from the record at the place ``origins[i]``.

    Its length is a number of records, each with one row or more; a slice of it is a part of these records.
    """

    def __init__(self, table: pa.Table, origins: "np.ndarray[Any, Any]") -> None:
        if len(origins) != table.num_rows:
            raise ValueError("every row has one origin")
        if (origins[1:] < origins[:-1]).any():
            order = np.argsort(origins, kind="stable")  # A record's rows in their order: the last one wins.
            table, origins = table.take(pa.array(order)), origins[order]
        self.table, self.origins = table, origins
        # Where each record's rows begin, and where the last one's end.
        changes = np.flatnonzero(origins[1:] != origins[:-1]) + 1
        self._bounds = [0, *changes.tolist(), len(origins)] if len(origins) else [0]

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, part: slice) -> Self:
        start, stop, _ = part.indices(len(self))
        first, last = self._bounds[start], self._bounds[max(start, stop)]
        return type(self)(self.table.slice(first, last - first), self.origins[first:last])

    @property
    def places(self) -> list[int]:
        """The places of the records in their batch, in order."""
        found: list[int] = self.origins[self._bounds[:-1]].tolist()
        return found


def join_tables(parts: Sequence[Any]) -> list[Any]:
    """The parts in their order, with neighbouring tables of the same columns made one."""
    joined: list[Any] = []
    for alike, group in itertools.groupby(parts, key=_columns):
        tables = list(group)
        if alike is None or len(tables) == 1:
            joined += tables
        else:
            rows = pa.concat_tables([part.table for part in tables])
            joined.append(ItemTable(rows, np.concatenate([part.origins for part in tables])))
    return joined


def _columns(part: Any) -> pa.Schema | None:
    return part.table.schema if isinstance(part, ItemTable) else None
