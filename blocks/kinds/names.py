"""Arrow types by the names that parameters use."""

import re
from collections.abc import Mapping

import pyarrow as pa

from prefect_batch.blocks.errors import BadParameter

_DECIMAL = re.compile(r"decimal(?:128|256)?\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_ZONED = re.compile(r"timestamp\[\s*(s|ms|us|ns)\s*,\s*(?:tz=)?([^\]\s]+)\s*\]")
# Names that people write for types that Arrow calls otherwise.
_OTHERS: dict[str, pa.DataType] = {
    "text": pa.string(),
    "str": pa.string(),
    "int": pa.int64(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "date": pa.date32(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
    "bytes": pa.binary(),
    "uuid": pa.uuid(),
}


def schema_of(types: Mapping[str, str]) -> pa.Schema:
    """Return the schema of columns whose types have these names.

    Raises:
        BadParameter: a name is not that of a type.
    """
    return pa.schema([(column, _type_of(column, name.strip())) for column, name in types.items()])


def _type_of(column: str, name: str) -> pa.DataType:
    try:
        if match := _DECIMAL.fullmatch(name):
            precision, scale = int(match[1]), int(match[2])
            return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
        if match := _ZONED.fullmatch(name):
            return pa.timestamp(match[1], tz=match[2])
        return _OTHERS.get(name) or pa.type_for_alias(name)
    except ValueError as error:
        raise BadParameter(
            f"schema: column {column} has the type {name!r}, which is none: write int64, double, bool, string, binary, "
            "date32, time64[us], timestamp[us], timestamp[us, UTC], duration[us], uuid or decimal(12, 2)"
        ) from error
