"""The built-in health checks of PostgreSQL."""

from sqlalchemy import Connection, text

from prefect_batch.blocks.databases.dialect import Health
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.parameters.health_check import HealthCheck

# On a replica, how far it is behind what it has received, or NULL if it is cut off from its primary. On a primary, how
# far the slowest of its replicas is behind.
_LAG = (
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN "
    "(SELECT coalesce(max(extract(epoch FROM replay_lag)), 0) FROM pg_stat_replication) "
    "WHEN pg_last_wal_receive_lsn() IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver) THEN NULL "
    "WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 "
    "ELSE coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0) END"
)
# Without this role PostgreSQL hides the sessions and replicas of other users, and every number would be too small.
_SEES = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), pg_is_in_recovery(), current_user"
_OTHERS = "backend_type = 'client backend' AND pid <> pg_backend_pid()"


def _check_rights(connection: Connection, check: HealthCheck) -> None:
    sees, is_replica, role = connection.execute(text(_SEES)).one()
    if not sees and not (is_replica and check.check == "replica_lag"):
        raise BadParameter(
            f"the role {role} may not see the sessions of others, and so not {check.name}: have a superuser run "
            f"GRANT pg_read_all_stats TO {role}"
        )


HEALTH = Health(
    {
        "replica_lag": _LAG,
        "active_connections": f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND {_OTHERS}",
        "long_transactions": "SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0) FROM pg_stat_activity "
        f"WHERE application_name <> 'prefect-batch' AND {_OTHERS}",
    },
    check_rights=_check_rights,
)
