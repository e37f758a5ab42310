"""Maps SQL columns to kinds of values and back in standard SQL. The databases' folders have what differs."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from sqlalchemy import types as sql

from prefect_batch.blocks.databases.columns import SourceColumn
from prefect_batch.blocks.kinds.fit import FITS, TIME_WITH_ZONE, Fit, list_fit
from prefect_batch.blocks.kinds.kind import JSON, kind_of
from prefect_batch.blocks.kinds.of_values import KIND

# Of decimals that values alone tell of: as many places as any later one may have.
ANY_DECIMAL = pa.decimal256(76, 38)
_MOST_DIGITS = 65

# The first that a column is an instance of decides.
_KINDS: tuple[tuple[type, str], ...] = (
    (sql.Boolean, "bool"),
    (sql.Integer, "int64"),
    (sql.Float, "float64"),
    (sql.Numeric, "decimal"),
    (sql.Date, "date"),
    (sql.Time, "time"),
    (sql.Interval, "duration"),
    (sql.Uuid, "UUID"),
    (sql._Binary, "bytes"),  # noqa: SLF001 - the only common base of BLOB, BYTEA and VARBINARY
    (sql.JSON, "JSON"),
    (sql.ARRAY, "list"),
    (sql.String, "text"),
)
# Of a kind whose values no Arrow type holds exactly, the columns are text.
_ARROW: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float32": pa.float64(),  # The number of its shortest text, which is not always exact in 4 bytes.
    "float64": pa.float64(),
    "moment": pa.timestamp("us"),
    "moment with zone": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "duration": pa.duration("us"),
    "UUID": pa.uuid(),
    "bytes": pa.binary(),
    "JSON": JSON,
}


def schema_field(column: SourceColumn, arrow: pa.DataType) -> pa.Field:
    """Return the field of a column in a source's schema, with the column's kind if Arrow has no one type for it."""
    kind = column_kind(column.type) if arrow == pa.string() else ""
    return pa.field(column.name, arrow, metadata={KIND: kind} if kind in _MADE_FOR else None)


def own_type(field: pa.Field) -> pa.DataType:
    """Return the Arrow type by which a column is made for this field of a source's schema."""
    kind = (field.metadata or {}).get(KIND, b"").decode()
    return _MADE_FOR.get(kind, field.type)


def column_kind(column: sql.TypeEngine[Any]) -> str:
    """Return the kind of the column's values, or "other" if only the database knows it."""
    if isinstance(column, (sql.DateTime, sql.TIMESTAMP)):
        return "moment with zone" if getattr(column, "timezone", False) else "moment"
    return next((name for kind, name in _KINDS if isinstance(column, kind)), "other")


def arrow_type(column: sql.TypeEngine[Any], kind: str | None = None) -> pa.DataType:
    """Return the Arrow type of a column's values, or string if no Arrow type holds them exactly.

    `kind` is the column's kind, if it is another one than in standard SQL.
    """
    kind = kind or column_kind(column)
    if kind == "decimal":
        return _decimal(column)
    if kind == "time" and getattr(column, "timezone", False):
        return pa.string()
    return _ARROW.get(kind, pa.string())


def column_fit(column: sql.TypeEngine[Any], kind: str | None = None) -> Fit:
    """Return what the column takes. `kind` is as in `arrow_type`."""
    kind = kind or column_kind(column)
    if isinstance(column, sql.ARRAY):
        return list_fit(column_fit(column.item_type))
    if getattr(column, "timezone", False):
        return TIME_WITH_ZONE if kind == "time" else FITS[kind]
    return FITS[kind].named(type_text(column) or FITS[kind].name)


def type_text(column: sql.TypeEngine[Any]) -> str:
    """Return the column's type as SQL, or nothing for a type that SQLAlchemy does not know."""
    try:
        return "" if isinstance(column, sql.NullType) else str(column)
    except Exception:  # noqa: BLE001 - of a type that only its own dialect can write
        return type(column).__name__


def _decimal(column: Any) -> pa.DataType:
    precision, scale = column.precision, column.scale or 0
    if precision is None or precision > 76 or not 0 <= scale <= precision:
        return pa.string()  # No fixed Arrow type holds every value of unbounded precision.
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _numeric(arrow: pa.DataType) -> sql.TypeEngine[Any]:
    if arrow.precision > _MOST_DIGITS:
        return sql.Numeric()
    return sql.Numeric(arrow.precision - min(0, arrow.scale), max(0, arrow.scale))


# What is made for columns of kinds that have no one Arrow type.
_MADE_FOR: dict[str, pa.DataType] = {"decimal": ANY_DECIMAL, "list": JSON}
# For each kind the column that takes each of its values.
_COLUMNS: dict[str, Callable[[pa.DataType], sql.TypeEngine[Any]]] = {
    "null": lambda _: sql.Text(),
    "bool": lambda _: sql.Boolean(),
    **dict.fromkeys(("int8", "int16", "uint8"), lambda _: sql.SmallInteger()),
    **dict.fromkeys(("int32", "uint16"), lambda _: sql.Integer()),
    **dict.fromkeys(("int64", "uint32"), lambda _: sql.BigInteger()),
    "uint64": lambda _: sql.Numeric(20, 0),
    **dict.fromkeys(("float16", "float32", "float64"), lambda _: sql.Double()),
    "decimal": _numeric,
    "text": lambda _: sql.Text(),
    "bytes": lambda _: sql.LargeBinary(),
    "moment": lambda _: sql.DateTime(),
    "moment with zone": lambda _: sql.DateTime(timezone=True),
    "date": lambda _: sql.Date(),
    "time": lambda _: sql.Time(),
    "duration": lambda _: sql.Interval(),
    "UUID": lambda _: sql.Uuid(),
    **dict.fromkeys(("list", "struct", "map", "JSON"), lambda _: sql.JSON()),
}


def sql_type(arrow: pa.DataType) -> sql.TypeEngine[Any]:
    """Return the SQL type of a column that takes values of this Arrow type.

    Raises:
        KeyError: there is none, as for intervals of months.
    """
    return _COLUMNS[kind_of(arrow).name](arrow)
