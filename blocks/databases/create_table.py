"""Creates a sink's missing table from the first records."""

import logging
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import Column, MetaData
from sqlalchemy import Table as SqlTable
from sqlalchemy import types as sql
from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.databases.column_types import ANY_DECIMAL, own_type, type_text
from prefect_batch.blocks.databases.end import SqlEnd
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import BadSink
from prefect_batch.blocks.kinds.of_values import OF_FUNCTION, schema_of_records
from prefect_batch.blocks.kinds.record import Record

_log = logging.getLogger(__name__)


def create_table(
    end: SqlEnd, name: str, schema: str | None, key: tuple[str, ...], records: Sequence[Record], source: pa.Schema
) -> None:
    """Create the table, if it is missing, with the records' columns and the key as its primary key.

    A column that the source also has gets the source's type. Those that the function adds, or of whose kind it returns
    no value, get a type by these values, or text if all of them are None. The log names them.

    Raises:
        BadSink: the records do not have a key column, or have values for which there is no column type.
    """
    names = list(dict.fromkeys(column for record in records for column in record))
    if missing := [column for column in key if column not in names]:
        lacks = f"the processor's records have no key column {missing[0]}"
        raise BadSink(f"table {name} cannot be made: {lacks}", f"table {name}", missing[0])
    _check_names(end, name, [name, *names])
    own = pa.schema([field.with_type(own_type(field)) for field in source])
    kinds = schema_of_records(records, own)
    columns = [
        Column(
            field.name, _type(end, field, own, field.name in key), primary_key=field.name in key, autoincrement=False
        )
        for field in kinds
    ]
    # The primary key in the key's order, whatever the order of the columns.
    columns.sort(key=lambda c: key.index(c.name) if c.name in key else len(key) + kinds.names.index(c.name))
    _create(end, SqlTable(name, MetaData(), *columns, schema=schema))
    by_values = [field.name for field in kinds if not _is_of_source(field, own)]
    if by_values:
        types = ", ".join(f"{c.name} {type_text(c.type)}" for c in columns if c.name in by_values)
        _log.info(
            "made table %s; these columns are not as in the source, and got a type by the first records: %s",
            name,
            types,
        )


def _is_of_source(field: pa.Field, own: pa.Schema) -> bool:
    known = field.name in own.names and OF_FUNCTION not in (own.field(field.name).metadata or {})
    return known and own.field(field.name).type == field.type


def _create(end: SqlEnd, table: SqlTable) -> None:
    try:
        table.create(end.engine, checkfirst=True)
    except DBAPIError as error:
        if end.dialect.table_columns(end.engine, table.name, table.schema) is not None:
            return  # Another process has made it just now.
        if (end.dialect.blame(error.orig or error) or Blame.RECORD).passes:
            raise
        names, reason = ", ".join(table.columns.keys()), str(error.orig).strip().partition("\n")[0]
        raise BadSink(f"table {table.name} cannot be made with the columns {names}: {reason}") from error


def _check_names(end: SqlEnd, name: str, names: list[str]) -> None:
    most = end.dialect.name_bytes
    if most and (long := next((one for one in names if len(one.encode()) > most), None)):
        raise BadSink(
            f"table {name} cannot be made: the name {long} has more than {most} bytes, and would be cut; give it a "
            "shorter one",
            f"table {name}",
        )


def _type(end: SqlEnd, field: pa.Field, source: pa.Schema, in_key: bool) -> sql.TypeEngine[Any]:
    arrow = field.type
    if pa.types.is_decimal(arrow) and (field.name not in source.names or source.field(field.name).type != arrow):
        arrow = ANY_DECIMAL
    try:
        return end.dialect.made_type(arrow, in_key)
    except KeyError as error:
        raise BadSink(
            f"column {field.name} is {arrow}, for which no database has a column: let the processor make text of it",
            column=field.name,
        ) from error
