"""The parameters that name the two ends of a job."""

from prefect_batch.blocks.files import Files
from prefect_batch.blocks.table import Query, Table

__all__ = ["SinkSpec", "SourceSpec"]

SourceSpec = Table | Query | Files
SinkSpec = Table | Files
