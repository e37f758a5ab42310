"""SQL for databases that no test here can reach, compiled: Microsoft SQL Server and Oracle."""

import pytest
from sqlalchemy import column, select, table
from sqlalchemy import types as sql
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql

from prefect_batch.blocks.databases.keyset import beyond, up_to
from prefect_batch.blocks.databases.known_dialects import dialect_named
from prefect_batch.blocks.databases.ledger import Ledger
from prefect_batch.blocks.databases.standard import insert_statement, update_statement
from prefect_batch.blocks.databases.target import Target

A, B, C = (column(name, sql.Integer()) for name in "abc")
TARGET = Target("out", "shop", ("a", "b"), {"a": sql.Integer(), "b": sql.Integer(), "n": sql.Text()}, frozenset())


def flat(statement, dialect):
    return " ".join(str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})).split())


def test_row_values_where_they_are_fast():
    dialect, asked = postgresql.dialect(), dialect_named("postgresql").row_values
    assert flat(beyond([A, B], (1, 2), row_values=asked), dialect) == "(a, b) > (1, 2)"
    assert flat(up_to([A, B], (1, 2), row_values=asked), dialect) == "(a, b) <= (1, 2)"


@pytest.mark.parametrize(
    ("name", "dialect"), [("mssql", mssql.dialect()), ("oracle", oracle.dialect()), ("mysql", mysql.dialect())]
)
def test_elsewhere_the_first_half_is_what_an_index_can_use(name, dialect):
    asked = dialect_named(name).row_values
    found = flat(beyond([A, B, C], (1, 2, 3), row_values=asked), dialect)
    assert found == "a >= 1 AND (a > 1 OR b >= 2 AND (b > 2 OR c > 3))"
    assert flat(up_to([A, B], (1, 2), row_values=asked), dialect) == "a <= 1 AND (a < 1 OR b <= 2)"


@pytest.mark.parametrize("dialect", [mssql.dialect(), oracle.dialect()])
def test_edges_and_last_keys_compile(dialect):
    statement = select(A, B).select_from(table("t")).where(beyond([A, B], (1, 2), row_values=False)).order_by(A, B)
    edge = flat(statement.offset(4999).limit(1), dialect)
    assert "4999" in edge
    assert edge.count("ORDER BY a, b") >= 1
    last = flat(select(A).select_from(table("t")).order_by(A.desc()).limit(1), dialect)
    assert "TOP 1" in last or "FETCH FIRST 1 ROWS ONLY" in last or "ROWNUM <= 1" in last


@pytest.mark.parametrize("dialect", [mssql.dialect(), oracle.dialect()])
def test_upserts_are_an_update_by_key_and_an_insert(dialect):
    update = str(update_statement(TARGET, ("a", "n", "b")).compile(dialect=dialect))
    expected = "UPDATE shop.out SET n=:batch_1 WHERE shop.out.a = :batch_0 AND shop.out.b = :batch_2"
    assert " ".join(update.split()) == expected
    insert = str(insert_statement(TARGET, ("a", "n", "b")).compile(dialect=dialect))
    assert " ".join(insert.split()) == "INSERT INTO shop.out (a, n, b) VALUES (:batch_0, :batch_1, :batch_2)"


@pytest.mark.parametrize("dialect", [mssql.dialect(), oracle.dialect()])
def test_the_ledger_can_be_made(dialect):
    from sqlalchemy.schema import CreateTable

    assert "prefect_batch_chunks" in str(CreateTable(Ledger("shop")._table).compile(dialect=dialect))
