"""Checks text for columns of types that only PostgreSQL knows, which reads it in a form of its own."""

from typing import Any

from sqlalchemy import Connection

from prefect_batch.blocks.databases.postgresql.copy import cursor_of
from prefect_batch.blocks.databases.rows import Same
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.kinds.fit import OTHER
from prefect_batch.blocks.kinds.plain import misfit

# The text of an address may lack the width of its mask.
_MASKS = ("", "/32", "/128")


def check_text(connection: Connection, target: Target, table: str, same: Same) -> None:
    """Raise DoesNotFit if a column would show one of these texts in another form: '$1.50' for '1.5' in one of money.

    `table` is the target's quoted name.
    """
    for name, values, types in zip(same.names, same.columns, same.types, strict=True):
        if str in types and target.fits[name].kind == OTHER:
            _check(cursor_of(connection), table, name, [v if isinstance(v, str) else None for v in values], same.first)


def _check(cursor: Any, table: str, name: str, texts: list[str | None], first: int) -> None:
    (kind,) = cursor.execute(
        "SELECT pg_catalog.format_type(atttypid, -1) FROM pg_catalog.pg_attribute "
        "WHERE attrelid = %s::regclass AND attname = %s",
        (table, name),
    ).fetchone()
    shown = f"t::{kind}::text"
    same = " AND ".join(f"{shown} <> t || '{mask}'" for mask in _MASKS)
    found = cursor.execute(
        f"SELECT n - 1 FROM unnest(%s::text[]) WITH ORDINALITY AS u(t, n) WHERE {same} ORDER BY n LIMIT 1", (texts,)
    ).fetchone()
    if found:
        error = misfit(f"column {name}", kind, texts[found[0]])
        error.refused_row = first + found[0]
        raise error
