"""What some records of a batch became: items, or a table; of both, length and slices count records."""

from collections.abc import Sequence

import pyarrow as pa

from prefect_batch.blocks.arrow_values import records_of
from prefect_batch.blocks.contracts import SinkTransaction, TakesTables
from prefect_batch.blocks.item_table import ItemRows, ItemTable
from prefect_batch.blocks.values import Item, Record

__all__ = ["Outputs", "first_records", "places", "row_count", "rows_of", "write_outputs", "written"]

Outputs = Sequence[Item] | ItemTable
# The sink's table may have to be made from so many.
FIRST_ROWS = 1_000


def places(outputs: Outputs) -> list[int]:
    """The places of the records in their batch."""
    return outputs.places if isinstance(outputs, (ItemRows, ItemTable)) else [item.index for item in outputs]


def row_count(outputs: Outputs) -> int:
    """How many rows there are to write."""
    if isinstance(outputs, ItemTable):
        return int(outputs.table.num_rows)
    return len(outputs) if isinstance(outputs, ItemRows) else sum(len(item.rows) for item in outputs)


def first_records(outputs: Outputs) -> list[Record]:
    """Rows to write, as records: all, or of a table the first."""
    return records_of(outputs.table.slice(0, FIRST_ROWS)) if isinstance(outputs, ItemTable) else _records(outputs)


def _records(items: Sequence[Item]) -> list[Record]:
    return items.rows if isinstance(items, ItemRows) else [row for item in items for row in item.rows]


def rows_of(outputs: Outputs) -> list[Record] | pa.Table:
    """The rows to write, as they are."""
    return outputs.table if isinstance(outputs, ItemTable) else _records(outputs)


def write_outputs(transaction: SinkTransaction, outputs: Outputs) -> None:
    """Write the rows, all or an error."""
    if not isinstance(outputs, ItemTable):
        transaction.write(_records(outputs))
    elif isinstance(transaction, TakesTables):
        transaction.write_table(outputs.table)
    else:
        transaction.write(records_of(outputs.table))


def written(outputs: list[Outputs], refused: list[tuple[Outputs, Exception]]) -> tuple[int, int]:
    """How many records were written, and how many rows."""
    records, rows = sum(map(len, outputs)), sum(map(row_count, outputs))
    return records - len(refused), rows - sum(row_count(one) for one, _ in refused)
