"""The parameter that names a health check: a number above which a run waits."""

from dataclasses import field
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from prefect_batch.blocks.credentials import Connection
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.parameters.form import leave_null_out
from prefect_batch.blocks.passwords import hide_passwords

Ready = Literal["replica_lag", "active_connections", "long_transactions", "threads_running"]


_NAMES = {
    "replica_lag": "the replica lag",
    "active_connections": "the number of active connections",
    "long_transactions": "the age of the oldest transaction",
    "threads_running": "Threads_running",
}


@dataclass(frozen=True, config=ConfigDict(extra="forbid", hide_input_in_errors=True, json_schema_extra=leave_null_out))
class HealthCheck:
    """A number that is checked again and again. While it is above its limit, a run starts no further chunk."""

    check: Annotated[
        Ready | None,
        Field(
            title="Ready-made check",
            description="replica_lag (seconds), active_connections, long_transactions (the seconds of the oldest one), "
            "or, for MariaDB and MySQL, threads_running.",
        ),
    ] = None
    limit: Annotated[
        float | None, Field(title="Limit", description="The run waits while the number is above this.", ge=0)
    ] = None
    connection: Annotated[
        Connection | None,
        Field(title="Connection", description="Which database to ask: as in source and sink."),
    ] = None
    sql: Annotated[
        str | None, Field(title="SQL", description="Instead of a ready-made check: a SELECT that returns a number.")
    ] = None
    prefect_limit: Annotated[
        str | None,
        Field(
            title="Prefect concurrency limit",
            description="Instead of a database: the name of a global concurrency limit of Prefect; the run waits while "
            "it has no free slot, or, with a limit here, more slots than that are taken.",
        ),
    ] = None
    every_seconds: Annotated[
        float, Field(title="Every (seconds)", description="How often it is looked at.", ge=0.1, le=3600)
    ] = field(default=5.0)

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if [self.check, self.sql, self.prefect_limit].count(None) != 2:
            raise BadParameter("a health check needs one of check=…, sql=… and prefect_limit=…")
        if self.prefect_limit is None and (self.limit is None or self.connection is None):
            raise BadParameter("a health check of a database needs a connection, and the limit above which to wait")
        return self

    @property
    def name(self) -> str:
        """What is checked, as messages call it."""
        if self.prefect_limit is not None:
            return f"Prefect's limit {self.prefect_limit}"
        return _NAMES[self.check] if self.check else hide_passwords(" ".join((self.sql or "").split()))[:80]
