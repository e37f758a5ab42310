"""A directory of this machine as a store: temporary name, fsync, rename."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from prefect_batch.blocks.store import NewFile

__all__ = ["LocalStore", "sync_directory"]


class LocalStore:
    """See `Store` for what its methods promise."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def place(self) -> str:
        """Its path."""
        return str(self._root)

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[NewFile]:
        """A file to write, in its place when the block ends."""
        path = self._root / name
        with _temporary(path) as (temporary, raw):
            yield NewFile(raw)
            _sync(raw)
            temporary.replace(path)
        sync_directory(path.parent)

    def put_first(self, name: str, content: bytes) -> bool:
        """Write this file, if there is none of this name."""
        path = self._root / name
        with _temporary(path) as (temporary, raw):
            raw.write(content)
            _sync(raw)
            try:
                # A link, unlike a rename, replaces nothing.
                path.hardlink_to(temporary)
            except FileExistsError:
                return False
        sync_directory(path.parent)
        return True

    def get(self, names: list[str]) -> dict[str, bytes]:
        """The content of these files, as far as they exist."""
        found = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = (self._root / name).read_bytes()
        return found

    def open(self, name: str) -> Any:
        """The file, to read."""
        return (self._root / name).open("rb")

    def names(self, directory: str = "") -> list[str]:
        """The names in this directory."""
        try:
            entries = list(os.scandir(self._root / directory))
        except FileNotFoundError:
            return []
        return sorted(entry.name + "/" * entry.is_dir() for entry in entries if not entry.name.startswith("."))

    def move(self, name: str, to: str) -> None:
        """Rename the file, if it was not renamed before."""
        target = self._root / to
        try:
            (self._root / name).replace(target)
        except FileNotFoundError:
            if not target.exists():
                raise
        sync_directory(target.parent)

    def remove(self, names: list[str]) -> None:
        """Delete these files."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    def remove_directory(self, name: str) -> None:
        """Delete the directory."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / name)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A hidden file beside this one, gone when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as raw:
            yield temporary, raw
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync(raw: IO[bytes]) -> None:
    raw.flush()
    os.fsync(raw.fileno())


def sync_directory(directory: Path) -> None:
    """Make a rename in it durable, where the system lets a directory be opened."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
