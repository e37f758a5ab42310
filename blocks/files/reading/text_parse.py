"""Parses a stretch of records into a table, at once if possible, else without the faulty records."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from prefect_batch.blocks.errors import DoesNotFit
from prefect_batch.blocks.files.reading.text_file import Stretch
from prefect_batch.blocks.parameters.text_form import TextForm


class Fault(NamedTuple):
    """A record that cannot be parsed.

    Attributes:
        place: Its index in the stretch.
        reason: Why it cannot be parsed.
    """

    place: int
    reason: str


class Parser(NamedTuple):
    """How the records of a format are parsed.

    Attributes:
        table: Makes a table of UTF-8 text with one row for each record, or raises ArrowInvalid.
        faults: Finds records that are evidently wrong, given their texts. The others are parsed in halves.
        one: Makes a table of a single record that `table` refuses, or raises ValueError or DoesNotFit. None if there
            is no other way.
    """

    table: Callable[[bytes], pa.Table]
    faults: Callable[[list[bytes]], dict[int, str]]
    form: TextForm
    schema: pa.Schema
    one: Callable[[bytes], pa.Table] | None = None

    def as_utf8(self, raw: bytes) -> bytes:
        """Return a record's bytes as UTF-8.

        Raises:
            UnicodeDecodeError: the bytes are not in the file's encoding.
        """
        return self.form.as_utf8(raw)

    def whole(self, raw: bytes) -> bytes:
        """Return the bytes of many records as UTF-8.

        Bytes that should be UTF-8 already are not checked, because `table` finds what is not.
        """
        return raw if self.form.encoding == "utf-8" else self.form.as_utf8(raw)


class Parsed(NamedTuple):
    """The result of parsing a stretch.

    Attributes:
        places: The index in the stretch of each row of the table.
        faults: The records that cannot be parsed.
    """

    table: pa.Table
    places: "np.ndarray[Any, Any]"
    faults: list[Fault]


def without(items: Sequence[Any], places: set[int]) -> list[Any]:
    """Return the items without those at these indexes."""
    return [item for place, item in enumerate(items) if place not in places]


def parse_stretch(stretch: Stretch, parser: Parser) -> Parsed:
    """Parse the stretch's records into a table."""
    count = len(stretch.starts)
    if stretch.unclosed:
        parsed = parse_stretch(stretch.part(0, count - 1), parser)
        lines = stretch.record(count - 1).count(b"\n")
        reason = (
            f"a quote is opened that is never closed: everything up to the end of the file ({lines:,} lines) is in it"
        )
        return parsed._replace(faults=[*parsed.faults, Fault(count - 1, reason)])
    if not count:
        return Parsed(parser.schema.empty_table(), np.arange(0), [])
    try:
        table = parser.table(parser.whole(stretch.raw[int(stretch.starts[0]) : int(stretch.ends[-1])]))
        if table.num_rows == count:
            return Parsed(table, np.arange(count), [])
    except (UnicodeDecodeError, pa.ArrowInvalid):
        pass
    return _one_by_one(stretch, parser)


def _one_by_one(stretch: Stretch, parser: Parser) -> Parsed:
    texts: dict[int, bytes] = {}
    reasons: dict[int, str] = {}
    for place in range(len(stretch.starts)):
        try:
            texts[place] = parser.as_utf8(stretch.record(place))
        except UnicodeDecodeError as error:
            reasons[place] = f"{error.reason} at byte {error.start + 1} of the record: it is not in {error.encoding}"
    places = list(texts)
    reasons.update({places[index]: reason for index, reason in parser.faults(list(texts.values())).items()})
    places = [place for place in places if place not in reasons]
    tables, good = _halved([texts[place] for place in places], places, parser, reasons)
    table = pa.concat_tables([parser.schema.empty_table(), *tables])
    return Parsed(table, np.array(good, np.int64), [Fault(place, reasons[place]) for place in sorted(reasons)])


def _halved(
    texts: list[bytes], places: list[int], parser: Parser, reasons: dict[int, str]
) -> tuple[list[pa.Table], list[int]]:
    """Parse these records, in halves if need be, and add to `reasons` why some cannot be parsed.

    Returns:
        The tables, and the indexes of the records in them.
    """
    if not texts:
        return [], []
    try:
        # Only the file's last record may lack the end of its line.
        table = parser.table(b"".join(text if text.endswith((b"\n", b"\r")) else text + b"\n" for text in texts))
        if table.num_rows == len(texts):
            return [table], places
        reason = f"it is {table.num_rows} records in one"
    except pa.ArrowInvalid as error:
        reason = _reason(str(error), parser.schema)
    if len(texts) == 1:
        if parser.one is not None:
            try:
                return [parser.one(texts[0])], places
            except (ValueError, DoesNotFit) as error:
                reason = str(error)
        reasons[places[0]] = reason
        return [], []
    middle = len(texts) // 2
    tables, good = _halved(texts[:middle], places[:middle], parser, reasons)
    more, others = _halved(texts[middle:], places[middle:], parser, reasons)
    return tables + more, good + others


def _reason(message: str, schema: pa.Schema) -> str:
    """Return pyarrow's message with the column's name instead of its number, and without the number of a row."""
    message = re.sub(r"(?:^JSON parse error: | ?in row \d+$|Row #\d+: )", "", message)
    return re.sub(r"^In CSV column #(\d+): ", lambda match: f"column {_name(int(match[1]), schema)}: ", message)


def _name(number: int, schema: pa.Schema) -> str:
    return str(schema.names[number]) if number < len(schema.names) else f"#{number}"
