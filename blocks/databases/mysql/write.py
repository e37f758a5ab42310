"""Writing to MariaDB and MySQL: many rows a statement where that is safe, else row by row."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy import types as sql

from prefect_batch.blocks.batches import Record
from prefect_batch.blocks.databases.rows import Same, same_columns
from prefect_batch.blocks.databases.standard import write_rows
from prefect_batch.blocks.databases.statements import quoted_table
from prefect_batch.blocks.databases.target import Target

__all__ = ["write_mysql"]

_PLAIN = {int, float, str, bytes, bool, type(None)}


def write_mysql(connection: Connection, target: Target, write: str, records: list[Record]) -> None:
    """As `Dialect.write`.

    ON DUPLICATE KEY acts on whichever unique key collides, so it is used only where the declared one is the only one.
    """
    for same in same_columns(records, target):
        stored = Same(same.names, [_stored(c, n, target) for n, c in zip(same.names, same.columns, strict=True)])
        if write == "insert" or (write == "upsert" and target.only_key_is_unique):
            connection.exec_driver_sql(_insert(connection, target, same.names, upsert=write == "upsert"), stored.rows)
        else:
            write_rows(connection, target, write, stored)


def _insert(connection: Connection, target: Target, names: tuple[str, ...], *, upsert: bool) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    columns = [quote(name) for name in names]
    statement = (
        f"INSERT INTO {quoted_table(target, quote)} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(names))})"
    )
    if not upsert:
        return statement
    others = [f"{c} = VALUES({c})" for c, name in zip(columns, names, strict=True) if name not in target.key]
    first = quote(target.key[0])
    return f"{statement} ON DUPLICATE KEY UPDATE {', '.join(others) or f'{first} = {first}'}"


def _stored(column: Sequence[Any], name: str, target: Target) -> Sequence[Any]:
    """The values with what the driver would drop or not take put into words: zones, UUIDs, JSON, numpy's numbers."""
    if set(map(type, column)) <= _PLAIN:
        return column
    return [_storable(value, target.types[name]) for value in column]


def _storable(value: Any, column: sql.TypeEngine[Any]) -> Any:
    if isinstance(value, datetime):
        if value != value:  # noqa: PLR0124 - pandas.NaT
            return None
        # The driver writes a datetime without its zone; the session's zone is UTC.
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, UUID):
        return value.hex if getattr(column, "length", None) == 32 else str(value)
    if isinstance(value, (dict, list)) and isinstance(column, (sql.JSON, sql.String)):
        return json.dumps(value)  # MariaDB's JSON is a LONGTEXT.
    if hasattr(value, "item") and type(value).__module__ == "numpy":
        return value.item()
    return value
