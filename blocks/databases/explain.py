"""Shows how a database would read keyed rows: the SQL, what EXPLAIN says of it, and roughly how many rows it has."""

from decimal import Decimal
from typing import Any

from sqlalchemy import Select, func, literal_column

from prefect_batch.blocks.databases.dialect import Explained
from prefect_batch.blocks.databases.keyed_rows import KeyedRows
from prefect_batch.blocks.databases.waiting import waits
from prefect_batch.blocks.keys import Key

# If the database estimates at most this many rows, they are counted, which takes a fraction of a second.
COUNTED = 1_000_000


@waits
def explain_rows(rows: KeyedRows, statement: Select[Any]) -> Explained | None:
    """Return what EXPLAIN says of this statement on the rows, or None for a database whose plans are not read."""
    with rows.engine.connect() as connection:
        return rows.dialect.explain(connection, statement)


@waits
def estimate_rows(rows: KeyedRows, after: Key | None, upto: Key) -> int:
    """Return roughly how many rows are in ``(after, upto]``.

    They are counted if that is cheap, and otherwise estimated by the database.
    """
    within = rows.within(after, upto)
    with rows.engine.connect() as connection:
        guess = rows.dialect.guess_rows(connection, rows.select(literal_column("1")).where(within))
        if guess > COUNTED:
            return guess
        return int(connection.execute(rows.select(func.count()).where(within)).scalar_one())


def rows_sql(rows: KeyedRows, statement: Select[Any]) -> str:
    """Return the SQL of this statement on the rows for people, with its values written in."""
    make_dialect: Any = type(rows.engine.dialect)
    compiled = statement.compile(dialect=make_dialect(paramstyle="named"))
    sql = str(compiled)
    # The longest names first, because a name may begin with another one.
    for name in sorted(compiled.params, key=len, reverse=True):
        sql = sql.replace(f":{name}", _literal(compiled.params[name]))
    return "\n".join(line.rstrip() for line in sql.splitlines())


def _literal(value: Any) -> str:
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return "'" + str(value).replace("'", "''") + "'"
