"""Which table a name stands for in SQLite: by its file, however many paths lead there."""

from pathlib import Path

from sqlalchemy import Connection, text

from prefect_batch.blocks.databases.identity import Identity
from prefect_batch.blocks.databases.sqlite.location import memory_name


def identity(connection: Connection, name: str, schema: str | None) -> Identity | None:
    """Implement `Dialect.identity`."""
    schema = (schema or "main").casefold()
    files = {row.name.casefold(): row.file for row in connection.execute(text("PRAGMA database_list"))}
    quoted = connection.dialect.identifier_preparer.quote(schema)
    # The rows of a virtual table may be anywhere.
    statement = text(
        f"SELECT name FROM {quoted}.sqlite_master WHERE type = 'table' AND name = :name COLLATE NOCASE "
        "AND sql NOT LIKE 'CREATE VIRTUAL %'"
    )
    if schema not in files or not (found := connection.execute(statement, {"name": name}).scalar()):
        return None
    return Identity(_place(connection, files[schema]), found.casefold())


def _place(connection: Connection, file: str | None) -> str:
    if not file:
        return memory_name(connection.engine.url) or f"memory of engine {id(connection.engine.pool)}"
    status = Path(file).stat()
    return f"file {status.st_dev} {status.st_ino}"
