"""Whether a source can be walked by its key, and what is to be said about it."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, column, func, inspect, literal_column, select, text
from sqlalchemy import types as sql
from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.databases.columns import escape_colons
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.parameters.tables import Query, Table
from prefect_batch.blocks.suggestions import near

if TYPE_CHECKING:
    from prefect_batch.blocks.databases.source import SqlSource

__all__ = ["check_source", "missing_table"]

# Smaller tables are sorted in no time.
LARGE = 100_000


def missing_table(engine: Engine, name: str, schema: str | None) -> str:
    """The sentence on a table that does not exist, with the names that may have been meant."""
    inspector = inspect(engine)
    names = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
    where = f"schema {schema}" if schema else f"the {engine.dialect.name} database"
    return f"there is no table {name} in {where}: {near(name, names)}"


def check_source(source: "SqlSource") -> list[str]:
    """Warnings about the source.

    Raises:
        BadSource: it has no such table, column or key, or NULL in its key.
    """
    try:
        _check_columns(source)
        _check_key_types(source)
        _check_nulls(source)
        return _check_index(source)
    except DBAPIError as error:
        raise BadSource(f"{source.name} cannot be read: {str(error.orig).strip()}", source.name) from error


def _check_columns(source: "SqlSource") -> None:
    names = [c.name for c in source.all_columns]
    asked = (source.spec.columns or []) if isinstance(source.spec, Table) else []
    for what, wanted in (("key column", source.key), ("column", asked)):
        for name in wanted:
            if name not in names:
                meant = near(name, names)
                raise BadSource(f"{source.name} has no {what} {name}: {meant}", source.name, name, meant)
    if len(set(names)) < len(names):
        raise BadSource(f"{source.name} has two columns of the same name; give each its own with AS", source.name)


def _check_key_types(source: "SqlSource") -> None:
    dialect = source.engine.dialect.name
    for c in source.all_columns:
        if c.name not in source.key or dialect == "sqlite":
            continue
        if isinstance(c.type, sql.Float):
            raise BadSource(
                f"{source.name}: key column {c.name} is a floating-point number, which cannot be compared exactly; "
                "use another column, or a query that casts it to a decimal",
                source.name,
                c.name,
            )
        if isinstance(c.type, sql.Enum) and dialect in ("mysql", "mariadb"):
            raise BadSource(
                f"{source.name}: key column {c.name} is an ENUM, which {dialect} sorts in another order than it "
                "compares; use another column",
                source.name,
                c.name,
            )


def _check_nulls(source: "SqlSource") -> None:
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


def _check_index(source: "SqlSource") -> list[str]:
    with source.engine.connect() as connection:
        some = source.select(literal_column("1").label("one")).limit(LARGE + 1).subquery()
        if connection.execute(select(func.count()).select_from(some)).scalar_one() <= LARGE:
            return []
    indexed = _query_is_indexed(source) if isinstance(source.spec, Query) else _table_is_indexed(source)
    if indexed is not False:
        return []
    key = ", ".join(source.key)
    return [f"{source.name} has no index on its key ({key}), so every chunk sorts or scans all of it: create one"]


def _table_is_indexed(source: "SqlSource") -> bool | None:
    """Whether an index begins with the key's columns; None where it cannot be known, as for a view."""
    assert isinstance(source.spec, Table)
    inspector, name, schema = inspect(source.engine), source.spec.name, source.spec.schema
    if name in inspector.get_view_names(schema):
        return None
    indexes: list[Any] = [inspector.get_pk_constraint(name, schema).get("constrained_columns") or []]
    indexes += [i.get("column_names") or [] for i in inspector.get_indexes(name, schema)]
    indexes += [u.get("column_names") or [] for u in inspector.get_unique_constraints(name, schema)]
    return any(tuple(columns[: len(source.key)]) == source.key for columns in indexes)


def _query_is_indexed(source: "SqlSource") -> bool | None:
    """Whether the database reads the query in the key's order without sorting; None where its plan is not read."""
    dialect = source.engine.dialect.name
    explain, sign = {
        "sqlite": ("EXPLAIN QUERY PLAN", "USE TEMP B-TREE FOR ORDER BY"),
        "postgresql": ("EXPLAIN", "Sort  ("),
        "mysql": ("EXPLAIN", "filesort"),
        "mariadb": ("EXPLAIN", "filesort"),
    }.get(dialect, (None, ""))
    if explain is None:
        return None
    statement = source.select(*source.key_expressions).order_by(*source.key_expressions).limit(1)
    sentence = f"{explain} {statement.compile(dialect=source.engine.dialect, compile_kwargs={'literal_binds': True})}"
    with source.engine.connect() as connection:
        plan = connection.execute(text(escape_colons(sentence.replace("%%", "%")))).fetchall()
    return not any(sign in str(value) for row in plan for value in row)
