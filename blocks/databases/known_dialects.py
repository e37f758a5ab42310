"""The databases that are known here, one line each. Any other database gets standard SQL."""

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from prefect_batch.blocks.databases.dialect import Dialect
from prefect_batch.blocks.databases.mysql.dialect import MYSQL
from prefect_batch.blocks.databases.postgresql.dialect import POSTGRESQL
from prefect_batch.blocks.databases.sqlite.dialect import SQLITE

STANDARD = Dialect()
DIALECTS = (
    STANDARD,
    SQLITE,
    POSTGRESQL,
    MYSQL,
)
_BY_NAME = {name: dialect for dialect in DIALECTS for name in dialect.schemes}


def dialect_named(name: str, driver: str | None = None) -> Dialect:
    """Return the dialect of a database and a driver, which have SQLAlchemy's names.

    None as the driver is the one used here.
    """
    known = _BY_NAME.get(name, STANDARD)
    is_ours = driver is None or f"{name}+{driver}" in known.schemes.values()
    return known if is_ours else known.by_another_driver()


def dialect_of(engine: Engine) -> Dialect:
    """Return the dialect of the engine's database and driver."""
    return dialect_named(engine.dialect.name, engine.dialect.driver)


def with_driver(url: URL) -> tuple[URL, Dialect]:
    """Return the dialect of the URL's database, and the URL with the driver used here if it names none."""
    known = dialect_named(url.get_backend_name())
    return url.set(drivername=known.schemes.get(url.drivername, url.drivername)), known
