"""Standard SQL by SQLAlchemy: for unknown databases, and where a known one has no faster way.

An upsert is an UPDATE by key, and an INSERT of what was not there. Not MERGE, whose spelling differs everywhere, and
not DELETE and INSERT, which would lose the columns that a record does not name and trigger cascades.
"""

import functools
from typing import Any

import pyarrow as pa
from sqlalchemy import BindParameter, Connection, Insert, TableClause, Update, and_, bindparam, column, inspect, table
from sqlalchemy import types as sql
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from prefect_batch.blocks.databases.column_types import sql_type
from prefect_batch.blocks.databases.columns import SourceColumn, describe
from prefect_batch.blocks.databases.rows import Same, same_columns
from prefect_batch.blocks.databases.target import Target, UniqueIndex, check_count
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.kinds.record import Record


def arguments(_url: URL) -> dict[str, Any]:
    """Implement `Dialect.arguments`."""
    # Without a bound: each chunk in flight takes two connections, and a lower bound would be a deadlock.
    return {"pool_pre_ping": True, "max_overflow": -1}


def query_columns(connection: Connection, statement: str) -> list[SourceColumn]:
    """Implement `Dialect.query_columns`, without types, because each driver has its own names for them."""
    return [SourceColumn(str(field[0]), sql.NullType()) for field in describe(connection, statement)]


def refused_key(kind: sql.TypeEngine[Any]) -> str | None:
    """Implement `Dialect.refused_key`."""
    if isinstance(kind, sql.JSON):
        return "is JSON, which has no order; use another column, or a query that casts it to text"
    if not isinstance(kind, sql.Float):
        return None
    return (
        "is a floating-point number, which cannot be compared exactly; use another column, or a query that casts it to "
        "a decimal"
    )


def unique_indexes(connection: Connection, name: str, schema: str | None) -> list[UniqueIndex]:
    """Implement `Dialect.unique_indexes` by SQLAlchemy's inspector, which knows of conditions and expressions."""
    inspector = inspect(connection)
    primary = inspector.get_pk_constraint(name, schema)
    found = [UniqueIndex(str(primary.get("name") or "primary key"), tuple(primary.get("constrained_columns") or ()))]
    unique = inspector.get_unique_constraints(name, schema)
    found += [UniqueIndex(str(constraint["name"]), tuple(constraint["column_names"])) for constraint in unique]
    for index in inspector.get_indexes(name, schema):
        if index["unique"]:
            partial = any("where" in option for option in index.get("dialect_options", {}))
            expressions = None in index["column_names"]
            flaw = "has a condition" if partial else "is on an expression" if expressions else None
            found.append(UniqueIndex(str(index["name"]), tuple(filter(None, index["column_names"])), flaw))
    return [index for index in found if index.columns or index.flaw]


def made_type(arrow: pa.DataType, in_key: bool) -> sql.TypeEngine[Any]:
    """Implement `Dialect.made_type`."""
    kind = sql_type(arrow)
    return sql.String(255) if in_key and isinstance(kind, sql.Text) else kind


def blame(error: Any) -> Blame | None:
    """Implement `Dialect.blame` for SQLAlchemy's own errors."""
    if issubclass(type(error), (DisconnectionError, PoolTimeout)):
        return Blame.PASSING
    # By type, because `isinstance` asks the error, which may be one of a user's with anything in it.
    return Blame.PASSING if issubclass(type(error), DBAPIError) and error.connection_invalidated else None


def write_standard(connection: Connection, target: Target, write: str, records: list[Record]) -> None:
    """Implement `Dialect.write`."""
    for same in (same.fitted(target) for same in same_columns(records, target)):
        if write == "insert":
            rows = [_named(same.names, row) for row in same.rows]
            done = connection.execute(insert_statement(target, same.names), rows).rowcount
            check_count(target, len(rows), done)
        else:
            write_rows(connection, target, write, same)


def write_rows(connection: Connection, target: Target, write: str, same: Same) -> None:
    """Update the row of each key. A row that does not exist is inserted by an upsert.

    Raises:
        RowSkipped: nothing was changed, because there is no such row, or because the database left it out.
        TooManyRows: several rows were changed for one.
    """
    update, insert = update_statement(target, same.names), insert_statement(target, same.names)
    for row in same.rows:
        values = _named(same.names, row)
        done = connection.execute(update, values).rowcount
        if not done and write == "upsert":
            done = connection.execute(insert, values).rowcount
        check_count(target, 1, done)


@functools.lru_cache(maxsize=128)
def _parameters(names: tuple[str, ...]) -> list[str]:
    """Return a name for the parameter of each column: batch_0, batch_1, … unless a column is called so."""
    prefix = "batch_"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return [f"{prefix}{place}" for place in range(len(names))]


def _named(names: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(_parameters(names), row, strict=False))


def _table(target: Target, names: tuple[str, ...]) -> TableClause:
    return table(target.name, *(column(name, target.types[name]) for name in names), schema=target.schema)


def _bound(target: Target, names: tuple[str, ...]) -> dict[str, BindParameter[Any]]:
    parameters = zip(names, _parameters(names), strict=True)
    return {name: bindparam(parameter, type_=target.types[name]) for name, parameter in parameters}


def insert_statement(target: Target, names: tuple[str, ...]) -> Insert:
    """Return the INSERT of one row, with a parameter for each column, in the order of the names."""
    return _table(target, names).insert().values(_bound(target, names))


def update_statement(target: Target, names: tuple[str, ...]) -> Update:
    """Return the UPDATE of one row by its key, with a parameter for each column, in the order of the names."""
    into = _table(target, names)
    places = _bound(target, names)
    matches = [into.c[name] == places[name] for name in target.key]
    # With the key alone there is nothing to set, but a missing row must still be noticed.
    others = [name for name in names if name not in target.key] or [target.key[0]]
    return into.update().where(and_(*matches)).values({name: places[name] for name in others})
