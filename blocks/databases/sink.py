"""A table as a sink: checked before the run, and written in one transaction per chunk."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, NestedTransaction, Select, inspect, literal_column, select, table
from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.capabilities import InPlace
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.databases import standard
from prefect_batch.blocks.databases.asked_keys import AskedKeys
from prefect_batch.blocks.databases.columns import missing_table
from prefect_batch.blocks.databases.connections import file_of
from prefect_batch.blocks.databases.create_table import create_table
from prefect_batch.blocks.databases.describe_target import describe_target
from prefect_batch.blocks.databases.dialect import Dialect, Refused
from prefect_batch.blocks.databases.end import SqlEnd
from prefect_batch.blocks.databases.in_place import is_in_place
from prefect_batch.blocks.databases.key_side import SqlKeySide
from prefect_batch.blocks.databases.keyed_rows import KeyedRows
from prefect_batch.blocks.databases.ledger import LEDGER, Entry, Ledger
from prefect_batch.blocks.databases.redone_writes import RedoneWrites
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.databases.waiting import waits
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import BadSink, RowSkipped, WriteAgain
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.kinds.convert import records_of
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.parameters.tables import Table

# Some 40 MB of records.
HELD_ROWS = 20_000


class SqlTransaction:
    """One chunk's transaction, which is rolled back without `commit`.

    Attributes:
        skipped: The places of the rows of the last write that the database left out, where the sink accepts that.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect, target: Target | None, spec: Table, write: str, entry: Entry
    ) -> None:
        self._connection, self._dialect, self._target = connection, dialect, target
        self._spec, self._write, self._entry = spec, write, entry
        self.skipped: list[int] = []
        self._redone = None if dialect.savepoints else RedoneWrites(self._begin_again)

    def _begin_again(self) -> None:
        self._connection.rollback()
        self._connection.begin()
        self._dialect.begin_writing(self._connection)

    def write(self, records: list[Record]) -> None:
        """Write these records, as `Dialect` promises."""
        if records:
            self._verified(records, self._dialect.write)

    def write_table(self, table: pa.Table) -> None:
        """Write the rows of a table, as `write` does."""
        if write_table := table.num_rows and self._dialect.write_table:
            self._verified(table, write_table)
        else:
            self.write(records_of(table))

    def _verified(self, rows: Any, write: Callable[[Connection, Target, str, Any], None]) -> None:
        """Write the rows, and ask for their keys where the counts of the database prove nothing.

        Raises:
            WriteAgain: it left out a row for the first time: only who has seen the table before can tell which one.
            RecordError: it left out a row, or took its key for another one.
        """
        assert self._target is not None
        asked, skips = self._asked(self._target), self._target.skips
        before = asked.rows(rows) if skips else {}
        call = functools.partial(write, self._connection, self._target, self._write, rows)
        try:
            call() if self._redone is None else self._redone.do(call)
        except RowSkipped as error:
            self._target.obstacles.add(type(error).__name__)
            raise WriteAgain(str(error)) from error
        if self._target.loose and self._write != "insert":
            asked.check_spelling(rows)
        self.skipped = asked.left_out(rows, before) if skips else []
        if self.skipped and self._spec.skipped != "filtered":
            raise asked.refusal(self.skipped[0], rows, before)

    def _asked(self, target: Target) -> AskedKeys:
        key = target.key or tuple(name for name in self._spec.key_columns if name in target.types)
        return AskedKeys(self._connection, target, key, self._write, self._dialect.row_version)

    def write_one_by_one(self, rows: list[Record] | pa.Table) -> Refused | None:
        """Write the rows one by one, as `Dialect` promises."""
        assert self._target is not None
        write_one_by_one = self._dialect.write_one_by_one
        if write_one_by_one is None or self._redone is not None or self._target.loose:
            return None
        return write_one_by_one(self._connection, self._target, self._write, rows)

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what was written in the block, and only that, if the block raises.

        Raises:
            BadSink: there is no way back, because the refused record has ended the transaction.
        """
        if self._redone is not None:
            with self._redone.block(self._is_over):
                yield
            return
        nested = self._connection.begin_nested()
        try:
            yield
        except BaseException as error:
            if not self._is_over(error):
                self._go_back(nested, error)
            raise
        nested.commit()

    def _is_over(self, error: Any) -> bool:
        """Return whether the savepoint is gone, as after a lost connection or a deadlock."""
        if issubclass(type(error), (ConnectionError, TimeoutError)):
            return True
        of_driver = self._dialect.blame(error.orig if issubclass(type(error), DBAPIError) else error)
        return Blame.PASSING in (standard.blame(error), of_driver)

    def _go_back(self, nested: NestedTransaction, error: BaseException) -> None:
        try:
            nested.rollback()
        except DBAPIError:
            reason = str(getattr(error, "orig", None) or error).strip()
            raise BadSink(
                f"the database ended the chunk's transaction over one record: {reason}; does a trigger roll back? It "
                "may refuse a record (in SQLite: RAISE(ABORT, …)), but not what was written before it"
            ) from error

    def find(self) -> dict[str, Any] | None:
        """Return the result that the ledger holds for this chunk, or None."""
        return self._entry.find(self._connection)

    def record(self, result: dict[str, Any]) -> None:
        """Write the chunk's result to the ledger."""
        self._entry.record(self._connection, result)

    def commit(self) -> None:
        """Commit the transaction, which makes everything written durable."""
        self._connection.commit()


