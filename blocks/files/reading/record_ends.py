"""Finds where the records of a text file end, block by block, with regard to the quotes of CSV.

A quote opens a quoted field only where a field begins, and the next quote that is not doubled closes it. Any other
quote is an ordinary character. Python's ``csv`` and pyarrow read in the same way.
"""

from typing import Any, NamedTuple

import numpy as np

from prefect_batch.blocks.parameters.text_form import TextForm

_LF, _CR = 10, 13
# A plain character, which replaces what an escape makes literal.
_PLAIN = ord("x")
_NONE = np.empty(0, np.int64)


class Ends(NamedTuple):
    """Positions in a block, in bytes from its start.

    Attributes:
        records: The positions just behind the end of a record.
        lines: The positions just behind the end of a line. A quoted field may contain several lines.
    """

    records: Any
    lines: Any


class RecordEnds:
    """Finds the ends of records in consecutive blocks of a file, of which the first starts with a record."""

    def __init__(self, form: TextForm) -> None:
        self.form = form
        self._marks = {mark: chr(mark).encode() for mark in (_CR, form.quote, form.escape) if mark is not None}
        self.inside = False  # Whether a quote is open.
        self._before = _LF  # The code unit before the block. The first record starts as if behind a line end.
        self._closing = False  # Whether that unit is a quote that closed its field, or the first of a doubled quote.
        self._escaped = False  # Whether that unit is an escape, which makes the block's first unit literal.

    def feed(self, block: bytes) -> Ends:
        """Return the ends in the next block.

        The block must not end within a code unit, unless the file does, nor between a carriage return and a line feed.
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
        """Return whether the block may contain the mark.

        In wide code units, its byte may also be part of another character.
        """
        return self._marks[mark] in block

    def _lines(self, block: bytes, units: Any) -> Any:
        """Return the positions behind each line feed, and behind each carriage return that no line feed follows."""
        lines = np.flatnonzero(units == _LF) + 1
        if not self._has(_CR, block):
            return lines
        returns = np.flatnonzero(units == _CR) + 1
        followed = units[np.minimum(returns, len(units) - 1)] == _LF
        followed[returns == len(units)] = False
        alone = returns[~followed]
        return np.sort(np.concatenate([lines, alone])) if len(alone) else lines

    def _without_escapes(self, block: bytes, units: Any) -> Any:
        """Return the units, with those that an escape makes literal replaced by a plain one."""
        escape = self.form.escape
        if escape is None or not (self._escaped or self._has(escape, block)):
            return units
        units = units.copy()
        if self._escaped:
            units[0] = _PLAIN
        places = np.flatnonzero(units == escape)
        self._escaped = False
        if len(places):
            # Of consecutive escapes, every second one is itself literal.
            order = np.arange(len(places))
            begins = np.concatenate([[True], np.diff(places) > 1])
            active = places[(order - np.maximum.accumulate(np.where(begins, order, 0))) % 2 == 0]
            self._escaped = int(active[-1]) == len(units) - 1
            units[active[: len(active) - self._escaped] + 1] = _PLAIN
        return units

    def _quotes(self, block: bytes, units: Any) -> Any:
        """Return the positions of the quotes that open or close a field, in turn. A doubled quote counts as both."""
        quote = self.form.quote
        if quote is None or not self._has(quote, block):
            return _NONE
        quotes = np.flatnonzero(units == quote)
        opening = quotes[int(self.inside) :: 2]
        if self._all_at_field_start(opening, units):
            return quotes
        return self._structural(quotes.tolist(), units)

    def _all_at_field_start(self, opening: Any, units: Any) -> bool:
        """Return whether each of these quotes opens where a field begins or right behind a closing quote."""
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
        """Return the same as `_quotes` where some quotes are plain characters, by checking each quote in turn."""
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
        """Return the ends of lines that also end a record, because they are outside quotes and not escaped."""
        if self.form.escape is not None:
            lines = lines[units[lines - 1] != _PLAIN]
        if not len(quotes):
            return lines[:0] if self.inside else lines
        # A line's position is behind its line feed, so the quotes before the position are those before the line feed.
        within = (np.searchsorted(quotes, lines) & 1).astype(bool) ^ self.inside
        return lines[~within] if within.any() else lines
