"""Which table a name stands for in MariaDB and MySQL."""

from sqlalchemy import Connection, text

from prefect_batch.blocks.databases.identity import Identity

_TABLE = text("""
    SELECT concat_ws(' ', @@hostname, @@port, @@datadir), concat_ws('.', table_schema, table_name), engine
    FROM information_schema.tables
    WHERE table_type = 'BASE TABLE' AND table_schema = coalesce(:schema, database()) AND table_name = :name""")
# Their rows are those of other tables.
_ELSEWHERE = {"merge", "mrg_myisam", "federated", "spider", "connect", "sequence"}


def identity(connection: Connection, name: str, schema: str | None) -> Identity | None:
    """Implement `Dialect.identity`. On some systems names differ in case only, which is not looked at here."""
    row = connection.execute(_TABLE, {"schema": schema, "name": name}).first()
    if row is None or str(row[2]).casefold() in _ELSEWHERE:
        return None
    return Identity(row[0], row[1].casefold())
