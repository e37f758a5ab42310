"""The dialect of MariaDB and MySQL, with PyMySQL."""

from typing import Any

from sqlalchemy import Connection, Engine, Select, event
from sqlalchemy import types as sql
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL

from prefect_batch.blocks.databases import standard
from prefect_batch.blocks.databases.columns import SourceColumn, described
from prefect_batch.blocks.databases.dialect import Dialect, Explained, Health
from prefect_batch.blocks.databases.mysql.catalogue import check_target, loose_keys, mysql_columns, unique_indexes
from prefect_batch.blocks.databases.mysql.errors import blame
from prefect_batch.blocks.databases.mysql.identity import identity
from prefect_batch.blocks.databases.mysql.stream import Stream
from prefect_batch.blocks.databases.mysql.values import arrow_type, column_fit, made_type, read_column, reader
from prefect_batch.blocks.databases.mysql.write import write_mysql
from prefect_batch.blocks.databases.statements import explain

_MODES = "NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES,STRICT_TRANS_TABLES"


def _arguments(url: URL) -> dict[str, Any]:
    # Whatever the URL says: in any other encoding some texts cannot be sent.
    return {**standard.arguments(url), "connect_args": {"charset": "utf8mb4"}}


def _set_up(engine: Engine) -> None:
    event.listen(engine, "connect", _set_up_connection)


def _set_up_connection(connection: Any, _record: Any) -> None:
    """Make the session strict, in UTC and in UTF-8, and let 0 in an AUTO_INCREMENT column be 0.

    In a zone with summer time, one hour of TIMESTAMP values a year would be ambiguous as keys. A key 0 would become the
    next free number each time its chunk is repeated. A session that is not strict cuts text, and invents dates and
    numbers.
    """
    if getattr(connection, "charset", "utf8mb4") != "utf8mb4":
        connection.set_character_set("utf8mb4")  # A block's engine may have another one.
    cursor = connection.cursor()
    try:
        cursor.execute(f"SET time_zone = '+00:00', sql_mode = concat(@@sql_mode, ',{_MODES}')")
    finally:
        cursor.close()


def _query_columns(connection: Connection, statement: str) -> list[SourceColumn]:
    # The description that PEP 249 asks for has no flags.
    fields = described(connection, statement)._result.fields  # noqa: SLF001
    return [SourceColumn(field.name, _type(field)) for field in fields]


def _type(field: Any) -> sql.TypeEngine[Any]:
    from pymysql.constants import FIELD_TYPE as KIND
    from pymysql.constants import FLAG

    kinds: dict[int, type[sql.TypeEngine[Any]]] = {
        **dict.fromkeys((KIND.TINY, KIND.SHORT, KIND.LONG, KIND.LONGLONG, KIND.INT24, KIND.YEAR), sql.BigInteger),
        KIND.FLOAT: mysql.FLOAT,
        KIND.DOUBLE: sql.Double,
        **dict.fromkeys((KIND.TIMESTAMP, KIND.DATETIME), sql.DateTime),
        KIND.DATE: sql.Date,
        KIND.BIT: mysql.BIT,
        KIND.GEOMETRY: Geometry,
    }
    if field.flags & (FLAG.ENUM | FLAG.SET):
        return mysql.ENUM() if field.flags & FLAG.ENUM else mysql.SET("?")
    # The driver reports neither the exact size of a decimal nor whether a BLOB is text: these columns become text.
    return kinds.get(field.type_code, sql.NullType)()


class Geometry(sql.NullType):
    """A point, a line or an area, whose values are read as bytes."""


# What is sorted in another order than it is compared in, or has no order.
_UNORDERED: dict[type, str] = {sql.Enum: "an ENUM", mysql.SET: "a SET", mysql.BIT: "a BIT", Geometry: "a geometry"}


def _refused_key(kind: sql.TypeEngine[Any]) -> str | None:
    name = next((name for type_, name in _UNORDERED.items() if isinstance(kind, type_)), None)
    if name is None:
        return standard.refused_key(kind)
    return (
        f"is {name}, which MariaDB and MySQL sort in another order than they compare; use another column, or a query "
        "that casts it, as in CAST(… AS UNSIGNED) or CAST(… AS CHAR)"
    )


def _stream(connection: Connection) -> Any:
    return Stream(connection.connection.driver_connection)


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
    identity=identity,
    table_columns=mysql_columns,
    query_columns=_query_columns,
    refused_key=_refused_key,
    unique_indexes=unique_indexes,
    loose_keys=loose_keys,
    check_target=check_target,
    arrow_type=arrow_type,
    column_fit=column_fit,
    made_type=made_type,
    read_column=read_column,
    read_value=reader,
    stream=_stream,
    write=write_mysql,
    explain=_explain,
    guess_rows=_guess_rows,
    blame=blame,
    health=_HEALTH,
)
