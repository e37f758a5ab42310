"""Where records end, against Python's csv on nasty text, for every way to cut the text into blocks."""

import csv
import io
import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefect_batch.blocks.files.reading.record_ends import RecordEnds
from prefect_batch.blocks.parameters.text_form import text_form

# What structures CSV is most of it, so that short texts are nasty.
NASTY = st.text(st.sampled_from([*list('""",,\n\n\r ab\x00'), "é", "漢"]), max_size=40)


def blocks_of(raw, size, width):
    """The text in blocks of this many code units, none of which ends between a return and a line feed."""
    start = 0
    while start < len(raw):
        end = start + size * width
        while raw[end - width : end].strip(b"\0") == b"\r" and end < len(raw):
            end += width
        yield start, raw[start:end]
        start = end


def records_of(raw, form, size):
    """The records' bytes, the blank lines among them, and whether the last one has an end."""
    finder, ends, lines = RecordEnds(form), [0], []
    for start, block in blocks_of(raw, size, form.width):
        found = finder.feed(block)
        ends += (found.records + start).tolist()
        lines += (found.lines + start).tolist()
    if ends[-1] < len(raw):
        ends.append(len(raw))
    return [raw[a:b] for a, b in itertools.pairwise(ends)], lines, finder.inside


def rows_of(text, **dialect):
    return [row for row in csv.reader(io.StringIO(text, newline=""), **dialect) if row]


@given(NASTY, st.sampled_from(["utf-8", "utf-16-le", "utf-32-be"]))
@example('a"b"\n"c"d"\n,e"', "utf-8")
@example('"a""b"\r\n"""",""""\r"\r\n"', "utf-8")
@example('""\n"', "utf-16-le")
def test_records_are_those_of_pythons_csv_wherever_blocks_are_cut(text, encoding):
    expected = rows_of(text)
    form, raw = text_form(encoding, ",", '"'), text.encode(encoding)
    for size in range(1, len(text) + 2):
        records, lines, _ = records_of(raw, form, size)
        alone = [rows_of(record.decode(encoding)) for record in records]
        assert [row for rows in alone for row in rows] == expected, (size, records)
        assert all(len(rows) <= 1 for rows in alone)
        assert (
            len(lines)
            == len(io.StringIO(text, newline=None).read().splitlines(keepends=True))
            - (bool(text) and text[-1] not in "\r\n")
            or "\x00" in text
        )


@given(st.text(st.sampled_from(list('\\\\"",\n\rab')), max_size=30))
def test_an_escape_makes_the_next_character_literal(text):
    form = text_form("utf-8", ",", '"', "\\")
    whole = records_of(text.encode(), form, 1000)
    assert all(records_of(text.encode(), form, size) == whole for size in range(1, len(text) + 1))
    if '"\\' not in text and not text.endswith("\\"):  # Python's csv takes an escape behind a closing quote literally.
        expected = rows_of(text, escapechar="\\")
        assert [row for record in whole[0] for row in rows_of(record.decode(), escapechar="\\")] == expected


@given(NASTY)
def test_without_quotes_every_line_is_a_record(text):
    records, _, inside = records_of(text.encode(), text_form("utf-8", ",", None), 7)
    assert b"".join(records) == text.encode()
    assert len(records) == len(list(io.StringIO(text, newline="")))
    assert not inside


@given(NASTY)
def test_a_quote_that_is_never_closed_is_noticed(text):
    _, _, inside = records_of(text.encode(), text_form("utf-8", ",", '"'), 5)
    assert inside == (rows_of(text + "\nz")[-1] != ["z"])


def test_quotes_where_none_belong_are_found_in_large_blocks():
    text = "".join(f'{n},5" pipe,"quoted\n{n}"\r\n' for n in range(10_000))
    records, lines, _ = records_of(text.encode(), text_form("utf-8", ",", '"'), 2**16)
    assert len(records) == 10_000
    assert len(lines) == 20_000
    assert np.diff(lines).min() > 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_known(encoding):
    raw = "a,b\n".encode(encoding)
    form = text_form(encoding, ",", '"', None, raw)
    assert form.as_utf8(raw[form.mark(raw) :]) == b"a,b\n"
