"""Which table a name stands for in PostgreSQL, with its partitions and the tables that inherit from it."""

import contextlib

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.databases.identity import Identity

_KIN = text("""
    WITH RECURSIVE
    self AS (
        SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND oid = to_regclass(
            coalesce(quote_ident(CAST(:schema AS text)) || '.', '') || quote_ident(CAST(:name AS text)))
    ),
    below AS (SELECT oid FROM self UNION SELECT inhrelid FROM pg_inherits JOIN below ON inhparent = oid),
    above AS (SELECT oid FROM self UNION SELECT inhparent FROM pg_inherits JOIN above ON inhrelid = oid)
    SELECT concat_ws('.', current_database(), nspname, relname), pg_class.oid IN (SELECT oid FROM self)
    FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
    WHERE pg_class.oid IN (SELECT oid FROM below UNION SELECT oid FROM above)""")
# A physical replica has the identifier of its primary. Where nobody may read it, the server's start has to do.
_SERVERS = ("SELECT system_identifier FROM pg_control_system()", "SELECT pg_postmaster_start_time()")


def identity(connection: Connection, name: str, schema: str | None) -> Identity | None:
    """Implement `Dialect.identity`."""
    rows = connection.execute(_KIN, {"schema": schema, "name": name}).all()
    itself = next((found for found, is_self in rows if is_self), None)
    return None if itself is None else Identity(_server(connection), itself, frozenset(found for found, _ in rows))


def _server(connection: Connection) -> str:
    for statement in _SERVERS:
        with contextlib.suppress(DBAPIError), connection.begin_nested():
            return str(connection.exec_driver_sql(statement).scalar())
    return ""