class SqlSink(SqlEnd):
    """A table to write to. Connects when first used, and keeps no connection between transactions."""

    def __init__(self, spec: Table) -> None:
        super().__init__(spec.connection)
        self.spec = spec
        self.name = f"table {spec.name}"
        self._ledger = Ledger(spec.schema)
        self._target: Target | None = None
        self._lock = threading.Lock()
        self.in_place: InPlace = "no"

    @property
    def needs_ledger(self) -> bool:
        """Whether a ledger is wanted, and a repeated chunk would write its rows twice without it."""
        return self.spec.ledger and (self.spec.adds_rows or self.in_place != "no")

    def meet(self, source: Source) -> None:
        """Find out whether the source may read this table."""
        if not isinstance(source, KeyedRows) or self.missing_file:
            return
        try:
            self.in_place = self._look_at(source)
        except DBAPIError as error:
            raise BadSink(f"{self.name} cannot be written: {str(error.orig).strip()}", self.name) from error

    @waits
    def _look_at(self, source: KeyedRows) -> InPlace:
        return is_in_place(source, self, self.spec)

    @property
    def held_rows(self) -> int:
        """The number of rows to hold in memory before a transaction begins, if transactions wait for one another."""
        return HELD_ROWS if self.dialect.one_writer else 0

    @property
    def fills(self) -> Path | None:
        """The directory of the file that holds the database, or None if there is no such file."""
        file = file_of(self._connection)
        return None if file is None else file.parent

    def check(self, source_schema: pa.Schema, *, dry_run: bool = False) -> list[str]:
        """Return warnings about the sink, each a sentence.

        Raises:
            BadSink: the table is missing, does not have the key, or cannot be written in this mode.
        """
        del source_schema  # Only the processor knows what the records will be.
        if file := self.missing_file:
            if not self.spec.create:
                way_on = "Correct the connection, or let it be made from the first records with create=True"
                raise BadSink(f"{self.name} cannot be written: there is no file {file}. {way_on}", self.name)
            if dry_run:
                return []  # To connect would make it.
        try:
            warnings = self._check()
        except DBAPIError as error:
            raise BadSink(f"{self.name} cannot be written: {str(error.orig).strip()}", self.name) from error
        if self.needs_ledger and not dry_run:
            self._create_ledger()
        if self.in_place == "yes" and not self.spec.ledger:
            repeated = "a chunk that is repeated after a crash changes its records twice; leave ledger=False out"
            warnings = [*warnings, f"{self.name} is written where it is read, without a ledger: {repeated}"]
        return warnings

    @waits
    def _check(self) -> list[str]:
        target = self._describe()
        if target is not None:
            return self._check_target(target)
        self._check_creatable()
        return []

    @waits
    def _make_ledger(self) -> None:
        self._ledger.create(self.engine)

    def _create_ledger(self) -> None:
        try:
            self._make_ledger()
            ledger = describe_target(self.engine, self.dialect, LEDGER, self.spec.schema, ())
            if ledger is not None:
                self._ask_catalogue(ledger, "insert")
        except DBAPIError as error:
            reason = str(error.orig).strip().partition("\n")[0]
            raise BadSink(
                f"the ledger {LEDGER} cannot be made beside {self.name}: {reason}; allow that, or make it yourself, or "
                "do without it: with ledger=False a chunk that is repeated after a crash is written again, or changed "
                "again where the source reads what is written",
                self.name,
            ) from error

    def _check_creatable(self) -> None:
        if not self.spec.create:
            sentence = missing_table(self.engine, self.spec.name, self.spec.schema)
            stop = "" if sentence.endswith("?") else "."
            way_on = "Create it, or let it be made from the first records with create=True"
            raise BadSink(f"{sentence}{stop} {way_on}", self.name)
        if self.spec.write == "update":
            raise BadSink(f"{self.name} does not exist, so there is nothing to update; use write='upsert'", self.name)

    def _check_target(self, target: Target) -> list[str]:
        for column in target.key:
            if column not in target.types:
                known = ", ".join(target.types)
                raise BadSink(f"{self.name} has no key column {column}; it has {known}", self.name, column)
        if self.spec.write != "append":
            self._check_key(target)
        warnings = self._ask_catalogue(target, self._write)
        if target.loose and self.spec.write != "append":
            warnings.append(
                f"{self.name} takes different texts in {', '.join(target.loose)} for the same key, such as those that "
                "differ in case or in blanks at the end: a record whose key is there in another spelling fails"
            )
        return warnings

    def _check_key(self, target: Target) -> None:
        """Raise BadSink unless the database itself prevents two rows with the same key."""
        flaws = target.flaws(self.spec.write)
        if target.of_key and not flaws:
            return
        key = ", ".join(target.key)
        has = "; ".join(flaws) if flaws else f"it has no primary key or unique index on ({key})"
        raise BadSink(
            f"{self.name}: {has}, so write={self.spec.write!r} cannot tell its rows apart: "
            f"CREATE UNIQUE INDEX ON {self.spec.name} ({key}), or use write='append'",
            self.name,
        )

    def _ask_catalogue(self, target: Target, write: str) -> list[str]:
        with self.engine.connect() as connection:
            return self.dialect.check_target(connection, target, write)

    def _describe(self) -> Target | None:
        return describe_target(self.engine, self.dialect, self.spec.name, self.spec.schema, self._key)

    @property
    def _write(self) -> str:
        """The mode, as the dialect names it."""
        return "insert" if self.spec.write == "append" else self.spec.write

    @property
    def _key(self) -> tuple[str, ...]:
        """The columns that identify the table's rows, or none if rows are only appended."""
        return () if self.spec.write == "append" else self.spec.key_columns

    def prepare(self, records: Sequence[Record], source_schema: pa.Schema) -> None:
        """Create the table from these first records, if it is missing and `create` is set.

        Raises:
            BadSink: it is missing and may not be created, or cannot be created from these records.
        """
        with self._lock:
            if self._target is not None:
                return
            if self._describe() is None and self.spec.create and records:
                spec = self.spec
                create_table(self, spec.name, spec.schema, self._key, records, source_schema)
                if made := self._describe():
                    self._check_target(made)
            self._target = self._describe()
            if self._target is None:
                raise BadSink(missing_table(self.engine, self.spec.name, self.spec.schema), self.name)

    @contextlib.contextmanager
    def transaction(self, pass_: PassRef, chunk: ChunkRange) -> Iterator[SqlTransaction]:
        """Open the chunk's transaction, which is rolled back at the end of the block unless it was committed."""
        with self.dialect.for_writing(self.engine).connect() as connection:
            connection.begin()
            self.dialect.begin_writing(connection)
            entry = self._ledger.entry(pass_, chunk)
            yield SqlTransaction(connection, self.dialect, self._target, self.spec, self._write, entry)

    @waits
    def begin_pass(self, pass_: PassRef) -> None:
        """Remove old rows from the ledger that abandoned passes of this job have left."""
        if self.needs_ledger:
            with self.dialect.for_writing(self.engine).begin() as connection:
                self._ledger.forget_leftovers(connection, pass_)

    @waits
    def end_pass(self, pass_: PassRef) -> None:
        """Close the pass in the ledger, because none of its chunks may be repeated any more."""
        if self.needs_ledger:
            with self.dialect.for_writing(self.engine).begin() as connection:
                self._ledger.close(connection, pass_)

    def committed(self, pass_: PassRef) -> int | None:
        """Return how many rows of an unfinished pass the table has, unless there is no ledger.

        None of them is left if somebody has emptied the table.
        """
        spec = self.spec
        any_row: Select[Any] = select(literal_column("1")).select_from(table(spec.name, schema=spec.schema)).limit(1)
        with self.engine.connect() as connection:
            inspector = inspect(connection)
            if not inspector.has_table(spec.name, spec.schema) or connection.execute(any_row).first() is None:
                return 0
            if not (self.needs_ledger and inspector.has_table(LEDGER, spec.schema)):
                return None
            return self._ledger.rows_written(connection, pass_)

    def abandon(self, pass_: PassRef) -> None:
        """Close the pass in the ledger, as if it were complete."""
        self.end_pass(pass_)

    def key_side(self, key: tuple[str, ...]) -> SqlKeySide:
        """Return the table's keys by these columns. A record may have written several rows with the same key.

        Raises:
            BadSink: the table does not have such a column.
        """
        rows = KeyedRows(Table(self.spec.connection, self.spec.name, key=list(key), schema=self.spec.schema))
        names = {column.name for column in rows.all_columns}
        if lacking := [name for name in key if name not in names]:
            raise BadSink(
                f"{self.name} has no column {lacking[0]}, by which the source is read: which record a row comes from "
                "cannot be told (does the processor rename the key?)",
                self.name,
                lacking[0],
            )
        return SqlKeySide(rows, repeats=self.spec.write == "append" or set(self.spec.key_columns) != set(key))
