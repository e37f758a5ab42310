"""Where dead letters are kept: a directory, or any store that fsspec reaches; a file appears in it whole or not at all.

Files are named by their path below the place, with slashes: ``clean-orders/pass-000001/3f2a….parquet``.
"""

import contextlib
import os
import secrets
from pathlib import Path
from typing import IO, Protocol

from prefect_batch.blocks.connections import redact
from prefect_batch.blocks.errors import BadPlace
from prefect_batch.blocks.store_local import sync_directory

__all__ = ["NewFile", "Place", "full_place", "open_place", "refusal"]

PROBE = b"\0" * 4096


class NewFile(Protocol):
    """A file that is being written; it appears under its name with `finish`, and not at all with `drop`."""

    file: IO[bytes]

    def finish(self) -> None:
        """Put the file, complete and durable, under its name, in the place of one that may be there."""

    def drop(self) -> None:
        """Leave no trace of it; nothing, once it is finished."""


class Place(Protocol):
    """A tree of files; `only_here` is whether other processes cannot see it."""

    only_here: bool

    def full(self, path: str) -> str:
        """The path as people, and other programs, name it."""

    def new(self, path: str) -> NewFile:
        """A new file, not yet under its name.

        Raises:
            OSError: it cannot be written.
        """

    def read(self, path: str) -> IO[bytes]:
        """The file, open for reading; what is closed is the caller's concern."""

    def find(self, folder: str) -> list[str]:
        """The paths of all files below this folder, sorted; none when there is no such folder."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

    def check(self, folder: str) -> None:
        """Nothing, when files can be written to this folder.

        Raises:
            BadPlace: they cannot.
        """


def _is_url(place: str) -> bool:
    return "://" in place and not place.startswith("file://")


def full_place(place: str) -> str:
    """The place as it is saved: an absolute path, or the URL as it stands.

    Raises:
        BadPlace: the URL carries a password, and the cursor can be read by everybody.
    """
    if _is_url(place):
        if redact(place) != place or "@" in place.partition("://")[2].partition("/")[0]:
            raise BadPlace(
                "the place of the dead letters carries credentials, and parameters can be read by everybody: leave "
                "them to the environment, where fsspec finds them (for s3:// AWS_ACCESS_KEY_ID, or ~/.aws)"
            )
        return place.rstrip("/")
    return str(Path(place.removeprefix("file://")).expanduser().absolute())


def open_place(place: str) -> Place:
    """The place that a path or a URL names.

    Raises:
        BadPlace: no package is installed that reads such URLs.
    """
    if not _is_url(place):
        return _Directory(Path(place.removeprefix("file://")).expanduser())
    from prefect_batch.blocks.place_store import Store

    return Store(place)


def refusal(where: str, error: Exception) -> BadPlace:
    """The error of a place that does not take files."""
    reason = getattr(error, "strerror", None) or redact(str(error)) or type(error).__name__
    return BadPlace(
        f"dead letters cannot be written to {where}: {reason}; mend that, or name another place with dead_letters=…"
    )


class _Directory:
    """A place on this machine, or on a file system that it mounts: files 0600, directories 0700."""

    only_here = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def full(self, path: str) -> str:
        return str(self._root / path)

    def new(self, path: str) -> NewFile:
        return _LocalFile(self._root / path)

    def read(self, path: str) -> IO[bytes]:
        return (self._root / path).open("rb")

    def find(self, folder: str) -> list[str]:
        found = []
        for directory, _, names in os.walk(self._root / folder):
            below = Path(directory).relative_to(self._root)
            found += [(below / name).as_posix() for name in names]
        return sorted(found)

    def exists(self, path: str) -> bool:
        return (self._root / path).is_file()

    def remove(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)

    def check(self, folder: str) -> None:
        try:
            probe = self.new(f"{folder}/probe")
            try:
                probe.file.write(PROBE)
                probe.file.flush()
            finally:
                probe.drop()
        except OSError as error:
            raise refusal(str(self._root / folder), error) from error


class _LocalFile:
    """Written under a hidden name, flushed to the disk, renamed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hidden = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.tmp")
        _make_private(path.parent)
        self.file: IO[bytes] = os.fdopen(os.open(self._hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def finish(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self._hidden.replace(self._path)
        sync_directory(self._path.parent)

    def drop(self) -> None:
        # On a full disk closing fails, too, and must not hide what failed first.
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self._hidden.unlink(missing_ok=True)


def _make_private(directory: Path) -> None:
    """Make the directory and those above it that are missing, for this user only."""
    for missing in reversed([one for one in (directory, *directory.parents) if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
