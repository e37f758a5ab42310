"""Writes to MariaDB and MySQL: many rows per statement if that is safe, otherwise row by row."""

from dataclasses import replace

from sqlalchemy import Connection
from sqlalchemy import types as sql
from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.databases.mysql.errors import refused_column
from prefect_batch.blocks.databases.rows import Same, same_columns
from prefect_batch.blocks.databases.standard import write_rows
from prefect_batch.blocks.databases.statements import quoted_table
from prefect_batch.blocks.databases.target import Target, check_count
from prefect_batch.blocks.kinds.plain import misfit
from prefect_batch.blocks.kinds.record import Record


def write_mysql(connection: Connection, target: Target, write: str, records: list[Record]) -> None:
    """Implement `Dialect.write`.

    ON DUPLICATE KEY acts on whichever unique key collides, so it is used only if the declared key is the only unique
    one.
    """
    for same in same_columns(records, target):
        try:
            _write(connection, target, write, same.fitted(target))
        except DBAPIError as error:
            column = refused_column(error.orig)
            if column not in same.names or len(records) > 1:
                raise
            # The database's message names neither the value nor the type.
            value = same.columns[same.names.index(column)][0]
            raise misfit(f"column {column}", target.fits[column].name, value) from error


def _write(connection: Connection, target: Target, write: str, same: Same) -> None:
    if write == "insert" or (write == "upsert" and target.only_key_is_unique):
        statement = _insert(connection, target, same.names, upsert=write == "upsert")
        done = connection.exec_driver_sql(statement, same.rows).rowcount
        # A row that is updated counts as two.
        check_count(target, len(same.rows), done if write == "insert" else min(done, len(same.rows)))
    else:
        write_rows(connection, _untyped(target), write, same)


def _untyped(target: Target) -> Target:
    """Return the target without types, by which SQLAlchemy would convert values that are as the driver takes them."""
    return replace(target, types=dict.fromkeys(target.types, sql.NullType()))


def _insert(connection: Connection, target: Target, names: tuple[str, ...], *, upsert: bool) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    columns = [quote(name) for name in names]
    statement = (
        f"INSERT INTO {quoted_table(target, quote)} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(names))})"
    )
    if not upsert:
        return statement
    others = [f"{c} = VALUES({c})" for c, name in zip(columns, names, strict=True) if name not in target.key]
    first = quote(target.key[0])
    return f"{statement} ON DUPLICATE KEY UPDATE {', '.join(others) or f'{first} = {first}'}"
