"""A vectorized function over a batch: whole where it can be, in halves down to the records that fail."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as is_

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.errors import BadOutput, BadRecord, BadRecords, DoesNotFit, SkipRecord, StopBatch
from prefect_batch.blocks.kinds.convert import to_arrow_or_null
from prefect_batch.blocks.kinds.frames import from_frame, to_frame
from prefect_batch.blocks.kinds.json_form import json_text
from prefect_batch.blocks.kinds.of_values import type_of_values
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.processor import Processor
from prefect_batch.tasks.work.failure import Failure, check_blames_record
from prefect_batch.tasks.work.outputs import Item, ItemTable, Outputs, join_tables
from prefect_batch.tasks.work.process_record import process_batch

# The column with the record of the batch that a row of a Table comes from. A DataFrame has its index for that.
RECORD = "__record__"
# If there is a fallback, a batch takes this many calls, and then continues record by record.
CALLS = 40

Outcome = tuple[list[Outputs], list[Failure]]


def process_vectorized(processor: Processor, batch: Batch, schema: pa.Schema, record_retries: int) -> Outcome:
    """Call the vectorized function for the batch's records.

    A call that raises is repeated with both halves of its records, down to the one that it was raised for; a call that
    raises `BadRecords` is repeated without those records.

    Returns:
        The outputs and the failures. A record in neither was filtered.

    Raises:
        StopBatch: The function raised it.
        RemoteError: This process lacks something, such as memory for a single record, or descriptors.
    """
    table, failures = (batch.table, []) if batch.table is not None else arrow_table(batch, schema)
    places = np.delete(np.arange(len(batch)), [failure.index for failure in failures])
    halving = _Halving(processor, batch, table, record_retries)
    outputs, more = halving.work(places)
    return join_tables(outputs), failures + more


class _Halving:
    """The calls for one batch, counted."""

    def __init__(self, processor: Processor, batch: Batch, table: pa.Table, record_retries: int) -> None:
        self._processor, self._batch, self._table = processor, batch, table
        self._record_retries = record_retries
        self._calls = 0

    def work(self, places: "np.ndarray[Any, Any]") -> Outcome:
        """Return the outputs of the records at these places of the batch, and those that failed."""
        if not len(places):
            return [], []
        self._calls += 1
        if self._processor.fallback is not None and self._calls > CALLS:
            return self._one_by_one(self._processor.fallback, places.tolist())
        try:
            return self._call(places), []
        except StopBatch:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a user's function raises is narrowed down to its records
            if type(error) is BadRecords and (named := _named(error, len(places))):
                return self._without(named, places)
            check_blames_record(error, records=len(places))
            if len(places) == 1:
                return [], self._one(int(places[0]), error)
        middle = len(places) // 2
        (outputs, failures), (more, others) = self.work(places[:middle]), self.work(places[middle:])
        return outputs + more, failures + others

    def _call(self, places: "np.ndarray[Any, Any]") -> list[Outputs]:
        first, count = int(places[0]), len(places)
        connected = places[-1] - first + 1 == count
        table = self._table.slice(first, count) if connected else self._table.take(pa.array(places))
        if self._processor.form == "table":
            output = self._processor.function(table.append_column(RECORD, pa.array(places, pa.int64())))
            return _of_table(output, places)
        import pandas as pd

        frame = to_frame(table)
        frame.index = pd.Index(places)
        return _of_frame(self._processor.function(frame), places, self._table.schema)

    def _without(self, named: dict[int, str], places: "np.ndarray[Any, Any]") -> Outcome:
        failures = [Failure(int(places[p]), "process", BadRecord(reason), 1) for p, reason in named.items()]
        outputs, more = self.work(np.delete(places, list(named)))
        return outputs, failures + more

    def _one(self, place: int, error: BaseException) -> list[Failure]:
        """Return the failure of the only record of a call, or none if it was filtered."""
        if issubclass(type(error), SkipRecord):
            return []
        if type(error) is BadRecords:
            error = BadOutput(
                "BadRecords must name at least one record of the batch, with a reason for each or for all"
            )
        return [Failure(place, "process", error, 1)]

    def _one_by_one(self, function: Callable[[Record], Any], places: list[int]) -> Outcome:
        rows = [self._batch.rows[place] for place in places]
        items, failures = process_batch(
            function, Batch(self._batch.names, rows, gaps=self._batch.gaps), self._record_retries
        )
        return (
            [[Item(places[item.index], item.rows) for item in items]],
            [replace(failure, index=places[failure.index]) for failure in failures],
        )


def _named(named: BadRecords, rows: int) -> dict[int, str]:
    """Return the reason for each position that `BadRecords` names, or none if it names no such records."""
    try:
        bad = _positions(named.bad, rows)
        reasons = [named.reasons] * len(bad) if isinstance(named.reasons, str) else list(map(str, named.reasons))
        return dict(zip(bad, reasons, strict=True))
    except Exception:  # noqa: BLE001 - a user's values, which may be anything
        return {}


def _positions(bad: Any, rows: int) -> list[int]:
    """Return the positions that a mask or a list of positions names, or none if one of them does not exist."""
    values = bad.to_pylist() if isinstance(bad, (pa.Array, pa.ChunkedArray)) else list(bad)
    if any(type(value).__name__ in ("bool", "bool_") for value in values):
        return [position for position, is_bad in enumerate(values) if is_bad] if len(values) == rows else []
    positions = sorted({int(value) for value in values})
    return positions if all(0 <= position < rows for position in positions) else []


def _of_frame(output: Any, places: "np.ndarray[Any, Any]", source: pa.Schema) -> list[Outputs]:
    import pandas as pd

    if not isinstance(output, pd.DataFrame):
        raise BadOutput(f"the vectorized processor returned {type(output).__name__}; it must return a DataFrame")
    origins = np.asarray(output.index, dtype=np.int64)
    return _outputs(origins, from_frame(output, source), places)


def _of_table(output: Any, places: "np.ndarray[Any, Any]") -> list[Outputs]:
    if not isinstance(output, pa.Table):
        raise BadOutput(f"the vectorized processor returned {type(output).__name__}; it must return a pyarrow.Table")
    if RECORD in output.column_names:
        origins = output.column(RECORD)
        if origins.null_count or not pa.types.is_integer(origins.type):
            raise BadOutput(f"the vectorized processor changed the column {RECORD}")
        return _outputs(origins.to_numpy(), output.drop_columns(RECORD), places)
    if output.num_rows != len(places):
        raise BadOutput(
            f"the vectorized processor returned {output.num_rows} rows for {len(places)} records: keep the column "
            f"{RECORD}, which tells which record each of them comes from"
        )
    return _outputs(places, output, places)


def _outputs(origins: "np.ndarray[Any, Any]", table: pa.Table, places: "np.ndarray[Any, Any]") -> list[Outputs]:
    """Return the outputs of the records that have rows. A record without rows was filtered."""
    if not np.array_equal(origins, places) and not np.isin(origins, places).all():
        raise BadOutput("the vectorized processor changed the index, which tells which record a row comes from")
    return [ItemTable(table, origins)] if table.num_rows else []


def arrow_table(batch: Batch, schema: pa.Schema) -> tuple[pa.Table, list[Failure]]:
    """Return the batch as a table in the types of the source, and the failures of records that do not fit them."""
    columns: dict[str, pa.Array] = {}
    failures: dict[int, Failure] = {}
    for name, values in zip(batch.names, zip(*batch.rows, strict=True), strict=False):
        columns[name], misfits = _column(values, schema.field(name).type)
        for index, error in misfits.items():
            failures.setdefault(index, Failure(index, "process", BadOutput(f"column {name}: {error}"), 1))
    return pa.table(columns), list(failures.values())


def _column(values: Sequence[Any], arrow: pa.DataType) -> tuple[pa.Array, dict[int, Exception]]:
    if is_.is_string(arrow) and not set(map(type, values)) <= {str, NoneType}:
        return _of_no_type(values)  # A type that SQL does not report, such as a decimal of any precision.
    return to_arrow_or_null(values, arrow)


def _of_no_type(values: Sequence[Any]) -> tuple[pa.Array, dict[int, Exception]]:
    if not any(isinstance(value, dict) for value in values):
        return to_arrow_or_null(values, type_of_values(values))
    # Documents, which as structs would have each other's keys.
    texts: list[str | None] = []
    misfits: dict[int, Exception] = {}
    for index, value in enumerate(values):
        try:
            texts.append(None if value is None else json_text(value, "it"))
        except DoesNotFit as error:
            texts.append(None)
            misfits[index] = error
    return pa.array(texts, pa.string()), misfits
