"""Where chunks of text files end: at records, found by reading on from the chunk before."""

from collections.abc import Iterator, Sequence

import numpy as np

from prefect_batch.blocks.file_list import File, Portion, portions
from prefect_batch.blocks.files.reading.text_file import HEAD_BYTES, RecordStart, Stretch, TextFile, packing_of
from prefect_batch.blocks.files.reading.text_set import TextSet
from prefect_batch.blocks.keys import Key

__all__ = ["end_of", "found_at", "is_end", "next_edge"]

SCAN_BYTES = 2**20
# A file that is about as long as what is wanted is not cut, and for a small rest the next one is not begun.
NEARLY = 1.2
FEW = 0.2


def end_of(file: File) -> Key:
    """The key behind all records of the file."""
    return (file.name, file.size, 0)


def is_end(key: Key | None) -> bool:
    """Whether the key is the end of a file."""
    return key is not None and key[2] == 0


def next_edge(texts: TextSet, after: Key | None, upto: Key, rows: int) -> Key:
    """The key about `rows` records after `after`, or `upto`: exactly so many within a file."""
    left = float(rows)
    for portion in portions(texts.files, after, upto):
        if is_end(portion.after) or not portion.file.size:
            continue
        records = texts.records_in(portion)
        last = end_of(portion.file) if portion.upto is None else portion.upto
        if records > left * NEARLY and not packing_of(texts.spec, portion.file):
            edge, found = _cut(texts, texts.open(portion.file), portion, int(left))
            if edge is not None:
                return edge if edge != end_of(portion.file) else last
            records = found
        left -= records
        if left <= FEW * rows or last == upto:
            return last
    return upto


def _cut(texts: TextSet, text: TextFile, portion: Portion, rows: int) -> tuple[Key | None, int]:
    """The key of the record that is so many after the portion's start, and how many there are if there are fewer."""
    after = portion.after
    start = texts.data(portion.file) if after is None else RecordStart(after[1], after[2])
    if not texts.multiline and not texts.system.local:
        return _leap(texts, text, start, rows), 0
    seen = -1 if after is not None else 0  # The record of the key itself was counted before.
    for stretch in text.stretches(start, SCAN_BYTES):
        here = len(stretch.starts)
        if seen + here >= rows:
            record = stretch.start(rows - seen - 1)
            is_last = seen + here == rows and stretch.following.offset >= portion.file.size
            return (end_of(portion.file) if is_last else (portion.file.name, *record)), rows
        seen += here
    return None, max(0, seen)


def _leap(texts: TextSet, text: TextFile, start: RecordStart, rows: int) -> Key:
    """The key of the first record that starts so many average records further, without reading those between.

    Every line is a record here, and what its number is remains unknown.
    """
    width = text.form.width
    bytes_on = int(rows * texts.record_bytes) // width * width
    lines = text.stretches(RecordStart(start.offset + max(bytes_on, width), None), HEAD_BYTES)
    for place, stretch in enumerate(lines):
        first = 1 if place == 0 else 0  # What it begins with is the rest of a line.
        if len(stretch.starts) > first:
            return (text.file.name, *stretch.start(first))
    return end_of(text.file)


def found_at(text: TextFile, starts: Sequence[RecordStart]) -> Iterator[Stretch]:
    """The records that start at these places, each alone.

    The file is read from its top up to the last of them: only so it is certain that these are still records of it.
    """
    wanted = {start.offset: start.line for start in starts}
    offsets = np.array(sorted(wanted), np.int64)
    for stretch in text.stretches(text.first):
        begins = stretch.starts + stretch.base
        here = offsets[(offsets >= stretch.base) & (offsets < stretch.following.offset)]
        for place in np.flatnonzero(np.isin(begins, here)).tolist():
            start = stretch.start(place)
            if wanted[start.offset] in (None, start.line):
                yield stretch.part(place, place + 1)
        if not len(offsets) or offsets[-1] < stretch.following.offset:
            return
