"""SQL fragments that several databases share."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.engine.interfaces import Dialect as SqlDialect

from prefect_batch.blocks.databases.target import Target

Quote = Callable[[str], str]


def compiled(statement: Select[Any], dialect: SqlDialect) -> tuple[str, Any]:
    """Return the statement as text for the driver, and its parameters as the driver takes them."""
    found = statement.compile(dialect=dialect)
    if found.positional:
        return str(found), tuple(found.params[name] for name in found.positiontup or ())
    return str(found), found.params


def explain(connection: Connection, prefix: str, statement: Select[Any]) -> Any:
    """Return what the database answers to this statement after a prefix such as ``EXPLAIN``."""
    text, parameters = compiled(statement, connection.dialect)
    return connection.exec_driver_sql(f"{prefix} {text}", parameters)


def quoted_name(name: str, schema: str | None, quote: Quote) -> str:
    """Return the quoted name, with its schema if it has one."""
    return f"{quote(schema)}.{quote(name)}" if schema else quote(name)


def quoted_table(target: Target, quote: Quote) -> str:
    """Return the quoted name of the table, with its schema if it has one."""
    return quoted_name(target.name, target.schema, quote)


def on_conflict(target: Target, names: tuple[str, ...], quote: Quote) -> str:
    """Return the clause that makes an INSERT of these columns an upsert by the key, in SQLite and PostgreSQL."""
    others = [f"{quote(name)} = excluded.{quote(name)}" for name in names if name not in target.key]
    action = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
    return f"ON CONFLICT ({', '.join(map(quote, target.key))}) DO {action}"
