"""The keys of a table or query without its rows, for `reconcile`: summed by the database, or one by one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, func, select, tuple_

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases.fetch import fetch_batches
from prefect_batch.blocks.databases.keyed_rows import KeyedRows
from prefect_batch.blocks.databases.keyset import sum_columns
from prefect_batch.blocks.databases.waiting import waits
from prefect_batch.blocks.key_sum import KeySum
from prefect_batch.blocks.keys import Key, plain_key

# Keys in memory at once, and keys asked for in one statement.
FETCHED, ASKED = 10_000, 500


@dataclass(frozen=True)
class SqlKeySide:
    """The keys of a source, or of a sink that is read by the source's key.

    Attributes:
        repeats: Whether a key may occur more than once, as in a sink that gets several rows for a record.
    """

    rows: KeyedRows
    repeats: bool = False

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return the same keys as the source's `edges`."""
        return self.rows.edges(after, upto, rows, most)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.rows.name

    @property
    def engine(self) -> Engine:
        """The engine of the database."""
        return self.rows.engine

    @waits
    def sum(self, chunk: ChunkRange) -> KeySum:
        """Return the sum of the range's keys, which are integers, computed by the database."""
        inner = self._keys(chunk).subquery()
        with self.rows.engine.connect() as connection:
            count, first, second = connection.execute(select(*sum_columns(list(inner.c)))).one()
        return KeySum(int(count), int(first or 0), int(second or 0), "integers" if count else "")

    def keys(self, chunk: ChunkRange) -> Iterator[Key]:
        """Yield the range's keys, as the database stores them, in its order."""
        statement, start = self._keys(chunk).order_by(*self.rows.key_expressions), 0
        while keys := self._some(statement.offset(start).limit(FETCHED)):
            yield from keys
            start += len(keys)

    @waits
    def _some(self, statement: Select[Any]) -> list[Key]:
        batches = fetch_batches(self.engine, statement, FETCHED, self.rows.dialect.stream)
        return [plain_key(row) for batch in batches for row in batch]

    def _keys(self, chunk: ChunkRange) -> Select[Any]:
        keys = self.rows.select(*self.rows.key_expressions).where(self.rows.within(chunk.after, chunk.upto))
        return keys.distinct() if self.repeats else keys

    @waits
    def beyond(self, upto: Key) -> int:
        """Return the number of rows beyond this key."""
        with self.rows.engine.connect() as connection:
            statement = self.rows.select(func.count()).where(self.rows.within(upto, None))
            return int(connection.execute(statement).scalar_one())

    @waits
    def has(self, keys: Iterable[Key], after: Key | None, upto: Key | None) -> set[Key]:
        """Return those of these keys that exist in ``(after, upto]``, in their comparable form.

        The order of text does not matter.
        """
        keys, columns = list(keys), self.rows.key_expressions
        found: set[Key] = set()
        with self.rows.engine.connect() as connection:
            for start in range(0, len(keys), ASKED):
                some = keys[start : start + ASKED]
                wanted = columns[0].in_([key[0] for key in some]) if len(columns) == 1 else tuple_(*columns).in_(some)
                statement = self.rows.select(*columns).where(wanted, self.rows.within(after, upto))
                found.update(self.comparable(plain_key(row)) for row in connection.execute(statement))
        return found

    def comparable(self, key: Key) -> Key:
        """Return the key in a form in which a key of another database can equal it.

        SQLite stores dates and decimals as text or numbers.
        """
        readers = self.rows.key_readers
        return tuple(value if read is None else read(value) for value, read in zip(key, readers, strict=True))
