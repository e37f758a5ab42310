"""A table or a query as a source: ranges of its key, found by row rank and read in batches."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Select, column
from sqlalchemy import types as sql

from prefect_batch.blocks.batches import Batch, Unreadable
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.check_source import check_source
from prefect_batch.blocks.databases.column_types import schema_field
from prefect_batch.blocks.databases.dialect import TableReader
from prefect_batch.blocks.databases.explain import estimate_rows, explain_rows, rows_sql
from prefect_batch.blocks.databases.fetch import fetch_batches, row_bytes
from prefect_batch.blocks.databases.key_side import SqlKeySide
from prefect_batch.blocks.databases.keyed_rows import KeyedRows
from prefect_batch.blocks.databases.keyset import one_of
from prefect_batch.blocks.databases.undecoded import DamagedRows, separated
from prefect_batch.blocks.keys import Key, plain_key
from prefect_batch.blocks.kinds.nanoseconds import TextMoment


class SqlSource(KeyedRows):
    """A table or query to read. Connects when first used, and keeps no connection."""

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the records, with text for types that Arrow does not have."""
        return pa.schema([schema_field(c, self.dialect.arrow_type(c.type)) for c in self.columns])

    def check(self) -> list[str]:
        """Return warnings about the source, each a sentence. Rows are only counted.

        Raises:
            BadSource: it does not have this table, column or key, or has NULL in its key.
        """
        return check_source(self)

    def estimate(self, after: Key | None, upto: Key) -> int:
        """Return roughly how many rows are in ``(after, upto]``.

        They are counted if that is cheap, and otherwise estimated by the database.
        """
        return estimate_rows(self, after, upto)

    @cached_property
    def _readers(self) -> list[tuple[int, Callable[[Any], Any]]]:
        found = [(index, self.dialect.read_value(c.type)) for index, c in enumerate(self.columns)]
        return [(index, read) for index, read in found if read is not None]

    @cached_property
    def _key_places(self) -> tuple[int, ...]:
        """The places of the key's values in a row: among the columns, or after them if those are converted."""
        names = self.names
        places = [names.index(name) for name in self.key]
        if {index for index, _ in self._readers}.isdisjoint(places):
            return tuple(places)
        return tuple(range(len(names), len(names) + len(self.key)))

    def read(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the rows of the range in key order, in batches of at most `batch_rows`.

        A row may have more values than names: the key's values, as they are stored, are then at its end.
        """
        for rows in fetch_batches(self.engine, self.statement(chunk), batch_rows, self.dialect.stream):
            yield self._batch(rows)

    def read_tables(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the same rows as `read`, in batches with a table if it holds every value exactly."""
        # A table has no place for the stored key after its columns.
        if self._table_reader is None or self._key_places[0] >= len(self.columns):
            yield from map(self._without_texts, self.read(chunk, batch_rows))
            return
        for batch in self._table_reader(self.engine, self.statement(chunk), batch_rows, self.schema):
            yield self._batch(batch.rows) if batch.table is None else batch

    def _without_texts(self, batch: Batch) -> Batch:
        """Return the batch without rows whose key has a text that a table would not keep, and so write another row."""
        places = [self.names.index(name) for name in self.key]
        odd = [row for row in batch.rows if any(isinstance(row[place], TextMoment) for place in places)]
        if not odd:
            return batch
        reason = (
            "its key has a timestamp that is stored as another text than tables and DataFrames write: use a function "
            "of records, or change the text"
        )
        gone = [
            Unreadable(self.key_of(row), record=dict(zip(self.names, row, strict=False)), reason=reason) for row in odd
        ]
        kept = Batch(self.names, [row for row in batch.rows if row not in odd], batch.row_bytes)
        kept.unreadable = [*batch.unreadable, *gone]
        return kept

    @cached_property
    def _table_reader(self) -> TableReader | None:
        return self.dialect.table_reader(self.engine, self.columns)

    def find(self, keys: Sequence[Key]) -> Iterator[Batch]:
        """Yield the rows that have one of these keys, which may be several if a key is not unique."""
        statement = self._statement(one_of(self.key_expressions, keys))
        for rows in fetch_batches(self.engine, statement, len(keys), self.dialect.stream):
            yield self._batch(rows)

    def statement(self, chunk: ChunkRange) -> Select[Any]:
        """Return the SELECT that reads this chunk: the rows of the range in key order."""
        return self._statement(self.within(chunk.after, chunk.upto))

    def _statement(self, condition: ColumnElement[bool]) -> Select[Any]:
        types = {c.name: sql.NullType() if self.dialect.raw_keys else c.type for c in self.columns}
        read = self.dialect.read_column
        columns = [read(column(c.name, types[c.name]), c.type) for c in self.columns]
        if self._key_places[0] >= len(columns):
            columns += [c.label(f"batch_key_{place}") for place, c in enumerate(self.key_expressions)]
        return self.select(*columns).where(condition).order_by(*self.key_expressions)

    def _batch(self, rows: list[tuple[Any, ...]]) -> Batch:
        size = row_bytes(rows)
        unreadable: list[Unreadable] = []
        if isinstance(rows, DamagedRows):
            rows, unreadable = separated(rows, self.names, self.key_of, self.name)
        batch = Batch(self.names, self._converted(rows) if self._readers and rows else rows, size)
        batch.unreadable = unreadable
        return batch

    def _converted(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        by_column: list[Any] = list(zip(*rows, strict=True))
        for index, read in self._readers:
            by_column[index] = [read(value) for value in by_column[index]]
        return list(zip(*by_column, strict=True))

    def key_side(self, key: tuple[str, ...]) -> SqlKeySide:
        """Return the source's keys by these columns."""
        assert key == self.key
        return SqlKeySide(self)

    def statement_text(self, chunk: ChunkRange) -> str:
        """Return the SQL that reads this chunk, with its values written in."""
        return rows_sql(self, self.statement(chunk))

    def explain(self, chunk: ChunkRange) -> tuple[str, tuple[str, ...]]:
        """Return what EXPLAIN says of reading this chunk, or empty values if the database's plans are not read."""
        found = explain_rows(self, self.statement(chunk))
        return (found.verdict, found.plan) if found else ("", ())

    def key_of(self, row: tuple[Any, ...]) -> Key:
        """Return the key of a row that `read` yielded."""
        return plain_key([row[place] for place in self._key_places])
