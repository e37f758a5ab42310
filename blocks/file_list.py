"""The files that a pass reads: fixed in order when it begins, each with what shows whether it has changed."""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.keys import Key


class File(NamedTuple):
    """A file of a source, with what shows whether it has been written again.

    Attributes:
        name: The path below the directory that all files share.
        size: The size in bytes.
        version: The store's ETag, or the time of the last change.
        head: A hash of the first bytes. Empty if there is an ETag.
    """

    name: str
    size: int
    version: str
    head: str

    def changes(self, now: "File") -> str:
        """Return how the file differs from what it is now, or an empty text if it does not."""
        if self.size != now.size:
            return f"it had {self.size:,} bytes, and now has {now.size:,}"
        if self.version != now.version:
            return "it was written again"
        return "its first bytes are others" if self.head != now.head else ""


class FileList:
    """The files of one pass, in the order in which they are read.

    Not a dataclass, because Prefect would walk through all files at every task run.

    Attributes:
        seen: The files of earlier passes.
        schema: The columns of all files, as Arrow serialises them. None until the files were compared.
    """

    def __init__(self, files: Iterable[File], seen: Iterable[File] = (), schema: bytes | None = None) -> None:
        self.files = tuple(files)
        self.seen = tuple(seen)
        self.schema = schema
        self.places = {file.name: place for place, file in enumerate(self.files)}

    @property
    def bytes(self) -> int:
        """The size of all files of the pass."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify these files and their state."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()[:16]

    def differences(self, now: Sequence[File]) -> list[str]:
        """Return a line for each file of the pass that has changed or is gone. New files are ignored."""
        current = {file.name: file for file in now}
        found = []
        for file in self.files:
            if file.name not in current:
                found.append(f"{file.name}: it is gone")
            elif change := file.changes(current[file.name]):
                found.append(f"{file.name}: {change}")
        return found

    def following(self, now: Sequence[File]) -> "FileList":
        """Return the files of the next pass: those that are new or have changed since this one."""
        known = {file.name: file for file in (*self.seen, *self.files)}
        new = [file for file in now if file.name not in known or known[file.name].changes(file)]
        return FileList(new, (known | {file.name: file for file in new}).values())

    def encode(self) -> str:
        """Return the list as text, from which `decode` restores an equal list."""
        schema = None if self.schema is None else base64.b64encode(self.schema).decode()
        text = json.dumps([self.files, self.seen, schema])
        return base64.b85encode(zlib.compress(text.encode())).decode()

    @classmethod
    def decode(cls, encoded: str) -> "FileList":
        """Return the list that `encode` wrote."""
        files, seen, *rest = json.loads(zlib.decompress(base64.b85decode(encoded)))
        schema = base64.b64decode(rest[0]) if rest and rest[0] else None
        return cls([File(*file) for file in files], [File(*file) for file in seen], schema)


# Before all records of a pass that reads only what earlier passes did not: new and changed files.
START: Key = ("", 0, 0)


class Portion(NamedTuple):
    """The records of a file whose key is in ``(after, upto]``.

    Attributes:
        after: None is the start of the file.
        upto: None is the end of the file.
    """

    file: File
    after: Key | None
    upto: Key | None


def portions(files: FileList, after: Key | None, upto: Key) -> Iterator[Portion]:
    """Yield the files of the range in order, each with the portion that is in the range."""
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
