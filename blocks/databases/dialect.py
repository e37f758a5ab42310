"""`Dialect`: the contract between the code for every database and the folder of each one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Engine, Select
from sqlalchemy import types as sql
from sqlalchemy.engine import URL

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.databases import column_types, standard
from prefect_batch.blocks.databases.columns import SourceColumn, table_columns
from prefect_batch.blocks.databases.identity import Identity, standard_identity
from prefect_batch.blocks.databases.target import Target, UniqueIndexes
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.kinds.fit import Fit
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.parameters.health_check import HealthCheck

Refused = dict[int, Exception | None]
TableReader = Callable[[Engine, Select[Any], int, pa.Schema], Iterator[Batch]]


@dataclass(frozen=True)
class Explained:
    """The plan of a SELECT, and whether the database `sorts` or `scans` all rows for it."""

    sorts: bool
    scans: bool
    plan: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The plan as a sentence."""
        if self.sorts and self.scans:
            return "every chunk reads and sorts all of the source: create an index on the key"
        if self.sorts:
            return "every chunk is found by an index, and then sorted"
        if self.scans:
            return "every chunk reads all of the source; for a small table that may be the quickest way"
        return "every chunk is read along an index, in the order of the key"


@dataclass(frozen=True)
class Health:
    """The built-in health checks of a database.

    Attributes:
        queries: The SELECT that returns the number, for each check.
        columns: The column with the number, for statements that return several. The first one that exists counts.
        check_rights: Raises BadParameter if this user would see too small a number.
    """

    queries: Mapping[str, str]
    columns: tuple[str, ...] = ()
    check_rights: Callable[[Connection, HealthCheck], None] = lambda _connection, _check: None


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One kind of database. The defaults are standard SQL, and suit a database that is not known here.

    The three ways to write take a connection with a transaction, the table, the mode and the rows. The mode is
    ``upsert`` (by the key, where the last record with a key wins), ``insert`` or ``update`` (of rows that exist).

    `write` and `write_table` write all rows or raise: RecordError if a record cannot be written as it is, WriteAgain if
    nothing was written and the same call would go another way, or the database's own error.

    `write_one_by_one` writes each row separately, in order. It returns the refused rows by their place, each with its
    error, or with None if only writing that row alone would show the reason. It returns None if these rows have to be
    written in the usual way.

    After an error of any of them, the savepoint around it must be left.

    Attributes:
        schemes: For each URL scheme that names no driver, the scheme with the driver used here.
        arguments: Returns the arguments of `create_engine` for a URL.
        set_up: Configures each new connection of an engine.
        for_writing: Returns the same engine and pool, for transactions that write.
        begin_writing: Prepares a transaction for a chunk's writes: what a row violates must be seen where the row is
            written, and not at the commit, where the row is not known any more.
        in_memory: Whether the database of an engine is in the memory of this process.
        file: Returns the file on this machine that holds the database of a URL, or None if there is none.
        processes: Whether several processes may have the database open at once.
        one_thread: Whether two threads on it are slower than one.
        one_writer: Whether a transaction that writes waits for the one before it.
        savepoints: Whether part of a transaction can be undone. If not, an error ends the transaction, which is then
            begun again, and its writes are repeated.
        row_values: Whether it compares ``(a, b) > (x, y)`` by an index. Measured: OR and AND cost half as much again, a
            plain OR of ANDs twenty times as much.
        raw_keys: Whether a key is found again by the value that the driver returned, without SQLAlchemy's conversion.
        identity: Returns which table of which server a name and a schema stand for, or None if it is no table or its
            rows are elsewhere, such as those of a view.
        table_columns: Returns the columns of a table or view, by its name and schema, in order, or None if it does not
            exist. Raises BadSource if a column's name cannot be used.
        name_bytes: Beyond how many bytes a name is silently cut. None if it never is.
        query_columns: Returns the columns of a SELECT, in order, with their types if the database reports them.
        refused_key: Returns why a column of this type cannot be part of a key, as the end of a sentence, or None if it
            can.
        unique_indexes: Returns the unique indexes of a table, each with what is wrong with it as a key.
        loose_keys: Returns those of these columns of a table, by its name and schema, in which it takes different texts
            for equal, as without regard to case. The blanks that CHAR pads or strips do not count.
        row_version: An SQL expression that is another one after each change of a row. None if there is none.
        check_target: Returns warnings about a table as a sink of this mode. Raises BadSink if a chunk cannot be undone
            or repeated in it. Whatever it changes is rolled back.
        arrow_type: Returns the Arrow type of the values of a column of this type, or string if none holds them exactly.
        column_fit: Returns what a column of this type takes, and how the driver is to be given it.
        made_type: Returns the type of a column to create for values of an Arrow type, so that none is cut, rounded or
            mistaken for another. It is passed whether the column is part of the key. Raises KeyError if there is none.
        read_column: Returns what to select for a column of this type, so that the driver gives its values exactly.
        read_value: Returns the function that turns stored values of such a column into Python values, or None if they
            already are.
        stream: Returns the driver's own cursor, which streams and avoids SQLAlchemy's objects for every row, or None if
            there is none. Rows with values that the driver cannot decode come as `DamagedRows`.
        table_reader: Returns the function that reads a statement's rows in batches with a table, or None if a table
            might change a value of these columns. A batch has rows, as the driver returns them, if a table cannot hold
            them.
        write: Writes records.
        write_table: Writes the rows of a table. If it is None, they are converted to records first.
        write_one_by_one: Writes records, or the rows of a table, each separately. None if that is not faster.
        explain: Returns what EXPLAIN says of a SELECT, or None if its plans are not read.
        guess_rows: Returns roughly how many rows a SELECT has, by its plan alone, or 0 if the plan is not used.
        blame: Returns what is to blame for an error, or None if it is not an error of this database. `Blame.END` is a
            missing privilege, a dropped table or a full disk, and `Blame.RECORD` all that is not known to be anything
            else.
        health: The built-in health checks.
    """

    schemes: Mapping[str, str] = field(default_factory=dict)
    arguments: Callable[[URL], dict[str, Any]] = standard.arguments
    set_up: Callable[[Engine], None] = lambda _engine: None
    for_writing: Callable[[Engine], Engine] = lambda engine: engine
    begin_writing: Callable[[Connection], None] = lambda _connection: None
    in_memory: Callable[[Engine], bool] = lambda _engine: False
    file: Callable[[URL], Path | None] = lambda _url: None

    processes: bool = True
    one_thread: bool = False
    one_writer: bool = False
    savepoints: bool = True
    row_values: bool = False
    raw_keys: bool = False

    identity: Callable[[Connection, str, str | None], Identity | None] = standard_identity
    table_columns: Callable[[Engine, str, str | None], list[SourceColumn] | None] = table_columns
    name_bytes: int | None = None
    query_columns: Callable[[Connection, str], list[SourceColumn]] = standard.query_columns
    refused_key: Callable[[sql.TypeEngine[Any]], str | None] = standard.refused_key
    unique_indexes: UniqueIndexes = standard.unique_indexes
    loose_keys: Callable[[Connection, str, str | None, tuple[str, ...]], tuple[str, ...]] = (
        lambda _connection, _name, _schema, _key: ()
    )
    row_version: str | None = None
    check_target: Callable[[Connection, Target, str], list[str]] = lambda _connection, _target, _write: []
    arrow_type: Callable[[sql.TypeEngine[Any]], pa.DataType] = column_types.arrow_type
    column_fit: Callable[[sql.TypeEngine[Any]], Fit] = column_types.column_fit
    made_type: Callable[[pa.DataType, bool], sql.TypeEngine[Any]] = standard.made_type
    read_column: Callable[[ColumnElement[Any], sql.TypeEngine[Any]], ColumnElement[Any]] = lambda column, _type: column
    read_value: Callable[[sql.TypeEngine[Any]], Callable[[Any], Any] | None] = lambda _type: None

    stream: Callable[[Connection], Any] = lambda _connection: None
    table_reader: Callable[[Engine, list[SourceColumn]], TableReader | None] = lambda _engine, _columns: None
    write: Callable[[Connection, Target, str, list[Record]], None] = standard.write_standard
    write_table: Callable[[Connection, Target, str, pa.Table], None] | None = None
    write_one_by_one: Callable[[Connection, Target, str, list[Record] | pa.Table], Refused | None] | None = None

    explain: Callable[[Connection, Select[Any]], Explained | None] = lambda _connection, _statement: None
    guess_rows: Callable[[Connection, Select[Any]], int] = lambda _connection, _statement: 0
    blame: Callable[[BaseException], Blame | None] = standard.blame
    health: Health = field(default_factory=lambda: Health({}))

    def by_another_driver(self) -> "Dialect":
        """Return the dialect for another driver, whose rows are read and written by SQLAlchemy."""
        plain = Dialect()
        return replace(
            self,
            query_columns=plain.query_columns,
            stream=plain.stream,
            table_reader=plain.table_reader,
            write=plain.write,
            write_table=plain.write_table,
            write_one_by_one=plain.write_one_by_one,
        )
