"""Values that a database has and its driver cannot decode, such as ``infinity`` for a date."""

from collections.abc import Callable, Sequence
from typing import Any

from prefect_batch.blocks.batches import Unreadable
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.undecoded import Undecoded

Rows = list[tuple[Any, ...]]


class DamagedRows(list[tuple[Any, ...]]):
    """Rows of which some have values that are `Undecoded`."""


def marked(rows: Rows) -> Rows:
    """Return the rows as `DamagedRows` if one of them has an `Undecoded` value."""
    return DamagedRows(rows) if any(map(_is_damaged, rows)) else rows


def _is_damaged(row: Sequence[Any]) -> bool:
    return Undecoded in map(type, row)


def separated(
    rows: Rows, names: Sequence[str], key_of: Callable[[tuple[Any, ...]], Key], source: str
) -> tuple[Rows, list[Unreadable]]:
    """Return the rows that could be decoded, and the others as unreadable records. Messages call the source `source`.

    Raises:
        BadSource: the key of a row could not be decoded.
    """
    unreadable: list[Unreadable] = []
    for row in filter(_is_damaged, rows):
        record = dict(zip(names, row, strict=False))
        column = next((name for name, value in record.items() if isinstance(value, Undecoded)), None)
        key = key_of(row)
        if column is None or any(isinstance(value, Undecoded) for value in key):
            raise undecoded_key(source, str(key))
        unreadable.append(
            Unreadable(
                key,
                record=record,
                reason=f"column {column} is {record[column]!r}, which the driver cannot make a Python value of: leave "
                "the column out with columns=[…], read it with a Query that casts it to text, or change it",
            )
        )
    return [row for row in rows if not _is_damaged(row)], unreadable


def undecoded_key(source: str, reason: str) -> BadSource:
    """Return the error for a key that cannot be decoded."""
    return BadSource(
        f"{source} has a key that the driver cannot make a Python value of: {reason}; change it, or exclude it with "
        "where=…",
        source,
    )
