"""Compares keys in SQL, because only the database knows their order: the rows beyond a key, and those up to it."""

import operator
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, cast, false, func, literal_column, or_, tuple_

from prefect_batch.blocks.key_sum import FACTORS, MODULI
from prefect_batch.blocks.keys import Key


def beyond(columns: Sequence[ColumnElement[object]], key: Key, *, row_values: bool) -> ColumnElement[bool]:
    """Return the condition that a row's key is greater than this key."""
    bound = _bind(columns, key)
    if row_values and len(columns) > 1:
        return tuple_(*columns) > tuple_(*bound)
    return _compare(columns, bound, greater=True)


def up_to(columns: Sequence[ColumnElement[object]], key: Key, *, row_values: bool) -> ColumnElement[bool]:
    """Return the condition that a row's key is less than or equal to this key."""
    bound = _bind(columns, key)
    if row_values and len(columns) > 1:
        return tuple_(*columns) <= tuple_(*bound)
    return _compare(columns, bound, greater=False)


def one_of(columns: Sequence[ColumnElement[object]], keys: Sequence[Key]) -> ColumnElement[bool]:
    """Return the condition that a row's key is one of these."""
    equal = (and_(*map(operator.eq, columns, _bind(columns, key))) for key in keys)
    return or_(false(), *equal)


def _bind(columns: Sequence[ColumnElement[object]], key: Key) -> list[ColumnElement[object]]:
    return [bindparam(None, value, type_=column.type) for column, value in zip(columns, key, strict=True)]


def _compare(
    columns: Sequence[ColumnElement[object]], bound: Sequence[ColumnElement[object]], *, greater: bool
) -> ColumnElement[bool]:
    """Return ``a >= x AND (a > x OR b > y)``, whose first half an index can use."""
    column, value = columns[0], bound[0]
    if len(columns) == 1:
        return column > value if greater else column <= value
    rest = _compare(columns[1:], bound[1:], greater=greater)
    strictly, loosely = (column > value, column >= value) if greater else (column < value, column <= value)
    return and_(loosely, or_(strictly, rest))


def sum_columns(columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Return what to select from rows with these integer key columns: their `KeySum`'s count, first and second."""
    hashes: list[ColumnElement[Any]] = []
    for modulus, factor in zip(MODULI, FACTORS, strict=True):
        by = literal_column(str(modulus), BigInteger())
        value: ColumnElement[Any] | None = None
        for column in columns:
            part = cast(column, BigInteger()) % by
            value = part if value is None else (value * literal_column(str(factor), BigInteger()) + part) % by
        assert value is not None
        hashes.append(value)
    square = (hashes[1] * hashes[1]) % literal_column(str(MODULI[1]), BigInteger())
    return [func.count(), func.sum(hashes[0]), func.sum(square)]
