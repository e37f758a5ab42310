"""How many rows a SELECT has, about: from the database's own plan where counting would cost too much."""

import json
from typing import Any

from sqlalchemy import Connection, Select

from prefect_batch.blocks.databases.statements import explain

__all__ = ["estimate_rows"]

# Up to this many, as the database guesses, the rows are counted: it takes a fraction of a second.
COUNTED = 1_000_000


def estimate_rows(connection: Connection, rows: Select[Any], count: Select[Any]) -> int:
    """The number of rows that `rows` gives, which `count` counts."""
    dialect = connection.dialect.name
    guess = 0
    if dialect == "postgresql":
        guess = _postgresql(connection, rows)
    elif dialect in ("mysql", "mariadb"):
        guess = _mysql(connection, rows)
    return guess if guess > COUNTED else int(connection.execute(count).scalar_one())


def _postgresql(connection: Connection, rows: Select[Any]) -> int:
    plan = explain(connection, "EXPLAIN (FORMAT JSON)", rows).scalar_one()
    parsed = json.loads(plan) if isinstance(plan, str) else plan
    return int(parsed[0]["Plan"]["Plan Rows"])


def _mysql(connection: Connection, rows: Select[Any]) -> int:
    guesses = [int(row["rows"] or 0) for row in explain(connection, "EXPLAIN", rows).mappings()]
    return max(guesses, default=0)
