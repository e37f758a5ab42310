"""The dialect of MariaDB and MySQL, with PyMySQL."""

from typing import Any

from sqlalchemy import Connection, Engine, Select, event
from sqlalchemy import types as sql
from sqlalchemy.engine import URL

from prefect_batch.blocks.databases import standard
from prefect_batch.blocks.databases.columns import SourceColumn, describe
from prefect_batch.blocks.databases.dialect import Dialect, Explained, Health
from prefect_batch.blocks.databases.mysql.errors import blame
from prefect_batch.blocks.databases.mysql.values import made_type
from prefect_batch.blocks.databases.mysql.write import write_mysql
from prefect_batch.blocks.databases.statements import explain


def _arguments(url: URL) -> dict[str, Any]:
    charset = {} if "charset" in url.query else {"charset": "utf8mb4"}
    return {**standard.arguments(url), "connect_args": charset}


def _set_up(engine: Engine) -> None:
    event.listen(engine, "connect", _set_up_connection)


def _set_up_connection(connection: Any, _record: Any) -> None:
    """Set the session's time zone to UTC.

    In a zone with summer time, one hour of TIMESTAMP values a year would be ambiguous as keys.
    """
    cursor = connection.cursor()
    try:
        cursor.execute("SET time_zone = '+00:00'")
    finally:
        cursor.close()


def _query_columns(connection: Connection, statement: str) -> list[SourceColumn]:
    return [SourceColumn(str(field[0]), _type(field)) for field in describe(connection, statement)]


def _type(field: Any) -> sql.TypeEngine[Any]:
    from pymysql.constants import FIELD_TYPE as KIND

    kinds: dict[int, type[sql.TypeEngine[Any]]] = {
        **dict.fromkeys((KIND.TINY, KIND.SHORT, KIND.LONG, KIND.LONGLONG, KIND.INT24, KIND.YEAR), sql.BigInteger),
        **dict.fromkeys((KIND.FLOAT, KIND.DOUBLE), sql.Double),
        **dict.fromkeys((KIND.TIMESTAMP, KIND.DATETIME), sql.DateTime),
        KIND.DATE: sql.Date,
    }
    # The driver reports neither the exact size of a decimal nor whether a BLOB is text: these columns become text.
    return kinds.get(field[1], sql.NullType)()


def _refused_key(kind: sql.TypeEngine[Any]) -> str | None:
    if isinstance(kind, sql.Enum):
        return "is an ENUM, which MariaDB and MySQL sort in another order than they compare; use another column"
    return standard.refused_key(kind)


def _stream(connection: Connection) -> Any:
    from pymysql.cursors import SSCursor

    driver: Any = connection.connection.driver_connection
    return driver.cursor(SSCursor)


def _explain(connection: Connection, statement: Select[Any]) -> Explained:
    rows = list(explain(connection, "EXPLAIN", statement).mappings())
    return Explained(
        sorts=any("filesort" in str(row["Extra"]) for row in rows),
        scans=any(row["type"] in ("ALL", "index") and row["key"] is None for row in rows),
        plan=tuple(", ".join(f"{name}={row[name]}" for name in ("type", "key", "rows", "Extra")) for row in rows),
    )


def _guess_rows(connection: Connection, statement: Select[Any]) -> int:
    guesses = [int(row["rows"] or 0) for row in explain(connection, "EXPLAIN", statement).mappings()]
    return max(guesses, default=0)


_HEALTH = Health(
    {
        "replica_lag": "SHOW REPLICA STATUS",
        "active_connections": "SHOW GLOBAL STATUS LIKE 'Threads_running'",
        "threads_running": "SHOW GLOBAL STATUS LIKE 'Threads_running'",
        "long_transactions": "SELECT coalesce(max(time_to_sec(timediff(now(), trx_started))), 0) "
        "FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> connection_id()",
    },
    # SHOW returns many columns, in a different order in each version.
    columns=("Value", "Seconds_Behind_Master", "Seconds_Behind_Source"),
)


MYSQL = Dialect(
    schemes={"mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"},
    arguments=_arguments,
    set_up=_set_up,
    raw_keys=True,
    query_columns=_query_columns,
    refused_key=_refused_key,
    made_type=made_type,
    stream=_stream,
    write=write_mysql,
    explain=_explain,
    guess_rows=_guess_rows,
    blame=blame,
    health=_HEALTH,
)
