"""Converts tables to pandas and back: integers and NaN beside NULLs stay what they are."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from prefect_batch.blocks.kinds.convert import to_arrow, values_of
from prefect_batch.blocks.kinds.kind import JSON
from prefect_batch.blocks.kinds.of_values import type_of_values

if TYPE_CHECKING:
    import pandas as pd

_UNKNOWN = (JSON, pa.time64("ns"), pa.uuid(), pa.month_day_nano_interval())


def to_frame(table: pa.Table) -> "pd.DataFrame":
    """Return the table with pandas' nullable types, and Python's values in columns that pandas has no type for."""
    import pandas as pd

    # Not Arrow's own types, which know no modulo there.
    nullable: dict[pa.DataType, Any] = {
        **{getattr(pa, f"int{bits}")(): getattr(pd, f"Int{bits}Dtype")() for bits in (8, 16, 32, 64)},
        **{getattr(pa, f"uint{bits}")(): getattr(pd, f"UInt{bits}Dtype")() for bits in (8, 16, 32, 64)},
        pa.float32(): pd.Float32Dtype(),
        pa.float64(): pd.Float64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view()), pd.StringDtype()),
    }
    known = [_known(column) for column in table.columns]
    frame: pd.DataFrame = pa.table(known, names=table.column_names).to_pandas(types_mapper=nullable.get)
    for place, (column, shown) in enumerate(zip(table.columns, known, strict=True)):
        if is_.is_null(shown.type):
            frame.isetitem(place, np.array([*values_of(column), None], dtype=object)[:-1])
        elif is_.is_floating(shown.type) and pc.any(pc.is_nan(shown)).as_py():
            numbers, missing = shown.fill_null(0.0).to_numpy(), shown.is_null().to_numpy()
            frame.isetitem(place, pd.arrays.FloatingArray(numbers, missing))
    return frame


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type that pandas has; NULLs where it has none."""
    if is_.is_nested(column.type) or column.type in _UNKNOWN:
        return pa.chunked_array([pa.nulls(len(column))])
    return column.cast(pa.float32()) if is_.is_float16(column.type) else column


def from_frame(frame: "pd.DataFrame", source: pa.Schema) -> pa.Table:
    """Return the frame's columns. A column of Python's values gets the source's type of its name, if they fit.

    Raises:
        DoesNotFit: such a column has values of several kinds.
    """
    names = [str(name) for name in frame.columns]
    columns = [_column(frame.iloc[:, place], name, source) for place, name in enumerate(names)]
    return pa.table(columns, names=names)


def _column(series: Any, name: str, source: pa.Schema) -> Any:
    if series.dtype == object:
        # In such a column pandas takes NaN for missing, too.
        values = [None if isinstance(value, float) and value != value else value for value in series]  # noqa: PLR0124
        told = source.field(name).type if name in source.names else None
        if told is not None and (is_.is_nested(told) or told == JSON):
            return to_arrow(values, f"column {name}", told)
        return to_arrow(values, f"column {name}", type_of_values(values))
    column = pa.Array.from_pandas(series)
    return column.cast(pa.string()) if is_.is_large_string(column.type) else column
