"""What MariaDB's catalogue says of a sink's table: its unique indexes, and whether it can undo a chunk."""

import re
from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Connection, Engine, bindparam, text

from prefect_batch.blocks.databases.columns import SourceColumn, table_columns
from prefect_batch.blocks.databases.target import Target, UniqueIndex
from prefect_batch.blocks.errors import BadSink, BadSource

_INDEXES = text("""
SELECT index_name, column_name, sub_part FROM information_schema.statistics
WHERE table_schema = coalesce(:schema, database()) AND table_name = :name AND non_unique = 0
ORDER BY index_name, seq_in_index
""")
_NAMES = text("""
SELECT column_name FROM information_schema.columns
WHERE table_schema = coalesce(:schema, database()) AND table_name = :name ORDER BY ordinal_position
""")
_COLLATIONS = text("""
SELECT column_name, data_type, collation_name FROM information_schema.columns
WHERE table_schema = coalesce(:schema, database()) AND table_name = :name AND column_name IN :key
""").bindparams(bindparam("key", expanding=True))
# Tables of these names, with the engine of those that cannot be rolled back. A view has no engine.
_TABLES = text("""
SELECT t.table_schema, t.table_name, CASE WHEN e.transactions = 'YES' THEN NULL ELSE t.engine END, v.view_definition
FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine
LEFT JOIN information_schema.views v ON v.table_schema = t.table_schema AND v.table_name = t.table_name
WHERE t.table_name IN :names AND t.table_schema IN :schemas
""").bindparams(bindparam("names", expanding=True), bindparam("schemas", expanding=True))
_TRIGGERS = text("""
SELECT trigger_name, action_statement FROM information_schema.triggers
WHERE event_object_schema = :schema AND event_object_table = :name
""")
_ROUTINES = text("""
SELECT routine_definition FROM information_schema.routines
WHERE routine_name IN :names AND routine_schema IN :schemas
""").bindparams(bindparam("names", expanding=True), bindparam("schemas", expanding=True))

# Text and comments are left out, and so are the columns of the row that a trigger is for.
_NOISE = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|--[ \t][^\n]*|#[^\n]*|/\*(?!!).*?\*/|\b(?:NEW|OLD)\s*\.\s*(?:`[^`]*`|\w+)",
    re.DOTALL | re.IGNORECASE,
)
_NAME = re.compile(r"`((?:[^`]|``)+)`|([\w$]+)")


def mysql_columns(engine: Engine, name: str, schema: str | None) -> list[SourceColumn] | None:
    """Implement `Dialect.table_columns`. SQLAlchemy reads SHOW CREATE TABLE, in which some names look otherwise."""
    found = table_columns(engine, name, schema)
    if found is None:
        return None
    with engine.connect() as connection:
        names = connection.execute(_NAMES, {"name": name, "schema": schema}).scalars().all()
    if len(names) != len(found):
        known = {column.name.replace("``", "`") for column in found}
        odd = next(one for one in names if one not in known)
        raise BadSource(f"table {name} has a column {odd!r}, which cannot be read by this name: rename it", column=odd)
    return [replace(column, name=known) for column, known in zip(found, names, strict=True)]


def unique_indexes(connection: Connection, name: str, schema: str | None) -> list[UniqueIndex]:
    """Implement `Dialect.unique_indexes`."""
    parts: dict[str, list[tuple[str | None, int | None]]] = {}
    for index, column, length in connection.execute(_INDEXES, {"name": name, "schema": schema}):
        parts.setdefault(index, []).append((column, length))
    return [
        UniqueIndex(index, tuple(column for column, _ in found if column), _flaw(found))
        for index, found in parts.items()
    ]


def _flaw(parts: list[tuple[str | None, int | None]]) -> str | None:
    if any(column is None for column, _ in parts):
        return "is on an expression"
    cut = [f"the first {length} characters of {column}" for column, length in parts if length is not None]
    return f"compares only {', '.join(cut)}" if cut else None


def loose_keys(connection: Connection, name: str, schema: str | None, key: tuple[str, ...]) -> tuple[str, ...]:
    """Implement `Dialect.loose_keys`."""
    found = connection.execute(_COLLATIONS, {"name": name, "schema": schema, "key": key})
    return tuple(column for column, kind, collation in found if collation and not _is_exact(kind.lower(), collation))


def _is_exact(kind: str, collation: str) -> bool:
    """Return whether the collation tells any two texts apart. Most of them do not see blanks at the end."""
    if kind == "char":
        return collation.endswith("_bin")
    return collation.endswith(("_nopad_bin", "_0900_bin"))


def check_target(connection: Connection, target: Target, _write: str) -> list[str]:
    """Implement `Dialect.check_target`."""
    schema = target.schema or connection.exec_driver_sql("SELECT database()").scalar_one()
    for said, name, engine in _reached(connection, schema, target.name):
        raise BadSink(
            f"table {target.name}{said} is in the engine {engine}, which cannot undo what a failed chunk has written: "
            f"ALTER TABLE {name} ENGINE=InnoDB, or write to another table",
            f"table {target.name}",
        )
    return []


def _reached(connection: Connection, schema: str, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield the tables without transactions that a write to this one may change: itself, and those of its triggers.

    Yields:
        How the table is reached, its name, and its engine.
    """
    seen: set[tuple[str, str]] = set()
    pending = [("", {name}, {schema})]
    while pending:
        said, names, schemas = pending.pop()
        for found_schema, found, engine, view in connection.execute(
            _TABLES, {"names": [*names], "schemas": [*schemas]}
        ):
            if (found_schema, found) in seen:
                continue
            seen.add((found_schema, found))
            if engine:
                yield said and f"{said} {found}, which", found, engine
            if view:
                pending.append((" is a view of", *_named(view, found_schema)))
            of_table = {"schema": found_schema, "name": found}
            for trigger, body in connection.execute(_TRIGGERS, of_table).all():
                pending.append((f" has the trigger {trigger} that names", *_named(body, found_schema)))
        called = (
            connection.execute(_ROUTINES, {"names": [*names], "schemas": [*schemas]}).scalars().all() if said else []
        )
        for body in called:
            text_of_call = (said, body or "")
            if text_of_call not in seen:
                seen.add(text_of_call)
                pending.append((said, *_named(body or "", schema)))


def _named(body: str, schema: str) -> tuple[set[str], set[str]]:
    """Return every name in the SQL, any of which may be a table, a routine, or a schema, and where they may be."""
    names = {quoted.replace("``", "`") or plain for quoted, plain in _NAME.findall(_NOISE.sub(" ", body))}
    return names, names | {schema}
