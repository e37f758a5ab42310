"""What a database does its own way: the contract between what is true of every database and the folder of each."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Engine, Select
from sqlalchemy import types as sql
from sqlalchemy.engine import URL

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.databases import standard
from prefect_batch.blocks.databases.columns import SourceColumn
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.parameters.health_check import HealthCheck

__all__ = ["Dialect", "Explained", "Health", "Refused", "TableReader"]

Refused = dict[int, Exception | None]
TableReader = Callable[[Engine, Select[Any], int, pa.Schema], Iterator[Batch]]


@dataclass(frozen=True)
class Explained:
    """What the database says of a SELECT: whether it `sorts` or `scans` all rows for it, and its `plan`."""

    sorts: bool
    scans: bool
    plan: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The plan in a sentence."""
        if self.sorts and self.scans:
            return "every chunk reads and sorts all of the source: create an index on the key"
        if self.sorts:
            return "every chunk is found by an index, and then sorted"
        if self.scans:
            return "every chunk reads all of the source; for a small table that may be the quickest way"
        return "every chunk is read along an index, in the order of the key"


@dataclass(frozen=True)
class Health:
    """The ready-made health checks of a database.

    Attributes:
        queries: For each check, the SELECT that gives its number.
        columns: Which column has the number, where a statement gives several; the first that is there counts.
        check_rights: Raises BadParameter where this user would be shown too small a number.
    """

    queries: Mapping[str, str]
    columns: tuple[str, ...] = ()
    check_rights: Callable[[Connection, HealthCheck], None] = lambda _connection, _check: None


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One kind of database. Each default is standard SQL, and right for a database that is not known here.

    The three ways to write take a connection with a transaction, the table, the way (``upsert``: by the key, of
    records with one key the last one stays; ``insert``; ``update``: rows that exist) and the rows. `write` and
    `write_table` write all rows or raise: RecordError where a record cannot be written as it is, WriteAgain where
    nothing was written and the same call would go another way, or the database's own error. `write_one_by_one` writes
    each row for itself, in their order, and returns those that were refused, by their place, and why: None where only
    a write of that row alone would tell; None instead of all where these rows have to be written in the usual way.
    After an error of any of them only the savepoint around it can be left.

    Attributes:
        schemes: For each scheme of URLs that names no driver, the scheme with ours.
        arguments: What `create_engine` gets for a URL.
        set_up: Has each new connection of an engine set up.
        for_writing: The same engine and pool, for transactions that write.
        in_memory: Whether the database of an engine is in the memory of this process.
        file: The file that holds the database of a URL, on this machine; None if there is none.
        processes: Whether several processes may have the database open at once.
        one_thread: Whether two threads on it are slower than one.
        one_writer: Whether a transaction that writes waits for the one before it.
        savepoints: Whether a part of a transaction can be undone; where it cannot, an error ends the transaction.
        row_values: Whether it compares ``(a, b) > (x, y)`` by an index; measured: with OR and AND it costs half as
            much again, with a plain OR of ANDs twenty times as much.
        raw_keys: Whether a key comes back as the same key just as the driver has it, without SQLAlchemy's conversion.
        query_columns: The columns of a SELECT, in order, with their types where the database tells them.
        refused_key: Why a column of this type cannot be part of a key, as the end of a sentence; None if it can.
        made_type: The type of a column that is made for values of an Arrow type, so that none is cut, rounded or taken
            for another; it gets whether the column is part of the key. KeyError where there is none.
        read_value: What turns the stored values of such a column into Python values; None where they are that already.
        stream: The driver's own cursor, which streams and skips SQLAlchemy's objects for every row; None if not known.
        table_reader: What reads a statement's rows in batches that have a table; None where a value of these columns
            might not come into it as it is. A batch may have rows, as the driver gives them, where a table cannot hold
            them.
        write: Write records.
        write_table: Write the rows of a table; None where they are made records first.
        write_one_by_one: Write records, or the rows of a table, each for itself; None where that is not quicker.
        explain: What EXPLAIN says of a SELECT; None where its plans are not read.
        guess_rows: About how many rows a SELECT has, by its plan alone; 0 where it is not asked.
        verdict: Whether the cause of an error passes by itself; None if it is no error of this database.
        is_of_sink: Whether no record is to blame for an error: no privilege, a table that is gone, a disk that is full.
        health: The ready-made health checks.
    """

    schemes: Mapping[str, str] = field(default_factory=dict)
    arguments: Callable[[URL], dict[str, Any]] = standard.arguments
    set_up: Callable[[Engine], None] = lambda _engine: None
    for_writing: Callable[[Engine], Engine] = lambda engine: engine
    in_memory: Callable[[Engine], bool] = lambda _engine: False
    file: Callable[[URL], Path | None] = lambda _url: None

    processes: bool = True
    one_thread: bool = False
    one_writer: bool = False
    savepoints: bool = True
    row_values: bool = False
    raw_keys: bool = False

    query_columns: Callable[[Connection, str], list[SourceColumn]] = standard.query_columns
    refused_key: Callable[[sql.TypeEngine[Any]], str | None] = standard.refused_key
    made_type: Callable[[pa.DataType, bool], sql.TypeEngine[Any]] = standard.made_type
    read_value: Callable[[sql.TypeEngine[Any]], Callable[[Any], Any] | None] = lambda _type: None

    stream: Callable[[Connection], Any] = lambda _connection: None
    table_reader: Callable[[Engine, list[SourceColumn]], TableReader | None] = lambda _engine, _columns: None
    write: Callable[[Connection, Target, str, list[Record]], None] = standard.write_standard
    write_table: Callable[[Connection, Target, str, pa.Table], None] | None = None
    write_one_by_one: Callable[[Connection, Target, str, list[Record] | pa.Table], Refused | None] | None = None

    explain: Callable[[Connection, Select[Any]], Explained | None] = lambda _connection, _statement: None
    guess_rows: Callable[[Connection, Select[Any]], int] = lambda _connection, _statement: 0
    verdict: Callable[[BaseException], bool | None] = standard.verdict
    is_of_sink: Callable[[BaseException], bool] = lambda _error: False
    health: Health = field(default_factory=lambda: Health({}))

    def by_another_driver(self) -> "Dialect":
        """What of it holds with a driver that is not ours: rows go in and out by SQLAlchemy."""
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
