"""Finds the columns of JSON Lines in the first lines of each file."""

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.kinds.of_values import SPARSE, type_of_values

# More values say no more about the type of a column.
MOST_VALUES = 10_000
_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "numbers",
    float: "numbers",
    str: "text",
    dict: "objects",
    list: "arrays",
}


@dataclass
class _Column:
    """A column as the files seen so far have it.

    Attributes:
        sparse: Whether a line lacks it.
        kind: What its values are, and the first file that has such a value. Empty if all are NULL.
    """

    sparse: bool
    kind: str = ""
    file: str = ""
    values: list[Any] = field(default_factory=list)

    def add(self, name: str, file: str, values: list[Any]) -> None:
        """Add the values of one more file.

        Raises:
            BadSource: they are of another kind than those of an earlier file.
        """
        kind = next((_KINDS[type(value)] for value in values if value is not None), "")
        if kind and self.kind and kind != self.kind:
            raise BadSource(
                f"column {name} has {kind} in {file}, and {self.kind} in {self.file}: give it a type with "
                f'schema={{"{name}": "…"}}, leave it out with columns=[…], or read the files in jobs of their own',
                file,
                name,
            )
        if kind and not self.kind:
            self.kind, self.file = kind, file
        self.values += values[: MOST_VALUES - len(self.values)]


def columns_of(
    samples: Iterable[tuple[str, list[dict[str, Any]]]], typed: Collection[str], wanted: Collection[str] | None = None
) -> pa.Schema:
    """Return the columns of these lines, in the order in which they appear, with types inferred from the values.

    Args:
        samples: The names of files, and their first lines.
        typed: Columns whose type is known, so that they may have other kinds of values in other files.
        wanted: The columns that are read. None means all.

    Raises:
        BadSource: a column has other kinds of values in different files.
    """
    columns: dict[str, _Column] = {}
    first = True
    for file, lines in samples:
        names = dict.fromkeys(itertools.chain.from_iterable(lines))
        for name in names:
            values = [line[name] for line in lines if name in line]
            column = columns.setdefault(name, _Column(sparse=not first))
            column.sparse |= len(values) < len(lines)
            if name not in typed and (wanted is None or name in wanted):
                column.add(name, file, values)
        for name in columns.keys() - names:
            columns[name].sparse = True
        first = first and not lines
    return pa.schema(
        [
            pa.field(name, type_of_values(column.values), metadata=SPARSE if column.sparse else None)
            for name, column in columns.items()
        ]
    )
