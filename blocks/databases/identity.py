"""Which table a name stands for, as its database says it, whatever the URL is by which the database was reached."""

from dataclasses import dataclass

from sqlalchemy import Connection, inspect


@dataclass(frozen=True)
class Identity:
    """A table of rows of its own, which is no view.

    Attributes:
        server: The server, and the database in it, by what no other one has.
        table: Its name, with that of its schema or database.
        kin: The names of its partitions, and of the tables that it is a partition of.
    """

    server: str
    table: str
    kin: frozenset[str] = frozenset()

    def shares(self, other: "Identity") -> bool:
        """Return whether the two have rows in common, if they are on one server."""
        return self.table in {other.table, *other.kin} or other.table in self.kin


def standard_identity(connection: Connection, name: str, schema: str | None) -> Identity | None:
    """Implement `Dialect.identity`. Two URLs of one server seem to be two servers."""
    inspector = inspect(connection)
    if name not in inspector.get_table_names(schema):
        return None
    place = f"{schema or inspector.default_schema_name}.{name}"
    return Identity(connection.engine.url.render_as_string(), place.casefold())
