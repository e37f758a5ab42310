"""Health checks: numbers from a database or from Prefect that show whether a run should wait."""

from typing import Any

from prefect.exceptions import ObjectNotFound
from sqlalchemy import text

from prefect_batch.blocks.databases.connections import open_engine
from prefect_batch.blocks.databases.known_dialects import dialect_of
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.parameters.health_check import HealthCheck
from prefect_batch.blocks.prefect_api import call_api

_SECONDS = ("replica_lag", "long_transactions")


def look(check: HealthCheck) -> str | None:
    """Return why the run should wait, as a clause, or None if it need not wait.

    Raises:
        BadParameter: this database has no such check, or Prefect has no such limit.
        Exception: the database, or Prefect, did not answer.
    """
    if check.prefect_limit is not None:
        return _look_at_prefect(check, check.prefect_limit)
    found = _measure(check)
    unit = " s" if check.check in _SECONDS else ""
    if found is None:
        return f"{check.name} gives no number"
    return f"{check.name} is {found:,.6g}{unit}, above {check.limit:g}{unit}" if found > (check.limit or 0) else None


def _measure(check: HealthCheck) -> float | None:
    assert check.connection is not None
    engine = open_engine(check.connection)
    health = dialect_of(engine).health
    statement = check.sql or health.queries.get(str(check.check))
    if statement is None:
        raise BadParameter(f"there is no ready-made check {check.check} for {engine.dialect.name}: write it as sql=…")
    with engine.connect() as connection:
        if check.check:
            health.check_rights(connection, check)
        row: Any = connection.execute(text(statement)).mappings().first()
    if row is None and check.check == "replica_lag":
        raise BadParameter("the server is no replica: name the connection of a replica for replica_lag")
    values = [row[name] for name in health.columns if name in row] or list(row.values()) if row else []
    try:
        return None if not values or values[0] is None else float(values[0])
    except (TypeError, ValueError) as error:
        raise BadParameter(f"{check.name} must give a number, and not {type(values[0]).__name__}") from error


def _look_at_prefect(check: HealthCheck, name: str) -> str | None:
    try:
        found = call_api(lambda client: client.read_global_concurrency_limit_by_name(name), patience_seconds=0)
    except ObjectNotFound as error:
        raise BadParameter(
            f"Prefect has no global concurrency limit {name}; make it with: prefect gcl create {name} --limit 4"
        ) from error
    if not found.active:
        return None
    if check.limit is not None:
        taken = f"has {found.active_slots:,} slots taken, above {check.limit:g}"
        return f"{check.name} {taken}" if found.active_slots > check.limit else None
    if found.active_slots < found.limit:
        return None
    return f"{check.name} has no free slot ({found.active_slots:,} of {found.limit:,} taken)"
