"""What a table has as a source and as a sink: its database."""

from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine

from prefect_batch.blocks.databases.connections import open_engine
from prefect_batch.blocks.databases.dialect import Dialect
from prefect_batch.blocks.databases.known_dialects import dialect_of


class SqlEnd:
    """A source or sink in a database. Connects when first used."""

    def __init__(self, connection: str) -> None:
        self._connection = connection

    @cached_property
    def engine(self) -> Engine:
        """The engine of the database."""
        return open_engine(self._connection)

    @cached_property
    def dialect(self) -> Dialect:
        """The dialect of the database."""
        return dialect_of(self.engine)

    @property
    def missing_file(self) -> Path | None:
        """The file that the database would be in, if there is none. Connecting would create it, empty."""
        file = self.dialect.file(self.engine.url)
        return None if file is None or file.exists() else file

    @property
    def connections(self) -> tuple[str, ...]:
        """The connection, as the parameters name it."""
        return (self._connection,)

    @property
    def one_thread(self) -> bool:
        """Whether two threads on it are slower than one."""
        return self.dialect.one_thread

    @property
    def only_here(self) -> bool:
        """Whether no other process can open the database."""
        return self.dialect.in_memory(self.engine) or not self.dialect.processes
