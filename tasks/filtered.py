"""Which records of a batch were filtered: those that became neither rows nor failures."""

from collections.abc import Iterable, Sequence

import pyarrow as pa

from prefect_batch.blocks.arrow_values import values_of
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.key_sum import KeySum, sum_of_keys
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.values import Batch
from prefect_batch.tasks.work.outputs import Outputs, places
from prefect_batch.tasks.work.process_record import Failure

__all__ = ["sum_filtered"]


def sum_filtered(batch: Batch, outputs: Sequence[Outputs], failures: Sequence[Failure], source: Source) -> KeySum:
    """The sum of the keys of the filtered records; of files none, whose keys no database could be asked for."""
    if not set(source.key) <= set(batch.names):
        return KeySum(kind="unknown")
    kept = {place for part in outputs for place in places(part)}
    kept.update(failure.index for failure in failures)
    return sum_of_keys(_keys(batch, [place for place in range(len(batch)) if place not in kept], source))


def _keys(batch: Batch, wanted: list[int], source: Source) -> Iterable[Key]:
    if batch.table is None:
        rows = batch.rows
        return (source.key_of(rows[place]) for place in wanted)
    columns = batch.table.select(list(source.key)).take(pa.array(wanted, pa.int64())).columns
    return zip(*map(values_of, columns), strict=True)
