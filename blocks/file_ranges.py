"""Ranges over files: which files a range touches, and where in them it begins and ends."""

from collections.abc import Iterator
from typing import NamedTuple

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.file_list import File, FileList
from prefect_batch.blocks.keys import Key

__all__ = ["START", "Portion", "portions"]

# Before all records of a pass that reads the files which former passes had not.
START: Key = ("", 0, 0)


class Portion(NamedTuple):
    """The records of a file whose key lies in ``(after, upto]``; None is the file's start, or its end."""

    file: File
    after: Key | None
    upto: Key | None


def portions(files: FileList, after: Key | None, upto: Key) -> Iterator[Portion]:
    """The files of the range in their order, each with the part that is in it."""
    after = None if after == START else after
    first = 0 if after is None else _place(files, after)
    last = _place(files, upto)
    for place in range(first, last + 1):
        yield Portion(
            files.files[place],
            after if after is not None and place == first else None,
            upto if place == last else None,
        )


def _place(files: FileList, key: Key) -> int:
    place = files.places.get(key[0])
    if place is None:
        raise BadSource(f"the key {key} is in no file of this pass")
    return place
