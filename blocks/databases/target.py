"""A sink's table: its columns and types, and which of its keys are unique."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, inspect
from sqlalchemy import types as sql

from prefect_batch.blocks.databases.columns import table_columns


@dataclass(frozen=True)
class Target:
    """A sink's table.

    Attributes:
        unique: The column sets of its unique keys.
        obstacles: The names of the errors that earlier attempts to write in the simplest way ran into.
    """

    name: str
    schema: str | None
    key: tuple[str, ...]
    types: dict[str, sql.TypeEngine[Any]]
    unique: frozenset[frozenset[str]]
    obstacles: set[str] = field(default_factory=set, compare=False)

    @property
    def key_is_unique(self) -> bool:
        """Whether the database itself prevents two rows with the same key."""
        return frozenset(self.key) in self.unique

    @property
    def only_key_is_unique(self) -> bool:
        """Whether rows can collide only by the key."""
        return self.unique == {frozenset(self.key)}


def describe_target(engine: Engine, name: str, schema: str | None, key: tuple[str, ...]) -> Target | None:
    """Return the table as it is now, or None if it does not exist."""
    columns = table_columns(engine, name, schema)
    if columns is None:
        return None
    inspector = inspect(engine)
    unique = {frozenset(inspector.get_pk_constraint(name, schema).get("constrained_columns") or ())}
    for constraint in inspector.get_unique_constraints(name, schema):
        unique.add(frozenset(constraint["column_names"]))
    for index in inspector.get_indexes(name, schema):
        # A partial index, or one on an expression, makes only some rows unique.
        partial = any("where" in option for option in index.get("dialect_options", {}))
        if index["unique"] and not partial and None not in index["column_names"]:
            unique.add(frozenset(filter(None, index["column_names"])))
    types = {c.name: c.type for c in columns}
    return Target(name, schema, key, types, frozenset(unique - {frozenset()}))
