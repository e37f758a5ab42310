"""Rows in the order of a key: their columns, and the queries over ranges of the key."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, column, literal_column, select, table, text
from sqlalchemy import types as sql
from sqlalchemy.exc import DataError

from prefect_batch.blocks.databases.columns import SourceColumn, escape_colons, missing_table
from prefect_batch.blocks.databases.end import SqlEnd
from prefect_batch.blocks.databases.keyset import beyond, up_to
from prefect_batch.blocks.databases.undecoded import undecoded_key
from prefect_batch.blocks.databases.waiting import waits
from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.keys import Key, encode_key, plain_key
from prefect_batch.blocks.parameters.tables import Query, Table


class KeyedRows(SqlEnd):
    """The rows of a table or query in the order of its key. Connects when first used, and keeps no connection."""

    def __init__(self, spec: Table | Query) -> None:
        super().__init__(spec.connection)
        self.spec = spec
        self.key = spec.key_columns
        self.name = f"table {spec.name}" if isinstance(spec, Table) else "the query"

    @cached_property
    @waits
    def all_columns(self) -> list[SourceColumn]:
        """All columns of the table or query, including those that are not read.

        Raises:
            BadSource: the table does not exist, or the file of its database.
        """
        if file := self.missing_file:
            raise BadSource(f"{self.name} cannot be read: there is no file {file}; correct the connection", self.name)
        if isinstance(self.spec, Query):
            with self.engine.connect() as connection:
                return self.dialect.query_columns(connection, self.spec.sql)
        found = self.dialect.table_columns(self.engine, self.spec.name, self.spec.schema)
        if found is None:
            raise BadSource(missing_table(self.engine, self.spec.name, self.spec.schema), self.name)
        return found

    @cached_property
    def columns(self) -> list[SourceColumn]:
        """The columns of a record: those asked for, and always those of the key."""
        asked = self.spec.columns if isinstance(self.spec, Table) and self.spec.columns else None
        wanted = None if asked is None else {*asked, *self.key}
        return [c for c in self.all_columns if wanted is None or c.name in wanted]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of a record's columns, in order."""
        return tuple(c.name for c in self.columns)

    @cached_property
    def _key_types(self) -> dict[str, sql.TypeEngine[Any]]:
        if self.dialect.raw_keys:
            return {name: sql.NullType() for name in self.key}
        return {c.name: c.type for c in self.all_columns if c.name in self.key}

    @cached_property
    def key_readers(self) -> list[Callable[[Any], Any] | None]:
        """For each key column, what turns its stored values into Python values, or None if they already are."""
        types = {c.name: c.type for c in self.all_columns}
        return [self.dialect.read_value(types[name]) for name in self.key]

    @cached_property
    def key_expressions(self) -> list[ColumnElement[Any]]:
        """The key's columns, to compare, order and select."""
        return [column(name, self._key_types.get(name, sql.NullType())) for name in self.key]

    def select(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """Return a SELECT of these columns of the source's rows, with the user's condition."""
        if isinstance(self.spec, Query):
            statement = f"(\n{escape_colons(self.spec.sql)}\n) batch_query"
            return select(*columns).select_from(text(statement))
        statement_of_table = select(*columns).select_from(table(self.spec.name, schema=self.spec.schema))
        if self.spec.where:
            # A literal column is used verbatim, so that a colon in it is not a parameter.
            return statement_of_table.where(literal_column(f"(\n{self.spec.where}\n)"))
        return statement_of_table

    def within(self, after: Key | None, upto: Key | None) -> ColumnElement[bool]:
        """Return the condition that a row's key is in ``(after, upto]``, where None is no bound."""
        columns, row_values = self.key_expressions, self.dialect.row_values
        bounds = [] if after is None else [beyond(columns, after, row_values=row_values)]
        bounds += [] if upto is None else [up_to(columns, upto, row_values=row_values)]
        return and_(True, *bounds)

    def last_key(self, after: Key | None = None) -> Key | None:
        """Return the highest key beyond `after`, or None if there is no row.

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

    @waits
    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return at most `most` keys in ``(after, upto]``, each `rows` rows after the one before.

        The last one may be `upto`. The offset counts along the key's index from the previous edge, so the cost is that
        of the rows between.
        """
        found: list[Key] = []
        with self.engine.connect() as connection:
            while len(found) < most and after != upto:
                statement = self.select(*self.key_expressions).where(self.within(after, upto))
                row = self._first(connection, statement.order_by(*self.key_expressions).offset(rows - 1).limit(1))
                after = upto if row is None else plain_key(row)
                found.append(after)
        return found

    def back(self, upto: Key, rows: int) -> Key | None:
        """Return the key `rows` rows before `upto`, or None for the start."""
        descending = [c.desc() for c in self.key_expressions]
        statement = self.select(*self.key_expressions).where(self.within(None, upto))
        return self._one(statement.order_by(*descending).offset(rows))

    @waits
    def _one(self, statement: Select[Any]) -> Key | None:
        with self.engine.connect() as connection:
            row = self._first(connection, statement.limit(1))
        return None if row is None else plain_key(row)

    def _first(self, connection: Connection, statement: Select[Any]) -> Any:
        try:
            return connection.execute(statement).first()
        except DataError as error:
            raise undecoded_key(self.name, str(error.orig).strip()) from error
