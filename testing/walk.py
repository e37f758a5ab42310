"""Walks over a source as a pass does: range by range, with each key saved and loaded."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prefect_batch.blocks.batches import Batch, Unreadable
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.keys import Key, decode_key, encode_key
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.testing.cases import promised, shown

Read = Callable[[ChunkRange, int], Iterator[Batch]]


@dataclass
class Walk:
    """What was read.

    Attributes:
        rows: The rows as ``Batch.row`` returns them.
        records: The same rows as records.
        keys: The keys of the rows.
        unreadable: The records that a source of files could not read.
    """

    ranges: list[ChunkRange] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


def saved(key: Key) -> Key:
    """Return the key as a cursor restores it.

    Raises:
        AssertionError: The key is not equal to the one that was saved.
    """
    loaded = decode_key(json.loads(json.dumps(encode_key(key))))
    promised(loaded == key, f"the key {key!r} is saved as JSON and comes back as {loaded!r}")
    return loaded


def walk(source: Source, rows: int, batch_rows: int = 3, most: int = 1) -> Walk:
    """Read the whole source, in ranges of about `rows` records that are planned `most` at a time.

    Raises:
        AssertionError: The source broke a promise of its contract.
    """
    found = Walk()
    for chunk in ranges_of(source, rows, most):
        read_range(source, chunk, batch_rows, into=found)
    return found


def ranges_of(source: Source, rows: int, most: int = 1) -> list[ChunkRange]:
    """Return the ranges of a pass, each of about `rows` records.

    Raises:
        AssertionError: `edges` broke a promise of its contract.
    """
    ranges: list[ChunkRange] = []
    after, upto = None, source.last_key()
    while upto is not None and after != upto:
        edges = source.edges(after, upto, rows, most)
        _check_edges(source, edges, [chunk.upto for chunk in ranges], upto, most)
        for edge in map(saved, edges):
            ranges.append(ChunkRange(after, edge))
            after = edge
    return ranges


def _check_edges(source: Source, edges: list[Key], before: list[Key], upto: Key, most: int) -> None:
    said = f"{source.name}: edges gave {shown(edges)} for upto={upto!r} and most={most}"
    promised(edges, f"{said}; at least one key is promised while the range is not at its end")
    promised(len(edges) <= most, f"{said}; at most {most} were asked for")
    again = [key for place, key in enumerate(edges) if key in [*before, *edges[:place]]]
    promised(not again, f"{said}; {shown(again)} came before, so that the pass would never end")
    promised(upto not in edges[:-1], f"{said}; nothing lies beyond upto")
    promised(len(edges) == most or edges[-1] == upto, f"{said}; there may be fewer only if the last one is upto")


def read_range(
    source: Source, chunk: ChunkRange, batch_rows: int, *, into: Walk | None = None, read: Read | None = None
) -> Walk:
    """Read a range with `read`, or with the source's own method, and add what was read to `into`.

    Raises:
        AssertionError: A batch broke a promise of the contract.
    """
    found = Walk() if into is None else into
    found.ranges.append(chunk)
    for batch in (read or source.read)(chunk, batch_rows):
        _check_batch(source, chunk, batch, batch_rows)
        rows = [batch.row(place) for place in range(len(batch))]
        found.rows += rows
        found.records += [batch.record(row) for row in rows]
        found.keys += [source.key_of(row) for row in rows]
        found.unreadable += batch.unreadable
    return found


def _check_batch(source: Source, chunk: ChunkRange, batch: Batch, batch_rows: int) -> None:
    said = f"{source.name}: a batch of {chunk.text}"
    promised(len(batch) <= batch_rows, f"{said} has {len(batch):,} records; {batch_rows:,} were allowed")
    promised(len(batch) or batch.unreadable, f"{said} has no record; an empty range gives no batch")
    rows = [batch.row(place)[: len(batch.names)] for place in range(len(batch))]
    promised(
        rows == [row[: len(batch.names)] for row in batch.rows], f"{said} has other values in `rows` than in `row`"
    )
    short = [row for row in rows if len(row) != len(batch.names)]
    promised(not short, f"{said} has the columns {batch.names}, and {shown(short)}")
