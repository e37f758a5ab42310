"""Kinds of PostgreSQL's columns that standard SQL does not have, and what they take."""

from collections.abc import Callable
from dataclasses import replace
from math import copysign
from typing import Any

import pyarrow as pa
from sqlalchemy import types as sql
from sqlalchemy.dialects import postgresql

from prefect_batch.blocks.databases import column_types
from prefect_batch.blocks.databases.postgresql.decode import interval_text
from prefect_batch.blocks.kinds.fit import FITS, Fit, document_text, list_fit, longest, refuse
from prefect_batch.blocks.kinds.kind import kind_of

# The type "name" silently cuts longer ones.
_NAME_BYTES = 63


def column_kind(column: sql.TypeEngine[Any]) -> str:
    """Return the kind of the column's values: of a domain, that of its base."""
    column = _base(column)
    if isinstance(column, sql.REAL):
        return "float32"
    if isinstance(column, postgresql.INTERVAL):
        return "duration"
    return "uint32" if isinstance(column, postgresql.OID) else column_types.column_kind(column)


def _base(column: sql.TypeEngine[Any]) -> sql.TypeEngine[Any]:
    while isinstance(column, postgresql.DOMAIN):
        column = column.data_type
    return column


def made_type(arrow: pa.DataType, _in_key: bool) -> sql.TypeEngine[Any]:
    """Implement `Dialect.made_type`."""
    kind = kind_of(arrow).name
    return postgresql.INTERVAL() if kind in ("interval", "duration") else column_types.sql_type(arrow)


def arrow_type(column: sql.TypeEngine[Any]) -> pa.DataType:
    """Implement `Dialect.arrow_type`."""
    return column_types.arrow_type(_base(column), column_kind(column))


def column_fit(column: sql.TypeEngine[Any]) -> Fit:
    """Implement `Dialect.column_fit`."""
    column = _base(column)
    if isinstance(column, sql.ARRAY):
        return list_fit(column_fit(column.item_type))
    if isinstance(column, postgresql.HSTORE):
        return FITS["other"].taking({dict: lambda value: value}).named("HSTORE")
    fit = column_types.column_fit(column, column_kind(column))
    if isinstance(column, postgresql.OID):
        return fit.taking({int: lambda value: value if value >= 0 else refuse(value)})  # -1 becomes 4294967295.
    if isinstance(column, postgresql.INTERVAL):
        return fit.taking({pa.MonthDayNano: interval_text})
    if isinstance(column, sql.JSON):
        return replace(fit, other=_binary_text if isinstance(column, postgresql.JSONB) else document_text)
    limit = text_limit(column)
    if limit is None:
        return fit
    one = _short_name if _is_name(column) else _not_cut(limit)
    return fit.looking(str, lambda values: longest(values) <= limit, one)


def _binary_text(value: Any) -> str:
    """Return the text of a document for JSONB, where zero has no sign."""
    text = document_text(value)
    return refuse(value) if "-0.0" in text and _has_minus_zero(value) else text


def _has_minus_zero(value: Any) -> bool:
    if isinstance(value, (dict, list, tuple)):
        return any(map(_has_minus_zero, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value == 0 and copysign(1, value) < 0


def text_limit(column: sql.TypeEngine[Any]) -> int | None:
    """Return the number of characters beyond which the column might silently cut text, or None if it never does.

    A VARCHAR cuts blanks at the end. CHAR does too, but they are no part of its values.
    """
    if isinstance(column, sql.VARCHAR):
        return column.length
    return _NAME_BYTES // 4 if _is_name(column) else None


def _is_name(column: sql.TypeEngine[Any]) -> bool:
    return type(column) is sql.String and column.length is None


def _short_name(value: str) -> str:
    return value if len(value.encode()) <= _NAME_BYTES else refuse(value)


def _not_cut(length: int) -> Callable[[str], str]:
    return lambda value: refuse(value) if len(value) > length and value.endswith(" ") else value
