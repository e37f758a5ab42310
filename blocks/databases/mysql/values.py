"""Values of MariaDB and MySQL: the columns to create for them, and what the driver accepts."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
from sqlalchemy import types as sql
from sqlalchemy.dialects import mysql

from prefect_batch.blocks.databases.column_types import sql_type
from prefect_batch.blocks.kinds.json_form import json_text
from prefect_batch.blocks.kinds.kind import kind_of

# The most that DECIMAL has: digits, and those behind the point.
_DIGITS, _PLACES = 65, 30
_COLUMNS: dict[str, sql.TypeEngine[Any]] = {
    "uint64": mysql.BIGINT(unsigned=True),
    "text": mysql.LONGTEXT(),
    "null": mysql.LONGTEXT(),
    "bytes": mysql.LONGBLOB(),
    "moment": mysql.DATETIME(fsp=6),
    "moment with zone": mysql.DATETIME(fsp=6),
    "time": mysql.TIME(fsp=6),
    "duration": mysql.TIME(fsp=6),
    "UUID": mysql.CHAR(36, collation="utf8mb4_bin"),
}
# The default collation takes 'a' and 'A' for the same key.
_KEYS: dict[str, sql.TypeEngine[Any]] = {
    "text": mysql.VARCHAR(255, collation="utf8mb4_bin"),
    "null": mysql.VARCHAR(255, collation="utf8mb4_bin"),
    "bytes": mysql.VARBINARY(255),
}


def made_type(arrow: pa.DataType, in_key: bool) -> sql.TypeEngine[Any]:
    """Implement `Dialect.made_type`."""
    name = kind_of(arrow).name
    if name == "decimal" and (arrow.precision > _DIGITS or arrow.scale > _PLACES):
        return mysql.DECIMAL(_DIGITS, _PLACES)
    return (_KEYS.get(name) if in_key else None) or _COLUMNS.get(name) or sql_type(arrow)


def storable(value: Any, name: str, column: sql.TypeEngine[Any]) -> Any:
    """Return the value, converted where the driver would drop a part or refuse it: zones, UUIDs, JSON.

    Raises:
        DoesNotFit: it has parts that JSON does not have.
    """
    if isinstance(value, datetime):
        # The driver writes a datetime without its zone; the session's zone is UTC.
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, UUID):
        return value.hex if getattr(column, "length", None) == 32 else str(value)
    if isinstance(value, (dict, list)) and isinstance(column, (sql.JSON, sql.String)):
        return json_text(value, f"column {name}")  # MariaDB's JSON is a LONGTEXT.
    return value
