"""Asks a sink for the keys of rows, where the count of a statement does not prove that all of them were written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import (
    CHAR,
    JSON,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    column,
    false,
    literal_column,
    or_,
    select,
    table,
)
from sqlalchemy import types as sql

from prefect_batch.blocks.databases.rows import Same, same_columns
from prefect_batch.blocks.databases.target import Target
from prefect_batch.blocks.errors import KeyCollides, RowNotFound, RowSkipped
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.convert import records_of
from prefect_batch.blocks.kinds.record import Record

# Keys asked for in one statement.
_ASKED = 200

# The names of the columns that rows are asked by, and their values.
_Asked = tuple[tuple[str, ...], Key]
Rows = dict[_Asked, list[dict[str, Any]]]


@dataclass(frozen=True)
class AskedKeys:
    """The rows that a table has of some keys.

    Attributes:
        key: The columns by which rows are asked for. Rows that do not have them are asked for by all their columns.
        version: An SQL expression that is another one after each change of a row, if the database has such a thing.
    """

    connection: Connection
    target: Target
    key: tuple[str, ...]
    write: str
    version: str | None = None

    def rows(self, written: list[Record] | pa.Table) -> Rows:
        """Return the rows that the table has of the keys of the rows to write.

        Raises:
            RecordError: a row cannot be written as it is.
        """
        found: Rows = {}
        for same in self._same(written):
            names, keys = self._key(same), [*dict.fromkeys(self._keys(same))]
            for start in range(0, len(keys), _ASKED):
                for row in self._found(names, keys[start : start + _ASKED]):
                    found.setdefault((names, self._told(names, [row[name] for name in names])), []).append(row)
        return found

    def left_out(self, written: list[Record] | pa.Table, before: Rows) -> list[int]:
        """Return the places of the rows that were not written, by what the table had of their keys before."""
        after, times, skipped = self.rows(written), dict[_Asked, int](), []
        for place, (asked, sent) in enumerate(self._asked(written)):
            times[asked] = times.get(asked, 0) + 1
            there, now = before.get(asked, []), after.get(asked, [])
            if not self.target.key:
                is_written = len(now) >= len(there) + times[asked]
            elif now != there:
                is_written = bool(now)
            else:
                is_written = self.write != "insert" and any(all(row[n] == sent[n] for n in sent) for row in now)
            if not is_written:
                skipped.append(place)
        return skipped

    def refusal(self, place: int, written: list[Record] | pa.Table, before: Rows) -> RowSkipped | RowNotFound:
        """Return the error of a row that was not written."""
        if self.write == "update" and [*self._asked(written)][place][0] not in before:
            return RowNotFound(self.target.name, self.target.key, place)
        return RowSkipped(self.target.name, refused_row=place)

    def check_spelling(self, written: list[Record] | pa.Table) -> None:
        """Check that the table has each key as it was written, where it takes different texts for equal.

        Raises:
            KeyCollides: it has a row with this key in another spelling.
        """
        there = self.rows(written)
        for place, ((names, key), _) in enumerate(self._asked(written)):
            if (names, key) not in there and self._found(names, [key]):
                raise KeyCollides(self.target.name, self.target.loose, place)

    def _same(self, written: list[Record] | pa.Table) -> Iterator[Same]:
        records = records_of(written) if isinstance(written, pa.Table) else written
        return (same.fitted(self.target) for same in same_columns(records, self.target))

    def _asked(self, written: list[Record] | pa.Table) -> Iterator[tuple[_Asked, dict[str, Any]]]:
        """Yield what each row is asked by, and its values."""
        for same in self._same(written):
            names = self._key(same)
            for key, values in zip(self._keys(same), same.rows, strict=True):
                yield (names, key), dict(zip(same.names, values, strict=True))

    def _key(self, same: Same) -> tuple[str, ...]:
        if self.key and set(self.key) <= set(same.names):
            return self.key
        # Documents, arrays and unknown types may have no equality.
        odd = (JSON, sql.ARRAY, sql.NullType)
        return tuple(name for name in same.names if not isinstance(self.target.types[name], odd))

    def _keys(self, same: Same) -> list[Key]:
        names = self._key(same)
        columns = [same.columns[same.names.index(name)] for name in names]
        return [self._told(names, values) for values in zip(*columns, strict=True)]

    def _told(self, names: tuple[str, ...], values: Sequence[Any]) -> Key:
        """Return the values as they are compared here, without the blanks that CHAR pads or strips."""
        return tuple(
            value.rstrip(" ") if isinstance(value, str) and isinstance(self.target.types[name], CHAR) else value
            for name, value in zip(names, values, strict=True)
        )

    def _found(self, names: tuple[str, ...], keys: list[Key]) -> list[dict[str, Any]]:
        all_names = list(self.target.types)
        columns: list[ColumnElement[Any]] = [column(name) for name in names]
        version: list[ColumnElement[Any]] = [literal_column(self.version)] if self.version else []
        into = table(self.target.name, schema=self.target.schema)
        wanted = or_(false(), *(and_(True, *map(_equal, columns, key)) for key in keys))
        selected: list[ColumnElement[Any]] = [*map(column, all_names), *version]
        rows = self.connection.execute(select(*selected).select_from(into).where(wanted)).all()
        return [dict(zip([*all_names, ""][: len(row)], row, strict=True)) for row in rows]


def _equal(of_column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    if value is None:
        return of_column.is_(None)
    # Without a type: SQLAlchemy would cast it to one, and the database compare the column as that.
    return of_column == bindparam(None, value, type_=sql.NullType())
