"""A directory of files, local or in an object store, in which a file appears whole or not at all."""

import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any, Protocol


class NewFile(io.RawIOBase):
    """A file that is being written, with its size in bytes and its SHA-256 so far."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._digest = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """The digest of what was written so far, as hexadecimal digits."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Return True, because the file is for writing only."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.bytes

    def write(self, content: Any) -> int:
        """Write the whole content."""
        view = memoryview(content).cast("B")
        self._raw.write(view)
        self._digest.update(view)
        self.bytes += len(view)
        return len(view)


class Store(Protocol):
    """Files by their names below one place, each of which appears whole or not at all.

    ``/`` separates directories. A directory that does not exist counts as empty.
    """

    @property
    def place(self) -> str:
        """The path or URL of the store, as people write it."""

    @property
    def only_here(self) -> bool:
        """Whether other processes cannot see it."""

    def new(self, name: str) -> contextlib.AbstractContextManager[NewFile]:
        """Open a file to write.

        It takes its name, or replaces one of this name, when the block ends without an error.
        """

    def put_first(self, name: str, content: bytes) -> bool:
        """Write this file, unless there is one of this name.

        Returns:
            Whether it was written.
        """

    def get(self, names: list[str]) -> dict[str, bytes]:
        """Return the contents of these files, without those that do not exist."""

    def open(self, name: str) -> Any:
        """Open the file to read it."""

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""

    def find(self, directory: str) -> list[str]:
        """Return the names of all files in this directory and below it, sorted, including hidden ones."""

    def names(self, directory: str = "") -> list[str]:
        """Return the names in this directory, sorted, without hidden ones. Those of directories end with ``/``."""

    def move(self, name: str, to: str) -> None:
        """Give the file another name, which is harmless to repeat.

        In an object store, the file may also stay under the first name.
        """

    def remove(self, names: list[str]) -> None:
        """Delete these files, as far as they exist."""

    def remove_directory(self, name: str) -> None:
        """Delete the directory and all that is in it, if it exists."""


def local_path(url: str) -> Path | None:
    """Return the path that this path or URL means on this machine.

    Returns:
        None for a URL of another file system.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).expanduser()
    return Path(rest) if scheme in ("file", "local") else None


def full_name(store: Store, name: str) -> str:
    """Return the file's full path or URL, as people and other programs write it."""
    return f"{store.place}/{name}"


def put(store: Store, name: str, content: bytes) -> None:
    """Write this file whole, and replace one of the same name."""
    with store.new(name) as file:
        file.write(content)


class _Dropped(Exception):
    """Discards a file that is being written."""


def drop(new_files: contextlib.ExitStack) -> None:
    """Discard the new files that were entered here. Do nothing once their blocks have ended."""
    with contextlib.suppress(_Dropped), new_files:
        raise _Dropped
