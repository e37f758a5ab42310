"""What a suite needs to know of the end that it tries, and how it says that a promise was broken."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prefect_batch.blocks.batches import Record
from prefect_batch.blocks.contracts import Sink, Source

__all__ = ["SinkCase", "SourceCase", "promised", "same_rows", "shown"]


@dataclass(frozen=True)
class SourceCase:
    """A source with known records.

    Attributes:
        open: Opens the source, anew with each call. It can be pickled, as all that is sent to worker processes, unless
            the source is `only_here`.
        records: All records in the order of the key; no two of them have the same key.
        clear: Removes all records. None where a pass may not survive that, as with files.
        divides: Whether ranges can be as small as they are asked for; not in a file that is one packed stream.
    """

    open: Callable[[], Source]
    records: Sequence[Record]
    clear: Callable[[], None] | None = None
    divides: bool = True


def _record(number: int, version: int) -> Record:
    return {"id": number, "qty": version}


@dataclass(frozen=True)
class SinkCase:
    """A sink that is empty, or missing and made when it is needed.

    Attributes:
        open: Opens the sink, anew with each call.
        rows: Returns all rows that readers see now, in any order. It is asked when the pass has ended.
        record: Makes the record with this number, in this version: records of different numbers are different rows, and
            what a version changes is not the key.
        refused: Makes a record with this number that the sink refuses, as one with text for a number. None for a sink
            that takes everything, which is then not tried with errors.
    """

    open: Callable[[], Sink]
    rows: Callable[[], Iterable[Record]]
    record: Callable[[int, int], Record] = _record
    refused: Callable[[int], Record] | None = None


def promised(kept: object, sentence: str) -> None:
    """Raise AssertionError with the sentence, which says what was broken and how, unless the promise was kept.

    Not an ``assert``: pytest explains those of tests only, and ``python -O`` leaves them out.
    """
    if not kept:
        raise AssertionError(sentence)


def same_rows(found: Iterable[Record], wanted: Iterable[Record]) -> bool:
    """Whether these are the same rows, each as often, in any order."""
    return sorted(map(_comparable, found)) == sorted(map(_comparable, wanted))


def _comparable(record: Record) -> str:
    return repr(sorted(record.items()))


def shown(values: Sequence[Any], most: int = 20) -> str:
    """The values for a message, cut off if there are many."""
    return f"{', '.join(map(repr, values[:most]))}{' …' if len(values) > most else ''}" or "nothing"
