"""Making a sink's missing table from the first records."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
from sqlalchemy import Column, MetaData
from sqlalchemy import Table as SqlTable
from sqlalchemy import types as sql

from prefect_batch.blocks.batches import Record
from prefect_batch.blocks.databases.column_types import sql_type
from prefect_batch.blocks.databases.end import SqlEnd
from prefect_batch.blocks.errors import BadSink

__all__ = ["create_table"]

# A subclass stands before its base.
_BY_VALUE: tuple[tuple[type | tuple[type, ...], sql.TypeEngine[Any]], ...] = (
    (bool, sql.Boolean()),
    (int, sql.BigInteger()),
    (float, sql.Double()),
    (Decimal, sql.Numeric()),
    (date, sql.Date()),
    (time, sql.Time()),
    (timedelta, sql.Interval()),
    (UUID, sql.Uuid()),
    ((bytes, bytearray, memoryview), sql.LargeBinary()),
    ((dict, list), sql.JSON()),
)


def create_table(
    end: SqlEnd, name: str, schema: str | None, key: tuple[str, ...], records: Sequence[Record], source: pa.Schema
) -> None:
    """Create the table, if it is missing, with the records' columns and the key as its primary key.

    A column that the source has too, and whose values fit, gets the source's type; others get one by their values,
    text where all are None.

    Raises:
        BadSink: the records lack a key column.
    """
    names = list(dict.fromkeys(column for record in records for column in record))
    if missing := [column for column in key if column not in names]:
        lacks = f"the processor's records have no key column {missing[0]}"
        raise BadSink(f"table {name} cannot be made: {lacks}", f"table {name}", missing[0])
    columns = []
    for column in names:
        values = [record[column] for record in records if record.get(column) is not None]
        kind = end.dialect.made_type(_type(column, values, source), column in key)
        columns.append(Column(column, kind, primary_key=column in key, autoincrement=False))
    # The primary key in the key's order, whatever the order of the columns.
    columns.sort(key=lambda c: key.index(c.name) if c.name in key else len(key) + names.index(c.name))
    SqlTable(name, MetaData(), *columns, schema=schema).create(end.engine, checkfirst=True)


def _type(column: str, values: list[Any], source: pa.Schema) -> sql.TypeEngine[Any]:
    if column in source.names and (values or source.field(column).type != pa.string()):
        arrow = source.field(column).type
        try:
            pa.array(values, type=arrow)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass
        else:
            if not (pa.types.is_string(arrow) and any(not isinstance(value, str) for value in values)):
                return sql_type(arrow)
    return _by_values(values)


def _by_values(values: list[Any]) -> sql.TypeEngine[Any]:
    values = [value.item() if type(value).__module__ == "numpy" else value for value in values]
    if values and all(isinstance(value, datetime) for value in values):
        return sql.DateTime(timezone=any(value.tzinfo is not None for value in values))
    if values and all(isinstance(value, (int, float)) for value in values):
        # Whole numbers among fractions are fractions that happen to be whole.
        kinds: set[type] = {type(value) for value in values}
        return sql.Boolean() if kinds == {bool} else sql.Double() if float in kinds else sql.BigInteger()
    for kind, found in _BY_VALUE:
        if values and all(isinstance(value, kind) and not isinstance(value, datetime) for value in values):
            return found
    return sql.Text()
