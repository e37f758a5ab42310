"""What a suite needs to know of the source or sink under test, and how it reports a broken promise."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prefect_batch.blocks.contracts import Sink, Source
from prefect_batch.blocks.kinds.record import Record


@dataclass(frozen=True)
class SourceCase:
    """A source with known records.

    Attributes:
        open: Opens the source again with each call. It must be picklable, as everything that is sent to worker
            processes, unless the source is `only_here`.
        records: All records in key order, no two of them with the same key.
        clear: Removes all records. None if a pass may not survive that, as with files.
        divides: Whether ranges can be as small as requested. False for a file that is one compressed stream.
    """

    open: Callable[[], Source]
    records: Sequence[Record]
    clear: Callable[[], None] | None = None
    divides: bool = True


def _record(number: int, version: int) -> Record:
    return {"id": number, "qty": version}


@dataclass(frozen=True)
class SinkCase:
    """A sink that is empty, or missing and created when needed.

    Attributes:
        open: Opens the sink again with each call.
        rows: Returns all rows that readers see now, in any order. It is called when the pass has ended.
        record: Returns the record with this number, in this version. Records of different numbers are different rows,
            and a version does not change the key.
        refused: Returns a record with this number that the sink refuses, such as one with text for a number. None for a
            sink that takes everything, which is then not tested with errors.
    """

    open: Callable[[], Sink]
    rows: Callable[[], Iterable[Record]]
    record: Callable[[int, int], Record] = _record
    refused: Callable[[int], Record] | None = None


def promised(kept: object, sentence: str) -> None:
    """Raise AssertionError with this sentence about what was broken and how, unless the promise was kept.

    It is not an ``assert``, because pytest explains only those in tests, and ``python -O`` removes them.
    """
    if not kept:
        raise AssertionError(sentence)


def same_rows(found: Iterable[Record], wanted: Iterable[Record]) -> bool:
    """Return whether these are the same rows, each the same number of times, in any order."""
    return sorted(map(_comparable, found)) == sorted(map(_comparable, wanted))


def _comparable(record: Record) -> str:
    return repr(sorted(record.items()))


def shown(values: Sequence[Any], most: int = 20) -> str:
    """Return the values for a message, cut off if there are many."""
    return f"{', '.join(map(repr, values[:most]))}{' …' if len(values) > most else ''}" or "nothing"
