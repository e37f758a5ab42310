"""A directory of this machine as a store: files are written under a temporary name, synced and renamed."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from prefect_batch.blocks.stores.store import NewFile


class LocalStore:
    """An implementation of `Store`, which says what the methods promise."""

    only_here = False

    def __init__(self, root: Path, *, private: bool = False) -> None:
        self._root = root.absolute()
        self._file_mode, self._directory_mode = (0o600, 0o700) if private else (0o666, 0o777)

    @property
    def place(self) -> str:
        """The path of the directory."""
        return str(self._root)

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[NewFile]:
        """Open a file to write, which takes its name when the block ends without an error."""
        path = self._root / name
        with self._temporary(path) as (temporary, raw):
            yield NewFile(raw)
            _sync(raw)
            _rename(temporary, path)

    def put_first(self, name: str, content: bytes) -> bool:
        """Write this file, unless there is one of this name."""
        path = self._root / name
        with self._temporary(path) as (temporary, raw):
            raw.write(content)
            _sync(raw)
            try:
                # A link, unlike a rename, never replaces a file.
                path.hardlink_to(temporary)
            except FileExistsError:
                return False
        _sync_directory(path.parent)
        return True

    def get(self, names: list[str]) -> dict[str, bytes]:
        """Return the contents of these files, without those that do not exist."""
        found = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = (self._root / name).read_bytes()
        return found

    def open(self, name: str) -> Any:
        """Open the file to read it."""
        return (self._root / name).open("rb")

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return (self._root / name).is_file()

    def find(self, directory: str) -> list[str]:
        """Return the names of all files in this directory and below it."""
        found = []
        for folder, _, names in os.walk(self._root / directory):
            below = Path(folder).relative_to(self._root)
            found += [(below / name).as_posix() for name in names]
        return sorted(found)

    def names(self, directory: str = "") -> list[str]:
        """Return the names in this directory."""
        try:
            entries = list(os.scandir(self._root / directory))
        except FileNotFoundError:
            return []
        return sorted(entry.name + "/" * entry.is_dir() for entry in entries if not entry.name.startswith("."))

    def move(self, name: str, to: str) -> None:
        """Rename the file, unless it was renamed before."""
        target = self._root / to
        try:
            (self._root / name).replace(target)
        except FileNotFoundError:
            if not target.exists():
                raise
        _sync_directory(target.parent)

    def remove(self, names: list[str]) -> None:
        """Delete these files."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    def remove_directory(self, name: str) -> None:
        """Delete the directory."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / name)

    @contextlib.contextmanager
    def _temporary(self, path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
        """Create a hidden file beside this one, which is removed when the block ends."""
        for missing in reversed([one for one in (path.parent, *path.parent.parents) if not one.exists()]):
            missing.mkdir(self._directory_mode, exist_ok=True)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._file_mode)
        raw = os.fdopen(descriptor, "wb")
        try:
            yield temporary, raw
        finally:
            # On a full disk closing fails, too, and must not hide what failed first.
            with contextlib.suppress(OSError):
                raw.close()
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _rename(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    _sync_directory(path.parent)


def _sync(raw: IO[bytes]) -> None:
    raw.flush()
    os.fsync(raw.fileno())


def _sync_directory(directory: Path) -> None:
    """Make a rename in this directory durable, where the system can open directories."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
