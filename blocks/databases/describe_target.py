"""Describes a sink's table as it is now."""

from sqlalchemy import Engine

from prefect_batch.blocks.databases.dialect import Dialect
from prefect_batch.blocks.databases.target import Target


def describe_target(
    engine: Engine, dialect: Dialect, name: str, schema: str | None, key: tuple[str, ...]
) -> Target | None:
    """Return the table, or None if it does not exist."""
    columns = dialect.table_columns(engine, name, schema)
    if columns is None:
        return None
    types = {c.name: c.type for c in columns}
    with engine.connect() as connection:
        indexes = tuple(dialect.unique_indexes(connection, name, schema))
        there = tuple(column for column in key if column in types)
        loose = dialect.loose_keys(connection, name, schema, there) if there else ()
    return Target(name, schema, key, types, indexes, dialect.column_fit, loose)
