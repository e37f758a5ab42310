"""A sink's table: its columns and types, and which of its keys are unique."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import types as sql

from prefect_batch.blocks.databases.column_types import column_fit
from prefect_batch.blocks.errors import RowSkipped, TooManyRows
from prefect_batch.blocks.kinds.fit import Fit


@dataclass(frozen=True)
class UniqueIndex:
    """A unique index of a table, or a constraint that has one.

    Attributes:
        columns: Its columns in order. An expression has no name, and is left out.
        flaw: Why it allows several rows that a comparison with the key finds, as the end of a sentence about the index.
            None if it does not.
        upsert_flaw: Why an upsert by it would be refused or add a second row, in the same form.
    """

    name: str
    columns: tuple[str, ...]
    flaw: str | None = None
    upsert_flaw: str | None = None


UniqueIndexes = Callable[[Connection, str, str | None], list[UniqueIndex]]


@dataclass(frozen=True)
class Target:
    """A sink's table.

    Attributes:
        indexes: Its unique indexes.
        column_fit: Returns what a column of a type takes: the dialect's.
        loose: The columns of the key in which the table takes different texts for equal.
        obstacles: The names of the errors that earlier attempts to write in the simplest way ran into.
    """

    name: str
    schema: str | None
    key: tuple[str, ...]
    types: dict[str, sql.TypeEngine[Any]]
    indexes: tuple[UniqueIndex, ...] = ()
    column_fit: Callable[[sql.TypeEngine[Any]], Fit] = field(default=column_fit, compare=False)
    loose: tuple[str, ...] = ()
    obstacles: set[str] = field(default_factory=set, compare=False)

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """What each column takes."""
        return {name: self.column_fit(column) for name, column in self.types.items()}

    @property
    def skips(self) -> bool:
        """Whether the database has left out a row without an error, so that counts prove nothing."""
        return RowSkipped.__name__ in self.obstacles

    @property
    def of_key(self) -> list[UniqueIndex]:
        """The unique indexes on just the key, in any order, whatever their flaws."""
        return [index for index in self.indexes if set(index.columns) == set(self.key)]

    @property
    def only_key_is_unique(self) -> bool:
        """Whether rows can collide only by the key, compared in full."""
        return len(self.of_key) == len(self.indexes) and not any(index.flaw for index in self.indexes)

    def flaws(self, write: str) -> list[str]:
        """Return what is wrong with each unique index on the key, or nothing if one of them suits this mode."""
        found = [(index, index.flaw or (index.upsert_flaw if write == "upsert" else None)) for index in self.of_key]
        if any(flaw is None for _, flaw in found):
            return []
        return [f"the unique index {index.name} {flaw}" for index, flaw in found]


def check_count(target: Target, sent: int, done: int) -> None:
    """Compare the rows that a statement was to write with those that the database says it has written.

    Args:
        target: The table.
        sent: The rows that were sent.
        done: The rows that were written, or -1 if the driver does not report that.

    Raises:
        RowSkipped: some were left out, for the first time.
        TooManyRows: there are more.
    """
    if done > sent:
        raise TooManyRows(target.name, done, sent)
    if 0 <= done < sent and not target.skips:
        raise RowSkipped(target.name)
