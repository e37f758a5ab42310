"""Arranges records to write by columns, and refuses what a sink cannot take."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.errors import BadOutput, DoesNotFit, UnknownColumn
from prefect_batch.blocks.kinds.fit import fitted, misfits
from prefect_batch.blocks.kinds.plain import PLAIN, storable_values
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.suggestions import near


@dataclass(frozen=True)
class Same:
    """Rows that have the same columns: the columns' names, and the values of each.

    `first` is the place of the first of them among all rows that are written.
    """

    names: tuple[str, ...]
    columns: list[Sequence[Any]]
    first: int = 0

    @cached_property
    def types(self) -> list[set[type]]:
        """The types of the values of each column."""
        return [set(map(type, column)) for column in self.columns]

    def fitted(self, target: Target, ready: Collection[str] = ()) -> "Same":
        """Return the rows with values as the table's columns take them. Those of the columns `ready` already are.

        Raises:
            DoesNotFit: a column cannot have a value.
        """
        try:
            columns = [
                column if name in ready else fitted(column, types, target.fits[name], f"column {name}")
                for name, column, types in zip(self.names, self.columns, self.types, strict=True)
            ]
        except DoesNotFit as error:
            error.refused_row = None if error.refused_row is None else error.refused_row + self.first
            raise
        return Same(self.names, columns, self.first)

    def fitting(self, target: Target) -> tuple["Same", list[int], dict[int, Exception | None]]:
        """Return the rows that fit, as `fitted` returns them, their places, and the errors of the others by place."""
        refused: dict[int, Exception | None] = {}
        for name, column, types in zip(self.names, self.columns, self.types, strict=True):
            refused = {**misfits(column, types, target.fits[name], f"column {name}"), **refused}
        if not refused:
            return self.fitted(target), list(range(len(self.columns[0]))), refused
        places = [place for place in range(len(self.columns[0])) if place not in refused]
        kept = Same(self.names, [[column[place] for place in places] for column in self.columns])
        return kept.fitted(target), places, refused

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """One tuple per row, in the order of the names."""
        return list(zip(*self.columns, strict=True))


def same_columns(records: Sequence[Record], target: Target) -> Iterator[Same]:
    """Yield the records in their order, in groups of the same columns.

    Raises:
        UnknownColumn: a record has a column that the table does not have.
        BadOutput: a record has no value for a key column.
    """
    for same in _all_alike(records) or _cut(records):
        _check_names(same.names, target)
        for name in target.key:
            # A NULL in the key would be another row each time the chunk is repeated.
            if any(value is None for value in same.columns[same.names.index(name)]):
                raise _no_key(name, target)
        yield same


def _all_alike(records: Sequence[Record]) -> list[Same] | None:
    """Return the records in the columns of the first, or None if one of them has other columns."""
    if len(set(map(len, records))) > 1:
        return None
    try:
        return [_columns(tuple(records[0]), records)]
    except KeyError:
        return None


def _cut(records: Sequence[Record]) -> Iterator[Same]:
    first = 0
    for names, group in groupby(records, key=lambda record: tuple(sorted(record))):
        alike = list(group)
        yield _columns(names, alike, first)
        first += len(alike)


def _columns(names: tuple[str, ...], records: Sequence[Record], first: int = 0) -> Same:
    return plain_columns(names, [list(map(itemgetter(name), records)) for name in names], first)


def plain_columns(names: tuple[str, ...], columns: list[Sequence[Any]], first: int = 0) -> Same:
    """Return the columns with Python's own values.

    Raises:
        DoesNotFit: databases do not have such a value, and it would have to be altered.
    """
    same = Same(names, columns, first)
    if all(types <= PLAIN for types in same.types):
        return same
    plain = [storable_values(column, f"column {name}") for name, column in zip(names, columns, strict=True)]
    return Same(names, plain, first)


def _check_names(names: tuple[str, ...], target: Target) -> None:
    for name in names:
        if name not in target.types:
            raise UnknownColumn(f"table {target.name} has no column {name}: {near(str(name), target.types)}")
    for name in target.key:
        if name not in names:
            raise _no_key(name, target)


def _no_key(name: str, target: Target) -> BadOutput:
    return BadOutput(f"the record has no value for the key column {name} of table {target.name}")


def last_of_each_key(same: Same, target: Target) -> Same:
    """Return the rows, with only the last row of each key, which is what writing them one by one would leave.

    If Python takes two keys for different and the database takes them for equal, the database refuses them.
    """
    places = _last_places([same.columns[same.names.index(name)] for name in target.key])
    if places is None:
        return same
    return Same(same.names, [[column[place] for place in places] for column in same.columns], same.first)


def _last_places(key: list[Sequence[Any]]) -> list[int] | None:
    """Return the place of the last row of each key.

    Returns:
        None if no key occurs twice, or if a key cannot be hashed.
    """
    keys: Any = key[0] if len(key) == 1 else list(zip(*key, strict=True))
    try:
        if len(set(keys)) == len(keys):
            return None
    except TypeError:  # A key that cannot be hashed, such as a list.
        return None
    return sorted({value: place for place, value in enumerate(keys)}.values())


def check_table(table: pa.Table, target: Target) -> None:
    """Check that the target has the table's columns, and that no key is NULL.

    Raises:
        UnknownColumn: the target does not have a column.
        BadOutput: a key column has no value, or two columns have the same name.
    """
    names = tuple(table.column_names)
    if len(set(names)) < len(names):
        raise BadOutput(f"the records have two columns of one name: {', '.join(names)}")
    _check_names(names, target)
    for name in target.key:
        if table.column(name).null_count:
            raise _no_key(name, target)


def last_of_each_key_in(table: pa.Table, target: Target) -> pa.Table:
    """Return the table with only the last row of each key, as `last_of_each_key`."""
    places = _last_places([table.column(name).to_pylist() for name in target.key])
    return table if places is None else table.take(pa.array(np.array(places)))
