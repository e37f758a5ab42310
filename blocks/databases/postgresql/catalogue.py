"""What PostgreSQL's catalogue says of a sink's table: its unique indexes, and whether a chunk can be undone in it."""

from typing import Any

from sqlalchemy import Connection, text

from prefect_batch.blocks.databases.columns import escape_colons
from prefect_batch.blocks.databases.postgresql.copy import quote
from prefect_batch.blocks.databases.statements import quoted_name, quoted_table
from prefect_batch.blocks.databases.target import Target, UniqueIndex
from prefect_batch.blocks.errors import BadSink

_INDEXES = text("""
SELECT c.relname AS name, i.indisvalid AND i.indisready AND i.indislive AS valid, i.indpred IS NOT NULL AS partial,
  0 = ANY (i.indkey) AS expression, i.indisexclusion AS exclusion, i.indimmediate AS immediate,
  ARRAY (
    SELECT CAST(a.attname AS text) FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE k.place <= i.indnkeyatts ORDER BY k.place
  ) AS columns,
  EXISTS (
    SELECT 1 FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    JOIN pg_catalog.pg_collation by_column ON by_column.oid = a.attcollation
    JOIN pg_catalog.pg_collation by_index ON by_index.oid = i.indcollation[CAST(k.place AS int) - 1]
    WHERE k.place <= i.indnkeyatts AND by_column.oid <> by_index.oid
    AND NOT (by_column.collisdeterministic AND by_index.collisdeterministic)
  ) AS otherwise,
  r.relkind = 'r' AND EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h WHERE h.inhparent = r.oid) AS inherited
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class r ON r.oid = i.indrelid
WHERE i.indisunique AND i.indrelid = to_regclass(:name)
""")

_LOOSE = text("""
SELECT CAST(a.attname AS text) FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN pg_catalog.pg_type base ON base.oid = t.typbasetype
LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
WHERE a.attrelid = to_regclass(:name) AND CAST(a.attname AS text) = ANY (:key)
AND (NOT c.collisdeterministic OR 'citext' IN (t.typname, base.typname))
""")

_TABLE = text("""
SELECT relkind AS kind, relpersistence = 'u' AS unlogged,
  EXISTS (
    SELECT 1 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = r.oid AND CAST(g.tgtype AS int) & 68 = 68
  ) AS instead
FROM pg_catalog.pg_class r WHERE r.oid = to_regclass(:name)
""")


def unique_indexes(connection: Connection, name: str, schema: str | None) -> list[UniqueIndex]:
    """Implement `Dialect.unique_indexes`."""
    found = connection.execute(_INDEXES, {"name": quoted_name(name, schema, quote)}).mappings()
    return [UniqueIndex(row["name"], tuple(row["columns"]), _flaw(row), _upsert_flaw(row)) for row in found]


def _flaw(row: Any) -> str | None:
    reasons = {
        "partial": "has a condition, and so covers only some rows",
        "expression": "is on an expression",
        "exclusion": "excludes overlapping ranges, not equal keys",
        "otherwise": "compares text by another collation than its column",
    }
    if not row["valid"]:
        return "is not valid: REINDEX it"
    return next((reason for name, reason in reasons.items() if row[name]), None)


def _upsert_flaw(row: Any) -> str | None:
    if not row["immediate"]:
        return "is deferrable, which ON CONFLICT does not support"
    return "does not cover the tables that inherit from it" if row["inherited"] else None


def loose_keys(connection: Connection, name: str, schema: str | None, key: tuple[str, ...]) -> tuple[str, ...]:
    """Implement `Dialect.loose_keys`."""
    asked = {"name": quoted_name(name, schema, quote), "key": list(key)}
    return tuple(connection.execute(_LOOSE, asked).scalars())


def check_target(connection: Connection, target: Target, write: str) -> list[str]:
    """Implement `Dialect.check_target`."""
    found = connection.execute(_TABLE, {"name": quoted_table(target, quote)}).mappings().one_or_none()
    if found is None:
        return []
    if found["kind"] == "f":
        raise _bad(target, "is a foreign table, whose rows are not committed together with the ledger")
    if found["kind"] == "v" and write == "insert" and not found["instead"]:
        raise _bad(target, "is a view without an INSTEAD OF INSERT trigger, which COPY cannot write to")
    _try(connection, target, write)
    if not found["unlogged"]:
        return []
    return [f"table {target.name} is UNLOGGED: a crash of the server empties it, and finished chunks are not repeated"]


def _try(connection: Connection, target: Target, write: str) -> None:
    """Plan a statement that inserts as this mode does, which checks rights, rules and views. Nothing is executed."""
    if write == "update":
        return
    columns = ", ".join(map(quote, target.key))
    row = f"({columns}) OVERRIDING SYSTEM VALUE VALUES ({', '.join('NULL' for _ in target.key)})"
    statement = f"EXPLAIN INSERT INTO {quoted_table(target, quote)} {row if target.key else 'DEFAULT VALUES'}"
    conflict = f"ON CONFLICT ({columns}) DO NOTHING" if write == "upsert" else ""
    connection.execute(text(escape_colons(f"{statement} {conflict}")))


def _bad(target: Target, reason: str) -> BadSink:
    return BadSink(f"table {target.name} {reason}: write to an ordinary table", f"table {target.name}")
