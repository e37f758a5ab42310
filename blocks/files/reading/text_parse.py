"""A stretch of records as a table: parsed at once where that goes, else without the records that cannot be parsed."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from prefect_batch.blocks.files.reading.text_file import Stretch
from prefect_batch.blocks.parameters.text_form import TextForm

__all__ = ["Fault", "Parsed", "Parser", "parse_stretch", "without"]


class Fault(NamedTuple):
    """A record that cannot be parsed: its place in the stretch, and why."""

    place: int
    reason: str


class Parser(NamedTuple):
    """How a format's records are parsed.

    `table` makes a table of UTF-8 text, one row for each record, or raises ArrowInvalid. `faults` names records that
    are wrong on the face of it, given their texts; the others are parsed in halves. `as_utf8` makes UTF-8 of a record's
    bytes, or raises UnicodeDecodeError; `whole` does it for many, and leaves it to `table` to find what is no UTF-8.
    """

    table: Callable[[bytes], pa.Table]
    faults: Callable[[list[bytes]], dict[int, str]]
    form: TextForm
    schema: pa.Schema

    def as_utf8(self, raw: bytes) -> bytes:
        """A record's text."""
        return self.form.as_utf8(raw)

    def whole(self, raw: bytes) -> bytes:
        """The text of many records."""
        return raw if self.form.encoding == "utf-8" else self.form.as_utf8(raw)


class Parsed(NamedTuple):
    """What a stretch became: row *i* of the table is the record at ``places[i]``; `faults` are the others."""

    table: pa.Table
    places: "np.ndarray[Any, Any]"
    faults: list[Fault]


def without(items: Sequence[Any], places: set[int]) -> list[Any]:
    """The items but those at these places."""
    return [item for place, item in enumerate(items) if place not in places]


def parse_stretch(stretch: Stretch, parser: Parser) -> Parsed:
    """The stretch's records as a table."""
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
    """The tables of these records, and the places of those that are in them."""
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
        reasons[places[0]] = reason
        return [], []
    middle = len(texts) // 2
    tables, good = _halved(texts[:middle], places[:middle], parser, reasons)
    more, others = _halved(texts[middle:], places[middle:], parser, reasons)
    return tables + more, good + others


def _reason(message: str, schema: pa.Schema) -> str:
    """What pyarrow says, with the column's name instead of its number, and without the number of a row."""
    message = re.sub(r"(?:^JSON parse error: | ?in row \d+$|Row #\d+: )", "", message)
    return re.sub(r"^In CSV column #(\d+): ", lambda match: f"column {_name(int(match[1]), schema)}: ", message)


def _name(number: int, schema: pa.Schema) -> str:
    return str(schema.names[number]) if number < len(schema.names) else f"#{number}"
