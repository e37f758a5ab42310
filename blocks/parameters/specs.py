"""The parameters that name the two ends of a job."""

from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.parameters.tables import Query, Table

__all__ = ["SinkSpec", "SourceSpec"]

SourceSpec = Table | Query | Files
SinkSpec = Table | Files
