"""Where chunks of text files end: at a record, which is found by reading on from the previous chunk."""

from collections.abc import Iterator, Sequence

import numpy as np

from prefect_batch.blocks.file_list import File, Portion, portions
from prefect_batch.blocks.files.reading.text_file import HEAD_BYTES, RecordStart, Stretch, TextFile, packing_of
from prefect_batch.blocks.files.reading.text_set import TextSet
from prefect_batch.blocks.keys import Key

SCAN_BYTES = 2**20
# A file with up to NEARLY times the wanted records is not cut. If no more than FEW of them are missing, the next file
# is not begun.
NEARLY = 1.2
FEW = 0.2


def end_of(file: File) -> Key:
    """Return the key behind all records of the file."""
    return (file.name, file.size, 0)


def is_end(key: Key | None) -> bool:
    """Return whether the key is the end of a file."""
    return key is not None and key[2] == 0


def next_edge(texts: TextSet, after: Key | None, upto: Key, rows: int) -> Key:
    """Return the key about `rows` records after `after`, or `upto` if there are fewer.

    Within one file the number of records is exact.
    """
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
    """Find the key of the record that is `rows` records after the portion's start.

    Returns:
        The key and a number to ignore, or None and the number of records if the portion has fewer.
    """
    after = portion.after
    start = texts.data(portion.file) if after is None else RecordStart(after[1], after[2])
    if not texts.multiline and not texts.system.local:
        return _leap(texts, text, start, rows), 0
    seen = -1 if after is not None else 0  # The record of `after` itself belongs to the previous chunk.
    for stretch in text.stretches(start, SCAN_BYTES):
        here = len(stretch.starts)
        if seen + here >= rows:
            record = stretch.start(rows - seen - 1)
            is_last = seen + here == rows and stretch.following.offset >= portion.file.size
            return (end_of(portion.file) if is_last else (portion.file.name, *record)), rows
        seen += here
    return None, max(0, seen)


def _leap(texts: TextSet, text: TextFile, start: RecordStart, rows: int) -> Key:
    """Return the key of the first record about `rows` records further on, judged by their average size.

    The records between are not read, so the number of the line is unknown. Every line must be a record.
    """
    width = text.form.width
    bytes_on = int(rows * texts.record_bytes) // width * width
    lines = text.stretches(RecordStart(start.offset + max(bytes_on, width), None), HEAD_BYTES)
    for place, stretch in enumerate(lines):
        first = 1 if place == 0 else 0  # The first record is only the rest of a line.
        if len(stretch.starts) > first:
            return (text.file.name, *stretch.start(first))
    return end_of(text.file)


def found_at(text: TextFile, starts: Sequence[RecordStart]) -> Iterator[Stretch]:
    """Yield the records that start at these positions, each as a stretch of its own.

    The file is read from its top to the last position, because only this proves that records still start there.
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
