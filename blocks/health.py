"""Health checks: numbers that tell whether a run should wait, read from a database or from Prefect."""

from typing import Any

from prefect.exceptions import ObjectNotFound
from sqlalchemy import Connection, text

from prefect_batch.blocks.databases.connections import open_engine
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.parameters.health_check import HealthCheck
from prefect_batch.blocks.prefect_api import call_api

__all__ = ["look"]


_SECONDS = ("replica_lag", "long_transactions")
# Asked on a replica, how far it is behind what it has received, and nothing when it is cut off from its primary; on a
# primary, how far the slowest of the replicas that follow it is behind.
_POSTGRESQL_LAG = (
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN "
    "(SELECT coalesce(max(extract(epoch FROM replay_lag)), 0) FROM pg_stat_replication) "
    "WHEN pg_last_wal_receive_lsn() IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver) THEN NULL "
    "WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 "
    "ELSE coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0) END"
)
# Without this role PostgreSQL hides what the sessions and replicas of others do: every number would be too small.
_POSTGRESQL_SEES = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), pg_is_in_recovery(), current_user"
_POSTGRESQL_OTHERS = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
_POSTGRESQL = {
    "replica_lag": _POSTGRESQL_LAG,
    "active_connections": f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND {_POSTGRESQL_OTHERS}",
    "long_transactions": "SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0) FROM pg_stat_activity "
    f"WHERE application_name <> 'prefect-batch' AND {_POSTGRESQL_OTHERS}",
}
_MYSQL = {
    "replica_lag": "SHOW REPLICA STATUS",
    "active_connections": "SHOW GLOBAL STATUS LIKE 'Threads_running'",
    "threads_running": "SHOW GLOBAL STATUS LIKE 'Threads_running'",
    "long_transactions": "SELECT coalesce(max(time_to_sec(timediff(now(), trx_started))), 0) "
    "FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> connection_id()",
}
_QUERIES = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL}
# SHOW gives many columns, in another order in each version.
_SHOWN = ("Value", "Seconds_Behind_Master", "Seconds_Behind_Source")


def look(check: HealthCheck) -> str | None:
    """Why to wait, as a clause; None when all is well.

    Raises:
        BadParameter: there is no such check for this database, or no such limit in Prefect.
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
    statement = check.sql or _QUERIES.get(engine.dialect.name, {}).get(str(check.check))
    if statement is None:
        raise BadParameter(f"there is no ready-made check {check.check} for {engine.dialect.name}: write it as sql=…")
    with engine.connect() as connection:
        if check.check and engine.dialect.name == "postgresql":
            _check_sight(check, connection)
        row: Any = connection.execute(text(statement)).mappings().first()
    if row is None and check.check == "replica_lag":
        raise BadParameter("the server is no replica: name the connection of a replica for replica_lag")
    values = [row[name] for name in _SHOWN if name in row] or list(row.values()) if row else []
    try:
        return None if not values or values[0] is None else float(values[0])
    except (TypeError, ValueError) as error:
        raise BadParameter(f"{check.name} must give a number, and not {type(values[0]).__name__}") from error


def _check_sight(check: HealthCheck, connection: Connection) -> None:
    sees, is_replica, role = connection.execute(text(_POSTGRESQL_SEES)).one()
    if not sees and not (is_replica and check.check == "replica_lag"):
        raise BadParameter(
            f"the role {role} may not see the sessions of others, and so not {check.name}: have a superuser run "
            f"GRANT pg_read_all_stats TO {role}"
        )


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
