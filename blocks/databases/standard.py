"""Writing through standard SQL, for dialects without a way of their own: UPDATE by key, and INSERT what was not there.

Not MERGE, whose spelling differs everywhere, and not DELETE and INSERT, which would lose the columns that a record
does not name and set off cascades.
"""

from typing import Any

from sqlalchemy import Connection, Insert, TableClause, Update, and_, bindparam, column, table

from prefect_batch.blocks.batches import Record
from prefect_batch.blocks.databases.rows import Same, same_columns
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.errors import RowNotFound

__all__ = ["insert_statement", "update_statement", "write_rows", "write_standard"]


def write_standard(connection: Connection, target: Target, mode: str, records: list[Record]) -> None:
    """Write the records in this mode (upsert, insert or update); all or an error.

    Raises:
        RecordError: a record cannot be written as it is.
        sqlalchemy.exc.DBAPIError: the database refused.
    """
    for same in same_columns(records, target):
        if mode == "insert":
            connection.execute(insert_statement(target, same.names), [_named(same.names, row) for row in same.rows])
        else:
            write_rows(connection, target, mode, same)


def write_rows(connection: Connection, target: Target, mode: str, same: Same) -> None:
    """Update the row of each key; what has none is inserted (upsert) or an error (update).

    Raises:
        RowNotFound: an update found no row.
    """
    update, insert = update_statement(target, same.names), insert_statement(target, same.names)
    for row in same.rows:
        values = _named(same.names, row)
        if connection.execute(update, values).rowcount:
            continue
        if mode == "update":
            raise RowNotFound(target.name, target.key)
        connection.execute(insert, values)


def _named(names: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    return {f"batch_{place}": value for place, value in enumerate(row[: len(names)])}


def _table(target: Target, names: tuple[str, ...]) -> TableClause:
    return table(target.name, *(column(name, target.types[name]) for name in names), schema=target.schema)


def insert_statement(target: Target, names: tuple[str, ...]) -> Insert:
    """INSERT of one row; the parameters are batch_0, batch_1, … in the order of the names."""
    into = _table(target, names)
    return into.insert().values(
        {name: bindparam(f"batch_{place}", type_=target.types[name]) for place, name in enumerate(names)}
    )


def update_statement(target: Target, names: tuple[str, ...]) -> Update:
    """UPDATE of one row by its key; the parameters are batch_0, batch_1, … in the order of the names."""
    into = _table(target, names)
    places = {name: bindparam(f"batch_{place}", type_=target.types[name]) for place, name in enumerate(names)}
    matches = [into.c[name] == places[name] for name in target.key]
    # With the key alone there is nothing to set, but whether the row is there must still be known.
    others = [name for name in names if name not in target.key] or [target.key[0]]
    return into.update().where(and_(*matches)).values({name: places[name] for name in others})
