"""A directory of files, local or in an object store, in which a file appears whole or not at all."""

import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any, Protocol

__all__ = ["NewFile", "Store", "drop", "full_name", "local_path", "put"]


class NewFile(io.RawIOBase):
    """A file that is being written: its size in bytes, and its digest (SHA-256, hexadecimal) so far."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._digest = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """The digest of what was written."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """It is for writing only."""
        return True

    def tell(self) -> int:
        """How many bytes were written."""
        return self.bytes

    def write(self, content: Any) -> int:
        """Write it all."""
        view = memoryview(content).cast("B")
        self._raw.write(view)
        self._digest.update(view)
        self.bytes += len(view)
        return len(view)


class Store(Protocol):
    """Files by their names below one place; ``/`` separates directories, and a missing one is an empty one."""

    @property
    def place(self) -> str:
        """Where it is, as people write it."""

    @property
    def only_here(self) -> bool:
        """Whether other processes cannot see it."""

    def new(self, name: str) -> contextlib.AbstractContextManager[NewFile]:
        """A file to write; it takes its name, or replaces one of this name, when the block ends without an error."""

    def put_first(self, name: str, content: bytes) -> bool:
        """Write this file, if there is none of this name; whether there was none."""

    def get(self, names: list[str]) -> dict[str, bytes]:
        """The content of these files; those that do not exist are left out."""

    def open(self, name: str) -> Any:
        """The file, to read."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    def find(self, directory: str) -> list[str]:
        """The names of all files in this directory and below it, sorted, with those that are hidden."""

    def names(self, directory: str = "") -> list[str]:
        """The names in this directory, sorted, without hidden ones; those of directories end with ``/``."""

    def move(self, name: str, to: str) -> None:
        """Give the file another name; harmless to repeat. In an object store it may stay under the first one, too."""

    def remove(self, names: list[str]) -> None:
        """Delete these files, as far as they exist."""

    def remove_directory(self, name: str) -> None:
        """Delete the directory and all that is in it, if it exists."""


def local_path(url: str) -> Path | None:
    """The path that this means; None for a URL of another file system."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).expanduser()
    return Path(rest) if scheme in ("file", "local") else None


def full_name(store: Store, name: str) -> str:
    """The file's name with the place, as people and other programs write it."""
    return f"{store.place}/{name}"


def put(store: Store, name: str, content: bytes) -> None:
    """Write this file whole; one of the same name is replaced by it."""
    with store.new(name) as file:
        file.write(content)


class _Dropped(Exception):
    """Makes a file that is being written go away."""


def drop(new_files: contextlib.ExitStack) -> None:
    """Leave no trace of the new files that were entered here; nothing, once their blocks have ended."""
    with contextlib.suppress(_Dropped), new_files:
        raise _Dropped
