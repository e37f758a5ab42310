"""What SQLite's catalogue says of a sink's table: its unique indexes, and what it does by itself on a conflict."""

import re

from sqlalchemy import Connection, text

from prefect_batch.blocks.databases.columns import escape_colons
from prefect_batch.blocks.databases.statements import quoted_name
from prefect_batch.blocks.databases.target import Target, UniqueIndex
from prefect_batch.blocks.errors import BadSink

_PRIMARY = text("SELECT name FROM pragma_table_info(:name, :schema) WHERE pk > 0 ORDER BY pk")
_INDEXES = text('SELECT name, partial, origin FROM pragma_index_list(:name, :schema) WHERE "unique"')
_COLUMNS = text("SELECT name, coll FROM pragma_index_xinfo(:name, :schema) WHERE key ORDER BY seqno")
# Comments, and quoted text and names, which may say anything.
_NOISE = re.compile(r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^]]*\]""", re.DOTALL)
_CLAUSE = re.compile(r"\bON\s+CONFLICT\s+(ROLLBACK|FAIL|IGNORE|REPLACE)\b", re.IGNORECASE)


def unique_indexes(connection: Connection, name: str, schema: str | None) -> list[UniqueIndex]:
    """Implement `Dialect.unique_indexes`."""
    of_table = {"name": name, "schema": schema or "main"}
    primary = tuple(connection.execute(_PRIMARY, of_table).scalars())
    found: list[UniqueIndex] = []
    for index, partial, origin in connection.execute(_INDEXES, of_table).all():
        parts = connection.execute(_COLUMNS, {**of_table, "name": index}).all()
        columns = primary if origin == "pk" else tuple(column for column, _ in parts if column)
        flaw = "has a condition, and so covers only some rows" if partial else None
        flaw = flaw or ("is on an expression" if any(column is None for column, _ in parts) else None)
        found.append(UniqueIndex(index, columns, flaw or _otherwise(connection, name, schema, dict(parts))))
    # The row number, as which an INTEGER PRIMARY KEY is stored, has no index of its own.
    if primary and not any(index.columns == primary for index in found):
        found.append(UniqueIndex("primary key", primary))
    return found


def _otherwise(connection: Connection, name: str, schema: str | None, parts: dict[str, str]) -> str | None:
    """Return that an index compares text by another collation than its columns, or None if it does not."""
    same = all(collation_of(connection, name, schema, column) in (by, None) for column, by in parts.items())
    return None if same else "compares text by another collation than its column"


def collation_of(connection: Connection, name: str, schema: str | None, column: str) -> str | None:
    """Return the collation by which conditions compare a column, or None if it is not one that SQLite has built in."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    # The result of UNION has the collation of its first SELECT.
    rows = f"SELECT {quote(column)} AS k FROM {quoted_name(name, schema, quote)} WHERE 0 UNION ALL SELECT"
    found = connection.execute(
        text(
            escape_colons(
                f"SELECT (SELECT count(*) FROM ({rows} 'a') WHERE k = 'A'), "
                f"(SELECT count(*) FROM ({rows} 'a') WHERE k = 'a '), (SELECT count(*) FROM ({rows} 'a') WHERE k = 'b')"
            )
        )
    ).one()
    return {(0, 0, 0): "BINARY", (1, 0, 0): "NOCASE", (0, 1, 0): "RTRIM"}.get(tuple(found))


def loose_keys(connection: Connection, name: str, schema: str | None, key: tuple[str, ...]) -> tuple[str, ...]:
    """Implement `Dialect.loose_keys`."""
    return tuple(column for column in key if collation_of(connection, name, schema, column) != "BINARY")


def check_target(connection: Connection, target: Target, _write: str) -> list[str]:
    """Implement `Dialect.check_target`."""
    master = quoted_name("sqlite_master", target.schema, connection.dialect.identifier_preparer.quote_identifier)
    statement = text(f"SELECT sql FROM {master} WHERE name = :name COLLATE NOCASE AND type = 'table'")
    definition = connection.execute(statement, {"name": target.name}).scalar_one_or_none()
    if found := _CLAUSE.search(_NOISE.sub(" ", definition or "")):
        raise BadSink(
            f"table {target.name} is declared with ON CONFLICT {found[1].upper()}, so it would replace or drop rows "
            "where another table raises an error: make it without this clause",
            f"table {target.name}",
        )
    return []
