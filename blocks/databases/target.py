"""What a sink's table is: its columns and types, and which of its keys are unique."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, inspect
from sqlalchemy import types as sql

from prefect_batch.blocks.databases.columns import table_columns

__all__ = ["Target", "describe_target"]


@dataclass(frozen=True)
class Target:
    """A sink's table. `unique` holds the column sets of its unique keys.

    `obstacles` is why rows cannot be written to it in the simplest way: what those who tried ran into.
    """

    name: str
    schema: str | None
    key: tuple[str, ...]
    types: dict[str, sql.TypeEngine[Any]]
    unique: frozenset[frozenset[str]]
    obstacles: set[str] = field(default_factory=set, compare=False)

    @property
    def key_is_unique(self) -> bool:
        """Whether the database itself keeps two rows with one key apart."""
        return frozenset(self.key) in self.unique

    @property
    def only_key_is_unique(self) -> bool:
        """Whether the key is the only thing in which a row can collide with another."""
        return self.unique == {frozenset(self.key)}


def describe_target(engine: Engine, name: str, schema: str | None, key: tuple[str, ...]) -> Target | None:
    """The table as it is now; None if there is none."""
    columns = table_columns(engine, name, schema)
    if columns is None:
        return None
    inspector = inspect(engine)
    unique = {frozenset(inspector.get_pk_constraint(name, schema).get("constrained_columns") or ())}
    for constraint in inspector.get_unique_constraints(name, schema):
        unique.add(frozenset(constraint["column_names"]))
    for index in inspector.get_indexes(name, schema):
        # A partial index, or one on an expression, keeps only some rows apart.
        partial = any("where" in option for option in index.get("dialect_options", {}))
        if index["unique"] and not partial and None not in index["column_names"]:
            unique.add(frozenset(filter(None, index["column_names"])))
    types = {c.name: c.type for c in columns}
    return Target(name, schema, key, types, frozenset(unique - {frozenset()}))
