"""The outputs of some records of a batch, as items or as a table. Length and slices count records."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

import numpy as np
import pyarrow as pa

from prefect_batch.blocks.capabilities import TakesTables
from prefect_batch.blocks.contracts import SinkTransaction
from prefect_batch.blocks.kinds.convert import records_of
from prefect_batch.blocks.kinds.of_values import schema_with
from prefect_batch.blocks.kinds.record import Record


@dataclass(slots=True)
class Item:
    """One source record's output: its place in the batch, and the rows to write for it."""

    index: int
    rows: list[Record]


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
    """Outputs as a table: row *i* of `table` comes from the record at the index ``origins[i]`` of the batch.

    Its length is a number of records, each with one row or more. A slice of it is a part of these records.
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


Outputs = Sequence[Item] | ItemTable
# The sink's table may have to be made from so many.
FIRST_ROWS = 1_000


def places(outputs: Outputs) -> list[int]:
    """Return the places of the records in their batch."""
    return outputs.places if isinstance(outputs, (ItemRows, ItemTable)) else [item.index for item in outputs]


def row_count(outputs: Outputs) -> int:
    """Return how many rows there are to write."""
    if isinstance(outputs, ItemTable):
        return int(outputs.table.num_rows)
    return len(outputs) if isinstance(outputs, ItemRows) else sum(len(item.rows) for item in outputs)


def first_records(outputs: Outputs) -> list[Record]:
    """Return the rows to write as records: all of them, or only the first of a table."""
    return records_of(outputs.table.slice(0, FIRST_ROWS)) if isinstance(outputs, ItemTable) else _records(outputs)


def known_schema(outputs: Outputs, source: pa.Schema) -> pa.Schema:
    """Return the source's schema, with the types of a table for what the source does not have."""
    return schema_with(outputs.table.schema, source) if isinstance(outputs, ItemTable) else source


def _records(items: Sequence[Item]) -> list[Record]:
    return items.rows if isinstance(items, ItemRows) else [row for item in items for row in item.rows]


def rows_of(outputs: Outputs) -> list[Record] | pa.Table:
    """Return the rows to write, as they are."""
    return outputs.table if isinstance(outputs, ItemTable) else _records(outputs)


def write_outputs(transaction: SinkTransaction, outputs: Outputs) -> None:
    """Write the rows, all or an error."""
    if not isinstance(outputs, ItemTable):
        transaction.write(_records(outputs))
    elif isinstance(transaction, TakesTables):
        transaction.write_table(outputs.table)
    else:
        transaction.write(records_of(outputs.table))


def written(outputs: list[Outputs], refused: list[tuple[Outputs, BaseException]]) -> tuple[int, int]:
    """Return how many records were written, and how many rows."""
    records, rows = sum(map(len, outputs)), sum(map(row_count, outputs))
    return records - len(refused), rows - sum(row_count(one) for one, _ in refused)


def join_tables(parts: Sequence[Any]) -> list[Any]:
    """Return the parts in their order, with adjacent tables of the same columns joined."""
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
