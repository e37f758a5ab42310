"""The databases that are known here, a line for each; any other is spoken to in standard SQL."""

from sqlalchemy import Engine

from prefect_batch.blocks.databases.dialect import Dialect
from prefect_batch.blocks.databases.mysql.dialect import MYSQL
from prefect_batch.blocks.databases.postgresql.dialect import POSTGRESQL
from prefect_batch.blocks.databases.sqlite.dialect import SQLITE

__all__ = ["DIALECTS", "dialect_named", "dialect_of"]

STANDARD = Dialect()
DIALECTS = (
    STANDARD,
    SQLITE,
    POSTGRESQL,
    MYSQL,
)
_BY_NAME = {name: dialect for dialect in DIALECTS for name in dialect.schemes}


def dialect_named(name: str) -> Dialect:
    """The dialect of the database of this name, with our driver; names are those of URLs and of SQLAlchemy."""
    return _BY_NAME.get(name, STANDARD)


def dialect_of(engine: Engine) -> Dialect:
    """The dialect of the engine's database, with the engine's driver."""
    name, driver = engine.dialect.name, engine.dialect.driver
    known = dialect_named(name)
    return known if f"{name}+{driver}" in known.schemes.values() else known.by_another_driver()
