"""The parameters that name the two ends of a job.

A run uses these members without opening an end: `define_source` and `replay` of a source, where `replay` is the number
of the replay that reads it, or None; `define_sink`, `adds_rows`, `forbids_overlap`, `forbids_repair` and `made_again`
of a sink.
"""

from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.parameters.tables import Query, Table

SourceSpec = Table | Query | Files
SinkSpec = Table | Files
