"""The dialect of PostgreSQL, with psycopg 3: rows are read and written by COPY."""

import json
from typing import Any

from sqlalchemy import Connection, Engine, Select, event
from sqlalchemy import types as sql
from sqlalchemy.engine import URL

from prefect_batch.blocks.databases import standard
from prefect_batch.blocks.databases.columns import SourceColumn, describe
from prefect_batch.blocks.databases.dialect import Dialect, Explained, TableReader
from prefect_batch.blocks.databases.postgresql.catalogue import check_target, loose_keys, unique_indexes
from prefect_batch.blocks.databases.postgresql.decode import register_interval
from prefect_batch.blocks.databases.postgresql.errors import blame
from prefect_batch.blocks.databases.postgresql.health import HEALTH
from prefect_batch.blocks.databases.postgresql.identity import identity
from prefect_batch.blocks.databases.postgresql.stream import Stream
from prefect_batch.blocks.databases.postgresql.tables import carries, fetch_tables
from prefect_batch.blocks.databases.postgresql.values import arrow_type, column_fit, made_type
from prefect_batch.blocks.databases.postgresql.write import (
    write_postgresql,
    write_postgresql_one_by_one,
    write_postgresql_table,
)
from prefect_batch.blocks.databases.statements import explain

_OURS = "postgresql+psycopg"


def _arguments(url: URL) -> dict[str, Any]:
    # Shown in the server's list of sessions. The health checks use it to leave out the sessions of prefect-batch.
    named = {"fallback_application_name": "prefect-batch"} if url.drivername == _OURS else {}
    return {**standard.arguments(url), "connect_args": named}


def _set_up(engine: Engine) -> None:
    if engine.dialect.driver == "psycopg":
        event.listen(engine, "connect", _set_up_connection)


def _set_up_connection(connection: Any, _record: Any) -> None:
    """Prepare no statements, speak UTF-8, and read intervals exactly.

    Behind a pooler such as PgBouncer the next transaction may be in another session, which does not know a prepared
    statement of this name, or has another one. In any other encoding some texts cannot be sent, and none be copied.
    """
    connection.prepare_threshold = None
    register_interval(connection)
    if connection.info.encoding != "utf-8":
        connection.execute("SET client_encoding TO 'UTF8'")
        connection.commit()


def _query_columns(connection: Connection, statement: str) -> list[SourceColumn]:
    return [SourceColumn(str(field[0]), _type(connection, field)) for field in describe(connection, statement)]


def _type(connection: Connection, field: Any) -> sql.TypeEngine[Any]:
    import psycopg

    dialect: Any = connection.dialect
    info = psycopg.adapters.types.get(field[1])
    kind = dialect.ischema_names.get(info.regtype if info else "", sql.NullType)
    if kind is sql.NUMERIC and field[1] == info.oid:
        return sql.Numeric(field[4], field[5])
    zone = info is not None and "with time zone" in info.regtype
    found: sql.TypeEngine[Any] = kind(timezone=zone) if issubclass(kind, (sql.TIMESTAMP, sql.TIME)) else kind()
    return sql.ARRAY(found) if info is not None and field[1] == info.array_oid else found


def _stream(connection: Connection) -> Any:
    return Stream(connection.connection.driver_connection)


def _table_reader(_engine: Engine, columns: list[SourceColumn]) -> TableReader | None:
    return fetch_tables if all(carries(c.type) for c in columns) else None


def _explain(connection: Connection, statement: Select[Any]) -> Explained:
    plan = tuple(str(row[-1]) for row in explain(connection, "EXPLAIN", statement))
    return Explained(any("Sort  (" in step for step in plan), any("Seq Scan" in step for step in plan), plan)


def _guess_rows(connection: Connection, statement: Select[Any]) -> int:
    plan = explain(connection, "EXPLAIN (FORMAT JSON)", statement).scalar_one()
    parsed = json.loads(plan) if isinstance(plan, str) else plan
    return int(parsed[0]["Plan"]["Plan Rows"])


def _begin_writing(connection: Connection) -> None:
    connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")


POSTGRESQL = Dialect(
    schemes={"postgresql": _OURS, "postgres": _OURS},
    arguments=_arguments,
    set_up=_set_up,
    begin_writing=_begin_writing,
    row_values=True,
    raw_keys=True,
    identity=identity,
    name_bytes=63,
    query_columns=_query_columns,
    unique_indexes=unique_indexes,
    loose_keys=loose_keys,
    # Where the row lies.
    row_version="CAST(tableoid AS text) || CAST(ctid AS text)",
    check_target=check_target,
    arrow_type=arrow_type,
    column_fit=column_fit,
    made_type=made_type,
    stream=_stream,
    table_reader=_table_reader,
    write=write_postgresql,
    write_table=write_postgresql_table,
    write_one_by_one=write_postgresql_one_by_one,
    explain=_explain,
    guess_rows=_guess_rows,
    blame=blame,
    health=HEALTH,
)
