"""A table or a query as a source: ranges of its key, found by row rank and read in batches."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Select, and_, column, func, literal_column, select, table, text
from sqlalchemy import types as sql

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.check_source import check_source, missing_table
from prefect_batch.blocks.databases.column_types import arrow_type
from prefect_batch.blocks.databases.columns import SourceColumn, escape_colons, query_columns, table_columns
from prefect_batch.blocks.databases.end import SqlEnd
from prefect_batch.blocks.databases.fetch import fetch_batches, row_bytes
from prefect_batch.blocks.databases.keyset import beyond, one_of, up_to
from prefect_batch.blocks.databases.postgresql.tables import carries, fetch_tables
from prefect_batch.blocks.databases.sqlite.tables import sqlite_table
from prefect_batch.blocks.databases.sqlite.values import reader
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.keys import Key, encode_key, plain_key
from prefect_batch.blocks.parameters.tables import Query, Table
from prefect_batch.blocks.source_estimate import estimate_rows

__all__ = ["SqlSource"]

# With these the key stays as the driver has it: what SQLAlchemy converts might not come back as the same key.
_RAW_KEYS = {"sqlite", "postgresql", "mysql", "mariadb"}


class SqlSource(SqlEnd):
    """The rows of a table or query in the order of its key. Connects when first used; holds no connection between."""

    def __init__(self, spec: Table | Query) -> None:
        super().__init__(spec.connection)
        self.spec = spec
        self.key = spec.key_columns
        self.name = f"table {spec.name}" if isinstance(spec, Table) else "the query"

    @cached_property
    def all_columns(self) -> list[SourceColumn]:
        """Every column of the table or query, also those that are not read.

        Raises:
            BadSource: there is no such table.
        """
        if isinstance(self.spec, Query):
            return query_columns(self.engine, self.spec.sql)
        found = table_columns(self.engine, self.spec.name, self.spec.schema)
        if found is None:
            raise BadSource(missing_table(self.engine, self.spec.name, self.spec.schema), self.name)
        return found

    @cached_property
    def columns(self) -> list[SourceColumn]:
        """The columns that a record has: those asked for, and always the key's."""
        asked = self.spec.columns if isinstance(self.spec, Table) and self.spec.columns else None
        wanted = None if asked is None else {*asked, *self.key}
        return [c for c in self.all_columns if wanted is None or c.name in wanted]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that a record has, in order."""
        return tuple(c.name for c in self.columns)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the records; columns of types that Arrow has not are text."""
        return pa.schema([(c.name, arrow_type(c.type)) for c in self.columns])

    def check(self) -> list[str]:
        """Warnings about the source, each a sentence; nothing is read but counts.

        Raises:
            BadSource: it has no such table, column or key, or NULL in its key.
        """
        return check_source(self)

    @cached_property
    def _key_types(self) -> dict[str, sql.TypeEngine[Any]]:
        if self.engine.dialect.name in _RAW_KEYS:
            return {name: sql.NullType() for name in self.key}
        return {c.name: c.type for c in self.all_columns if c.name in self.key}

    @cached_property
    def key_expressions(self) -> list[ColumnElement[Any]]:
        """The key's columns, to compare, order and select."""
        return [column(name, self._key_types.get(name, sql.NullType())) for name in self.key]

    def select(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """These columns of the source's rows, with the user's condition."""
        if isinstance(self.spec, Query):
            statement = f"(\n{escape_colons(self.spec.sql)}\n) batch_query"
            return select(*columns).select_from(text(statement))
        statement_of_table = select(*columns).select_from(table(self.spec.name, schema=self.spec.schema))
        if self.spec.where:
            # As a literal column it is taken as it stands: a colon in it is no parameter.
            return statement_of_table.where(literal_column(f"(\n{self.spec.where}\n)"))
        return statement_of_table

    def within(self, after: Key | None, upto: Key | None) -> ColumnElement[bool]:
        """Whether a row's key lies in ``(after, upto]``; None is no bound."""
        dialect, columns = self.engine.dialect.name, self.key_expressions
        bounds = [] if after is None else [beyond(columns, after, dialect)]
        bounds += [] if upto is None else [up_to(columns, upto, dialect)]
        return and_(True, *bounds)

    def last_key(self, after: Key | None = None) -> Key | None:
        """The highest key beyond `after`; None when there is no row.

        Raises:
            BadSource: the key cannot be saved exactly.
        """
        descending = [c.desc() for c in self.key_expressions]
        key = self._one(self.select(*self.key_expressions).where(self.within(after, None)).order_by(*descending))
        if key is not None:
            encode_key(key)
            if any(value != value for value in key):  # noqa: PLR0124 - NaN differs from itself
                raise BadSource(
                    f"{self.name} has NaN in its key {self.key}: rows cannot be found again by it", self.name
                )
        return key

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """At most `most` keys in ``(after, upto]``, each `rows` rows after the former; the last may be `upto`.

        The offset counts along the key's index from the former edge, so the cost is that of the rows between.
        """
        found: list[Key] = []
        with self.engine.connect() as connection:
            while len(found) < most and after != upto:
                statement = self.select(*self.key_expressions).where(self.within(after, upto))
                row = connection.execute(statement.order_by(*self.key_expressions).offset(rows - 1).limit(1)).first()
                after = upto if row is None else plain_key(row)
                found.append(after)
        return found

    def back(self, upto: Key, rows: int) -> Key | None:
        """The key `rows` rows before `upto`; None for the start."""
        descending = [c.desc() for c in self.key_expressions]
        statement = self.select(*self.key_expressions).where(self.within(None, upto))
        return self._one(statement.order_by(*descending).offset(rows))

    def _one(self, statement: Select[Any]) -> Key | None:
        with self.engine.connect() as connection:
            row = connection.execute(statement.limit(1)).first()
        return None if row is None else plain_key(row)

    def estimate(self, after: Key | None, upto: Key) -> int:
        """About how many rows lie in ``(after, upto]``: counted where that is cheap, else as the database guesses."""
        with self.engine.connect() as connection:
            rows = self.select(literal_column("1")).where(self.within(after, upto))
            return estimate_rows(connection, rows, self.select(func.count()).where(self.within(after, upto)))

    @cached_property
    def _readers(self) -> list[tuple[int, Callable[[Any], Any]]]:
        if self.engine.dialect.name != "sqlite":
            return []
        found = [(index, reader(c.type)) for index, c in enumerate(self.columns)]
        return [(index, read) for index, read in found if read is not None]

    @cached_property
    def _key_places(self) -> tuple[int, ...]:
        """Where in a row the key's values are: among the columns, or behind them where those are converted."""
        names = self.names
        places = [names.index(name) for name in self.key]
        if {index for index, _ in self._readers}.isdisjoint(places):
            return tuple(places)
        return tuple(range(len(names), len(names) + len(self.key)))

    def read(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """The rows of the range in the order of the key, in batches of at most `batch_rows`.

        A row may be longer than the names: then the key's values as they are stored stand behind them.
        """
        for rows in fetch_batches(self.engine, self.statement(chunk), batch_rows):
            yield self._batch(rows)

    def read_tables(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """As `read`, but the batches have a table, where the database gives one that holds every value exactly."""
        if self._carries_tables:
            yield from fetch_tables(self.engine, self.statement(chunk), batch_rows, self.schema)
            return
        sqlite = self.engine.dialect.name == "sqlite" and self._key_places[0] < len(self.columns)
        for rows in fetch_batches(self.engine, self.statement(chunk), batch_rows):
            table = sqlite_table(rows, self.schema) if sqlite else None
            yield self._batch(rows) if table is None else Batch(self.names, row_bytes=row_bytes(rows), table=table)

    @cached_property
    def _carries_tables(self) -> bool:
        if self.engine.dialect.driver != "psycopg" or not all(carries(c.type) for c in self.columns):
            return False
        with self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            return bool(driver.info.encoding == "utf-8")

    def find(self, keys: Sequence[Key]) -> Iterator[Batch]:
        """The rows that have one of these keys; several where a key is not unique."""
        statement = self._statement(one_of(self.key_expressions, keys))
        for rows in fetch_batches(self.engine, statement, len(keys)):
            yield self._batch(rows)

    def statement(self, chunk: ChunkRange) -> Select[Any]:
        """What reads this chunk: the rows of the range in the order of the key."""
        return self._statement(self.within(chunk.after, chunk.upto))

    def _statement(self, condition: ColumnElement[bool]) -> Select[Any]:
        types = {c.name: sql.NullType() if self.engine.dialect.name in _RAW_KEYS else c.type for c in self.columns}
        columns: list[ColumnElement[Any]] = [column(name, type_) for name, type_ in types.items()]
        if self._key_places[0] >= len(columns):
            columns += [c.label(f"batch_key_{place}") for place, c in enumerate(self.key_expressions)]
        return self.select(*columns).where(condition).order_by(*self.key_expressions)

    def _batch(self, rows: list[tuple[Any, ...]]) -> Batch:
        return Batch(self.names, self._converted(rows) if self._readers else rows, row_bytes(rows))

    def _converted(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        by_column: list[Any] = list(zip(*rows, strict=True))
        for index, read in self._readers:
            by_column[index] = [read(value) for value in by_column[index]]
        return list(zip(*by_column, strict=True))

    def key_of(self, row: tuple[Any, ...]) -> Key:
        """The key of a row that `read` gave."""
        return plain_key([row[place] for place in self._key_places])
