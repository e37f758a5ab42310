"""A place that fsspec reaches: an object store, or a server for files."""

import contextlib
import secrets
import tempfile
from pathlib import PurePosixPath
from typing import IO, Any

from prefect_batch.blocks.connections import redact
from prefect_batch.blocks.errors import BadPlace
from prefect_batch.blocks.places import PROBE, NewFile, refusal

__all__ = ["Store"]

# Here a put is atomic: a reader sees the whole object or none. Elsewhere a file is put beside its name and then moved.
_ATOMIC_PUT = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}


class Store:
    """A place that fsspec reaches; a file is written on this machine first, and then put there in one piece."""

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            # Another process may have written since this one looked.
            self._system, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise BadPlace(f"dead letters cannot be kept at {redact(url)}: {error}") from error
        self._url = url.rstrip("/")
        self._atomic = url.partition("://")[0] in _ATOMIC_PUT
        self.only_here = url.startswith("memory://")

    def full(self, path: str) -> str:
        """The path with the URL of the place."""
        return f"{self._url}/{path}"

    def _there(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def new(self, path: str) -> NewFile:
        """A new file, written here first."""
        return _StoredFile(self._system, self._there(path), atomic=self._atomic)

    def read(self, path: str) -> IO[bytes]:
        """The file, open for reading."""
        opened: IO[bytes] = self._system.open(self._there(path), "rb")
        return opened

    def find(self, folder: str) -> list[str]:
        """The paths of all files below this folder, sorted."""
        self._system.invalidate_cache()
        root = self._root.strip("/")
        try:
            found = self._system.find(self._there(folder))
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(path.strip("/")).relative_to(root).as_posix() for path in found)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        self._system.invalidate_cache()
        return bool(self._system.exists(self._there(path)))

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._there(path))

    def check(self, folder: str) -> None:
        """Nothing, when a file can be put there and removed; else `BadPlace`."""
        path = f"{folder}/.probe-{secrets.token_hex(4)}.tmp"
        try:
            if not self._atomic:  # In an object store there are no folders, and this would make a missing bucket.
                self._system.makedirs(self._there(folder), exist_ok=True)
            self._system.pipe_file(self._there(path), PROBE)
            self.remove(path)
        except Exception as error:  # Stores have errors of their own.
            raise refusal(self.full(folder), error) from error


class _StoredFile:
    def __init__(self, system: Any, path: str, *, atomic: bool) -> None:
        self._system, self._path, self._atomic = system, path, atomic
        # Readable by this user only, and gone when it is closed.
        self.file: IO[bytes] = tempfile.NamedTemporaryFile(prefix="prefect-batch-")  # noqa: SIM115 - closed by finish or drop

    def finish(self) -> None:
        self.file.flush()
        if self._atomic:
            self._system.put_file(self.file.name, self._path)
        else:
            folder, _, name = self._path.rpartition("/")
            self._system.makedirs(folder, exist_ok=True)
            hidden = f"{folder}/.{name}-{secrets.token_hex(4)}.tmp"
            self._system.put_file(self.file.name, hidden)
            self._system.mv(hidden, self._path)
        self.file.close()

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
