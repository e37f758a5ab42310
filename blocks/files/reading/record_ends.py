"""Where the records of a text file end: found in blocks that follow each other, with the quotes of CSV obeyed.

A quote opens a field only where a field begins, and there ends the field at the next quote that is not doubled; any
other quote is a character like others. That is how Python's ``csv`` and pyarrow read, too.
"""

from typing import Any, NamedTuple

import numpy as np

from prefect_batch.blocks.parameters.text_form import TextForm

__all__ = ["Ends", "RecordEnds"]

_LF, _CR = 10, 13
# Structures nothing: it is put in the place of what an escape makes literal.
_PLAIN = ord("x")
_NONE = np.empty(0, np.int64)


class Ends(NamedTuple):
    """Places in a block, in bytes from its start.

    `records` are those just behind a record's end; `lines` those behind a line's end, and a quoted field may contain
    several lines.
    """

    records: Any
    lines: Any


class RecordEnds:
    """Finds the ends of records in blocks of a file, fed one after the other from the start of a record."""

    def __init__(self, form: TextForm) -> None:
        self.form = form
        self._marks = {mark: chr(mark).encode() for mark in (_CR, form.quote, form.escape) if mark is not None}
        self.inside = False  # Whether a quote is open.
        self._before = _LF  # The code unit before the block; a record starts as behind the end of a line.
        self._closing = False  # Whether that one is a quote that closed its field, or was the first of two.
        self._escaped = False  # Whether it makes the block's first one literal.

    def feed(self, block: bytes) -> Ends:
        """The ends in this block.

        It does not end within a code unit, unless the file does, nor between a carriage return and a line feed.
        """
        width = self.form.width
        units = np.frombuffer(block, self.form.unit, len(block) // width)
        if not len(units):
            return Ends(_NONE, _NONE)
        lines = self._lines(block, units)
        units = self._without_escapes(block, units)
        quotes = self._quotes(block, units)
        records = self._outside(lines, quotes, units)
        self._before, self._closing = int(units[-1]), False
        if len(quotes):
            self.inside ^= bool(len(quotes) & 1)
            self._closing = not self.inside and int(quotes[-1]) == len(units) - 1
        if width == 1:
            return Ends(records, lines)
        wide = lines * width
        return Ends(wide if records is lines else records * width, wide)

    def _has(self, mark: int, block: bytes) -> bool:
        """Whether the mark may be in the block; in wide code units its byte may also be part of another character."""
        return self._marks[mark] in block

    def _lines(self, block: bytes, units: Any) -> Any:
        """Behind each line feed, and each carriage return that none follows."""
        lines = np.flatnonzero(units == _LF) + 1
        if not self._has(_CR, block):
            return lines
        returns = np.flatnonzero(units == _CR) + 1
        followed = units[np.minimum(returns, len(units) - 1)] == _LF
        followed[returns == len(units)] = False
        alone = returns[~followed]
        return np.sort(np.concatenate([lines, alone])) if len(alone) else lines

    def _without_escapes(self, block: bytes, units: Any) -> Any:
        """The units, those that an escape makes literal replaced by one that structures nothing."""
        escape = self.form.escape
        if escape is None or not (self._escaped or self._has(escape, block)):
            return units
        units = units.copy()
        if self._escaped:
            units[0] = _PLAIN
        places = np.flatnonzero(units == escape)
        self._escaped = False
        if len(places):
            # Of escapes in a row, every second one is literal itself.
            order = np.arange(len(places))
            begins = np.concatenate([[True], np.diff(places) > 1])
            active = places[(order - np.maximum.accumulate(np.where(begins, order, 0))) % 2 == 0]
            self._escaped = int(active[-1]) == len(units) - 1
            units[active[: len(active) - self._escaped] + 1] = _PLAIN
        return units

    def _quotes(self, block: bytes, units: Any) -> Any:
        """The places of the quotes that open or close a field, in turn; a doubled one counts as both."""
        quote = self.form.quote
        if quote is None or not self._has(quote, block):
            return _NONE
        quotes = np.flatnonzero(units == quote)
        opening = quotes[int(self.inside) :: 2]
        if self._all_at_field_start(opening, units):
            return quotes
        return self._structural(quotes.tolist(), units)

    def _all_at_field_start(self, opening: Any, units: Any) -> bool:
        """Whether quotes, of which every other one opens, open where a field begins or right behind a closing one."""
        if not len(opening):
            return True
        if opening[0] == 0:
            fits = self._opens_field(self._before) or self._closing
            opening = opening[1:]
        else:
            fits = True
        before = units[opening - 1]
        fields = (before == self.form.delimiter) | (before == self.form.quote) | (before == _LF) | (before == _CR)
        return fits and bool(fields.all())

    def _opens_field(self, before: int) -> bool:
        return before in (self.form.delimiter, _LF, _CR)

    def _structural(self, quotes: list[int], units: Any) -> Any:
        """As `_quotes`, where some quotes are plain characters: one after the other."""
        found = []
        inside, closed = self.inside, -1 if self._closing else -2
        for place in quotes:
            if inside:
                inside, closed = False, place
            elif closed == place - 1 or self._opens_field(self._before if place == 0 else int(units[place - 1])):
                inside = True
            else:
                continue
            found.append(place)
        return np.array(found, np.int64)

    def _outside(self, lines: Any, quotes: Any, units: Any) -> Any:
        """Of the ends of lines, those that end a record: outside of quotes, and not escaped."""
        if self.form.escape is not None:
            lines = lines[units[lines - 1] != _PLAIN]
        if not len(quotes):
            return lines[:0] if self.inside else lines
        # A line's end is behind it: the quotes before that place are those before the line feed.
        within = (np.searchsorted(quotes, lines) & 1).astype(bool) ^ self.inside
        return lines[~within] if within.any() else lines
