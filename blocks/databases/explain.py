"""How a database would read a chunk: the SQL as it is sent, and what its EXPLAIN says of it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.source import SqlSource
from prefect_batch.blocks.databases.statements import explain

__all__ = ["Explained", "chunk_sql", "explain_chunk"]

_EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN", "mysql": "EXPLAIN", "mariadb": "EXPLAIN"}


@dataclass(frozen=True)
class Explained:
    """What the database says of a chunk's SQL: whether it `sorts` or `scans` all rows for it, and its `plan`."""

    sorts: bool
    scans: bool
    plan: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The plan in a sentence."""
        if self.sorts and self.scans:
            return "every chunk reads and sorts all of the source: create an index on the key"
        if self.sorts:
            return "every chunk is found by an index, and then sorted"
        if self.scans:
            return "every chunk reads all of the source; for a small table that may be the quickest way"
        return "every chunk is read along an index, in the order of the key"


def chunk_sql(source: SqlSource, chunk: ChunkRange) -> str:
    """The SQL that reads this chunk, for people: its values are written in."""
    make_dialect: Any = type(source.engine.dialect)
    compiled = source.statement(chunk).compile(dialect=make_dialect(paramstyle="named"))
    sql = str(compiled)
    # The longest names first: one may begin with another.
    for name in sorted(compiled.params, key=len, reverse=True):
        sql = sql.replace(f":{name}", _literal(compiled.params[name]))
    return "\n".join(line.rstrip() for line in sql.splitlines())


def _literal(value: Any) -> str:
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return "'" + str(value).replace("'", "''") + "'"


def explain_chunk(source: SqlSource, chunk: ChunkRange) -> Explained | None:
    """What EXPLAIN says of reading this chunk; None for a database whose plans are not read."""
    dialect = source.engine.dialect.name
    if dialect not in _EXPLAIN:
        return None
    with source.engine.connect() as connection:
        rows = list(explain(connection, _EXPLAIN[dialect], source.statement(chunk)).mappings())
    if dialect in ("mysql", "mariadb"):
        plan = tuple(", ".join(f"{name}={row[name]}" for name in ("type", "key", "rows", "Extra")) for row in rows)
        return Explained(
            sorts=any("filesort" in str(row["Extra"]) for row in rows),
            scans=any(row["type"] in ("ALL", "index") and row["key"] is None for row in rows),
            plan=plan,
        )
    plan = tuple(str(list(row.values())[-1]) for row in rows)
    if dialect == "postgresql":
        return Explained(any("Sort  (" in step for step in plan), any("Seq Scan" in step for step in plan), plan)
    scans = any(step.startswith("SCAN") and "INDEX" not in step for step in plan)
    return Explained(any("TEMP B-TREE" in step for step in plan), scans, plan)
