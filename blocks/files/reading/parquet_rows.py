"""Separates the rows of Parquet that Python can have from those with a value that it cannot."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from prefect_batch.blocks.batches import Unreadable
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.convert import values_of
from prefect_batch.blocks.kinds.readable import unreadable_values, value_text
from prefect_batch.blocks.kinds.undecoded import Undecoded


def unreadable_cells(table: pa.Table) -> dict[int, dict[str, str]]:
    """Return why values of some rows cannot be read: by the index of the row, and by column."""
    found: dict[int, dict[str, str]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        for index, reason in unreadable_values(column).items():
            found.setdefault(index, {})[name] = reason
    return found


def readable_rows(table: pa.Table, bad: dict[int, dict[str, str]]) -> "np.ndarray[Any, Any]":
    """Return the indexes of the other rows."""
    return np.delete(np.arange(table.num_rows), sorted(bad))


def unreadable_records(
    table: pa.Table, bad: dict[int, dict[str, str]], key_at: Callable[[int], Key]
) -> list[Unreadable]:
    """Return these rows as unreadable records, which show the text of the values that cannot be read."""
    return [_record(table, index, reasons, key_at(index)) for index, reasons in sorted(bad.items())]


def _record(table: pa.Table, index: int, reasons: dict[str, str], key: Key) -> Unreadable:
    record: dict[str, Any] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in reasons:
            record[name] = Undecoded(value_text(column, index))
        else:
            record[name] = values_of(column.slice(index, 1))[0]
    name, reason = next(iter(reasons.items()))
    return Unreadable(
        key,
        record=record,
        reason=f"column {name} is {record[name]!r} ({table.schema.field(name).type}), of which Python has no value "
        f"({reason}): leave the column out with columns=[…], or write the file again with another value or type",
    )
