"""The parameters that name the two ends of a job.

What a run asks of one that it does not open: `define_source` or `define_sink`; of a source `replay`, the number of the
replay that it is the source of, or None; of a sink `adds_rows`, `forbids_overlap` and `made_again`.
"""

from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.parameters.tables import Query, Table

__all__ = ["SinkSpec", "SourceSpec"]

SourceSpec = Table | Query | Files
SinkSpec = Table | Files
