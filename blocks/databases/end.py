"""What a table has in common as a source and as a sink: its database."""

from functools import cached_property

from sqlalchemy import Engine

from prefect_batch.blocks.databases.connections import is_in_memory, open_engine

__all__ = ["SqlEnd"]


class SqlEnd:
    """An end that lies in a database. Connects when first used."""

    def __init__(self, connection: str) -> None:
        self._connection = connection

    @cached_property
    def engine(self) -> Engine:
        """The engine of the database."""
        return open_engine(self._connection)

    @property
    def connections(self) -> tuple[str, ...]:
        """The connection, as it stands in the parameters."""
        return (self._connection,)

    @property
    def one_thread(self) -> bool:
        """Whether it is SQLite: there threads hand the interpreter over at every row."""
        return self.engine.dialect.name == "sqlite"

    @property
    def only_here(self) -> bool:
        """Whether the database lives in this process alone."""
        return is_in_memory(self.engine)
