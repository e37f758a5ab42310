"""Checks that a source can be read by its key, and returns warnings about it."""

from typing import Any

from sqlalchemy import ColumnElement, column, false, func, inspect, literal_column, select
from sqlalchemy import types as sql
from sqlalchemy.exc import DBAPIError, ProgrammingError

from prefect_batch.blocks.databases.explain import explain_rows
from prefect_batch.blocks.databases.keyed_rows import KeyedRows
from prefect_batch.blocks.databases.waiting import waits
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.parameters.tables import Query, Table
from prefect_batch.blocks.suggestions import near

# Smaller tables are sorted fast without an index.
LARGE = 100_000


def check_source(source: KeyedRows) -> list[str]:
    """Return warnings about the source.

    Raises:
        BadSource: it does not have this table, column or key, or has NULL in its key.
    """
    try:
        return _checked(source)
    except DBAPIError as error:
        raise BadSource(f"{source.name} cannot be read: {str(error.orig).strip()}", source.name) from error


@waits
def _checked(source: KeyedRows) -> list[str]:
    _check_columns(source)
    _check_key_types(source)
    _check_nulls(source)
    return _check_index(source)


def _check_columns(source: KeyedRows) -> None:
    names = [c.name for c in source.all_columns]
    asked = (source.spec.columns or []) if isinstance(source.spec, Table) else []
    for what, wanted in (("key column", source.key), ("column", asked)):
        for name in wanted:
            if name not in names:
                meant = near(name, names)
                raise BadSource(f"{source.name} has no {what} {name}: {meant}", source.name, name, meant)
    if len(set(names)) < len(names):
        raise BadSource(f"{source.name} has two columns of the same name; give each its own with AS", source.name)


def _check_key_types(source: KeyedRows) -> None:
    for c in source.all_columns:
        if c.name not in source.key:
            continue
        kind = _type_by_query(source, c.name) if isinstance(c.type, sql.NullType) else c.type
        reason = source.dialect.refused_key(kind) or _no_order(source, c.name)
        if reason:
            raise BadSource(f"{source.name}: key column {c.name} {reason}", source.name, c.name)


def _type_by_query(source: KeyedRows, name: str) -> sql.TypeEngine[Any]:
    """Return the type of a column that SQLAlchemy does not know as the driver describes it, or NullType."""
    make_dialect: Any = type(source.engine.dialect)
    # Not for the driver, which would get every % twice.
    statement = source.select(column(name)).compile(dialect=make_dialect(paramstyle="named"))
    with source.engine.connect() as connection:
        return source.dialect.query_columns(connection, str(statement))[0].type


def _no_order(source: KeyedRows, name: str) -> str | None:
    """Return that the database cannot sort and compare a column, with its reason, or None if it can."""
    key: ColumnElement[Any] = column(name)
    statement = source.select(key).where(false(), key > column(name)).order_by(key)
    try:
        with source.engine.connect() as connection:
            connection.execute(statement)
    except ProgrammingError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        return f"has no order ({reason}); use another column, or a query that casts it to a type that has one"
    return None


def _check_nulls(source: KeyedRows) -> None:
    nullable = [c.name for c in source.all_columns if c.name in source.key and c.nullable]
    with source.engine.connect() as connection:
        for name in nullable:
            nulls = connection.execute(source.select(func.count()).where(column(name).is_(None))).scalar_one()
            if nulls:
                raise BadSource(
                    f"{source.name} has {nulls:,} rows with NULL in key column {name}, which no range would contain: "
                    f"fill them, exclude them with where='{name} IS NOT NULL', or use another key",
                    source.name,
                    name,
                )


def _check_index(source: KeyedRows) -> list[str]:
    with source.engine.connect() as connection:
        some = source.select(literal_column("1").label("one")).limit(LARGE + 1).subquery()
        if connection.execute(select(func.count()).select_from(some)).scalar_one() <= LARGE:
            return []
    indexed = _query_is_indexed(source) if isinstance(source.spec, Query) else _table_is_indexed(source)
    if indexed is not False:
        return []
    key = ", ".join(source.key)
    return [f"{source.name} has no index on its key ({key}), so every chunk sorts or scans all of it: create one"]


def _table_is_indexed(source: KeyedRows) -> bool | None:
    """Return whether an index begins with the key's columns, or None if that is unknown, as for a view."""
    assert isinstance(source.spec, Table)
    inspector, name, schema = inspect(source.engine), source.spec.name, source.spec.schema
    if name in inspector.get_view_names(schema):
        return None
    indexes: list[Any] = [inspector.get_pk_constraint(name, schema).get("constrained_columns") or []]
    indexes += [i.get("column_names") or [] for i in inspector.get_indexes(name, schema)]
    indexes += [u.get("column_names") or [] for u in inspector.get_unique_constraints(name, schema)]
    return any(tuple(columns[: len(source.key)]) == source.key for columns in indexes)


def _query_is_indexed(source: KeyedRows) -> bool | None:
    """Return whether the database reads the query in key order without sorting, or None if its plans are not read."""
    statement = source.select(*source.key_expressions).order_by(*source.key_expressions).limit(1)
    explained = explain_rows(source, statement)
    return None if explained is None else not explained.sorts
