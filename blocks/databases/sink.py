"""A table as a sink: checked before the run, written in one transaction per chunk."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, NestedTransaction
from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.arrow_values import records_of
from prefect_batch.blocks.batches import Record
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.credentials import hide_passwords
from prefect_batch.blocks.databases.check_source import missing_table
from prefect_batch.blocks.databases.connections import for_writing, sqlite_file
from prefect_batch.blocks.databases.create_table import create_table
from prefect_batch.blocks.databases.end import SqlEnd
from prefect_batch.blocks.databases.ledger import LEDGER, Entry, Ledger
from prefect_batch.blocks.databases.mysql.write import write_mysql
from prefect_batch.blocks.databases.postgresql.write import (
    write_postgresql,
    write_postgresql_apart,
    write_postgresql_table,
)
from prefect_batch.blocks.databases.sqlite.write import write_sqlite, write_sqlite_apart, write_sqlite_table
from prefect_batch.blocks.databases.standard import write_standard
from prefect_batch.blocks.databases.target import Target, describe_target
from prefect_batch.blocks.errors import BadSink
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.parameters.tables import Table
from prefect_batch.blocks.transient import is_transient

__all__ = ["SqlSink", "SqlTransaction"]

# Some 40 MB of records.
HELD_ROWS = 20_000

Write = Callable[[Connection, Target, str, list[Record]], None]
WriteTable = Callable[[Connection, Target, str, pa.Table], None]
_BY_DRIVER: dict[str, Write] = {"pysqlite": write_sqlite, "psycopg": write_postgresql, "pymysql": write_mysql}
WriteApart = Callable[[Connection, Target, str, list[Record] | pa.Table], dict[int, Exception | None] | None]
_TABLES_BY_DRIVER: dict[str, WriteTable] = {"pysqlite": write_sqlite_table, "psycopg": write_postgresql_table}
_APART_BY_DRIVER: dict[str, WriteApart] = {"pysqlite": write_sqlite_apart, "psycopg": write_postgresql_apart}


class SqlTransaction:
    """One chunk's transaction; without `commit` it is rolled back."""

    def __init__(self, connection: Connection, target: Target | None, mode: str, entry: Entry) -> None:
        self._connection, self._target, self._mode, self._entry = connection, target, mode, entry
        self._driver = connection.dialect.driver

    def write(self, records: list[Record]) -> None:
        """Write these records, all or an error; after an error only the savepoint around it can be left.

        Raises:
            RecordError: a record cannot be written as it is.
            Exception: the database refused.
        """
        if records:
            assert self._target is not None
            write = _BY_DRIVER.get(self._driver, write_standard)
            write(self._connection, self._target, self._mode, records)

    def write_table(self, table: pa.Table) -> None:
        """As `write`, for the rows of a table."""
        if not table.num_rows:
            return
        assert self._target is not None
        if write := _TABLES_BY_DRIVER.get(self._driver):
            write(self._connection, self._target, self._mode, table)
        else:
            self.write(records_of(table))

    def write_apart(self, rows: list[Record] | pa.Table) -> dict[int, Exception | None] | None:
        """Write the rows, each for itself, in their order; those that were refused, by their place, and why.

        None when there is no way to do that quickly. After an error only the savepoint around it can be left.
        """
        assert self._target is not None
        write = _APART_BY_DRIVER.get(self._driver)
        return write(self._connection, self._target, self._mode, rows) if write else None

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what was written in the block, and only that, when it raises.

        Raises:
            BadSink: there is no going back, since what was refused has ended the transaction.
        """
        nested = self._connection.begin_nested()
        try:
            yield
        except Exception as error:
            # After a lost connection or a deadlock there is no savepoint left to go back to.
            if not is_transient(error):
                self._go_back(nested, error)
            raise
        nested.commit()

    def _go_back(self, nested: NestedTransaction, error: Exception) -> None:
        try:
            nested.rollback()
        except DBAPIError:
            reason = hide_passwords(str(getattr(error, "orig", None) or error)).strip()
            raise BadSink(
                f"the database ended the chunk's transaction over one record: {reason}; does a trigger roll back? It "
                "may refuse a record (in SQLite: RAISE(ABORT, …)), but not what was written before it"
            ) from error

    def find(self) -> dict[str, Any] | None:
        """The result that the ledger holds for this chunk, or None."""
        return self._entry.find(self._connection)

    def record(self, result: dict[str, Any]) -> None:
        """Put the chunk into the ledger."""
        self._entry.record(self._connection, result)

    def commit(self) -> None:
        """Make everything written durable."""
        self._connection.commit()


class SqlSink(SqlEnd):
    """A table to write to. Connects when first used; holds no connection between transactions."""

    def __init__(self, spec: Table) -> None:
        super().__init__(spec.connection)
        self.spec = spec
        self.name = f"table {spec.name}"
        self._ledger = Ledger(spec.schema)
        self._target: Target | None = None
        self._lock = threading.Lock()

    @property
    def needs_ledger(self) -> bool:
        """Whether a repeated chunk would write its rows twice, were it not for the ledger; and there is to be one."""
        return self.spec.adds_rows and self.spec.ledger

    @property
    def held_rows(self) -> int:
        """How many rows are best held in memory before the transaction begins: SQLite has one writer at a time."""
        return HELD_ROWS if self.engine.dialect.name == "sqlite" else 0

    @property
    def fills(self) -> Path | None:
        """The directory of a SQLite database's file."""
        file = sqlite_file(self._connection)
        return None if file is None else file.parent

    def check(self, source_schema: pa.Schema) -> list[str]:
        """Warnings about the sink, each a sentence.

        Raises:
            BadSink: it is missing, has no such key, or cannot be written in this mode.
        """
        del source_schema  # What the records will be, only the processor knows.
        try:
            target = self._describe()
            if target is None:
                self._check_creatable()
            else:
                self._check_target(target)
        except DBAPIError as error:
            raise BadSink(f"{self.name} cannot be written: {hide_passwords(str(error.orig)).strip()}") from error
        if self.needs_ledger:
            self._create_ledger()
        return []

    def _create_ledger(self) -> None:
        try:
            self._ledger.create(self.engine)
        except DBAPIError as error:
            reason = hide_passwords(str(error.orig)).strip().partition("\n")[0]
            raise BadSink(
                f"the ledger {LEDGER} cannot be made beside {self.name}: {reason}; allow that, or make it yourself, or "
                "do without it: with ledger=False a chunk that is repeated after a crash is written again"
            ) from error

    def _check_creatable(self) -> None:
        if not self.spec.create:
            sentence = missing_table(self.engine, self.spec.name, self.spec.schema)
            stop = "" if sentence.endswith("?") else "."
            raise BadSink(f"{sentence}{stop} Create it, or let it be made from the first records with create=True")
        if self.spec.write == "update":
            raise BadSink(f"{self.name} does not exist, so there is nothing to update; use write='upsert'")

    def _check_target(self, target: Target) -> None:
        for column in target.key:
            if column not in target.types:
                raise BadSink(f"{self.name} has no key column {column}; it has {', '.join(target.types)}")
        if self.spec.write != "append" and not target.key_is_unique:
            key = ", ".join(target.key)
            raise BadSink(
                f"{self.name} has no primary key or unique index on ({key}), so write={self.spec.write!r} cannot tell "
                f"its rows apart: CREATE UNIQUE INDEX ON {self.spec.name} ({key}), or use write='append'"
            )

    def _describe(self) -> Target | None:
        return describe_target(self.engine, self.spec.name, self.spec.schema, self._key)

    @property
    def _key(self) -> tuple[str, ...]:
        """The columns that tell rows of the table apart; rows that are only added need none."""
        return () if self.spec.write == "append" else self.spec.key_columns

    def prepare(self, records: Sequence[Record], source_schema: pa.Schema) -> None:
        """Make the table from these first records, if it is missing and may be made.

        Raises:
            BadSink: it is missing and may not be made, or not from these records.
        """
        with self._lock:
            if self._target is not None:
                return
            if self._describe() is None and self.spec.create and records:
                spec = self.spec
                create_table(self.engine, spec.name, spec.schema, self._key, records, source_schema)
            self._target = self._describe()
            if self._target is None:
                raise BadSink(missing_table(self.engine, self.spec.name, self.spec.schema))

    @contextlib.contextmanager
    def transaction(self, pass_: PassRef, chunk: ChunkRange) -> Iterator[SqlTransaction]:
        """A transaction, rolled back at the end of the block unless it was committed."""
        with for_writing(self.engine).connect() as connection:
            connection.begin()
            mode = "insert" if self.spec.write == "append" else self.spec.write
            yield SqlTransaction(connection, self._target, mode, self._ledger.entry(pass_, chunk))

    def begin_pass(self, pass_: PassRef) -> None:
        """Remove from the ledger what passes of this job that were given up left there long ago."""
        if self.needs_ledger:
            with for_writing(self.engine).begin() as connection:
                self._ledger.forget_leftovers(connection, pass_)

    def end_pass(self, pass_: PassRef) -> None:
        """Remove the pass from the ledger: none of its chunks will be repeated."""
        if self.needs_ledger:
            with for_writing(self.engine).begin() as connection:
                self._ledger.forget(connection, pass_)
