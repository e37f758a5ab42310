"""An fsspec file system as a store: files appear by an object store's atomic put, or by a rename."""

import contextlib
import io
import secrets
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from prefect_batch.blocks.stores.store import NewFile

# An upload to these becomes an object in one step when it ends. Others write in place and need a temporary name.
_ATOMIC_PUT = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}


def open_remote(files: Any, path: str) -> Any:
    """Open the file to read, with its own position.

    For a file in memory, fsspec returns the same object to all readers.
    """
    if "memory" in files.protocol:
        return io.BytesIO(files.cat_file(path))
    return files.open(path, "rb")


class RemoteStore:
    """An implementation of `Store`, which says what the methods promise."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        # A cached listing may lack what another process has written since.
        files, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        self._files: Any = files
        self._root: str = root.rstrip("/")
        self._url = url
        protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
        self._atomic_put = not protocols.isdisjoint(_ATOMIC_PUT)

    @property
    def place(self) -> str:
        """The URL of the store."""
        return self._url

    @property
    def only_here(self) -> bool:
        """Whether it is in this process's memory."""
        return in_memory(self._files)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[NewFile]:
        """Open a file to write, which takes its name when the block ends without an error."""
        path = self._path(name)
        parent, _, last = path.rpartition("/")
        if self._atomic_put:
            with self._upload(path) as raw:
                yield NewFile(raw)
        else:
            self._files.makedirs(parent, exist_ok=True)
            temporary = f"{parent}/.{last}-{secrets.token_hex(4)}.tmp"
            try:
                with self._files.open(temporary, "wb") as raw:
                    yield NewFile(raw)
                self._files.mv(temporary, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._files.rm_file(temporary)
                raise

    @contextlib.contextmanager
    def _upload(self, path: str) -> Iterator[Any]:
        # With `autocommit`, closing after an error would create an incomplete object. Now only `commit` creates it.
        raw = self._files.open(path, "wb", autocommit=False)
        try:
            yield raw
            raw.close()
        except BaseException:
            with contextlib.suppress(Exception):
                raw.discard()
            raw.closed = True  # Else garbage collection would begin another upload, which nobody ends.
            raise
        raw.commit()

    def put_first(self, name: str, content: bytes) -> bool:
        """Write this file, unless there is one of this name."""
        try:
            self._files.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def get(self, names: list[str]) -> dict[str, bytes]:
        """Return the contents of these files, without those that do not exist."""
        if not names:
            return {}
        found = self._files.cat([self._path(name) for name in names], on_error="return")
        for content in found.values():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise content
        contents = {name: found.get(self._path(name)) for name in names}
        return {name: content for name, content in contents.items() if isinstance(content, bytes)}

    def open(self, name: str) -> Any:
        """Open the file to read it."""
        return open_remote(self._files, self._path(name))

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return bool(self._files.exists(self._path(name)))

    def find(self, directory: str) -> list[str]:
        """Return the names of all files in this directory and below it."""
        root = self._root.strip("/")
        try:
            found = self._files.find(self._path(directory))
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(path.strip("/")).relative_to(root).as_posix() for path in found)

    def names(self, directory: str = "") -> list[str]:
        """Return the names in this directory."""
        try:
            entries = self._files.ls(self._path(directory), detail=True)
        except FileNotFoundError:
            return []
        found = [(entry["name"].rstrip("/").rpartition("/")[2], entry["type"] == "directory") for entry in entries]
        return sorted(name + "/" * is_directory for name, is_directory in found if not name.startswith("."))

    def move(self, name: str, to: str) -> None:
        """Copy or rename the file, unless that was done before."""
        try:
            (self._files.cp_file if self._atomic_put else self._files.mv)(self._path(name), self._path(to))
        except FileNotFoundError:
            if not self._files.exists(self._path(to)):
                raise

    def remove(self, names: list[str]) -> None:
        """Delete these files."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path(name))

    def remove_directory(self, name: str) -> None:
        """Delete the directory."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm(self._path(name), recursive=True)


def in_memory(files: Any) -> bool:
    """Return whether a file system of fsspec, or one that it is chained to, is in the memory of this process."""
    below = (
        getattr(files, "fs", None),
        getattr(files, "sync_fs", None),
        getattr(getattr(files, "of", None), "fs", None),
    )
    return isinstance(files, MemoryFileSystem) or any(in_memory(one) for one in below if one is not None)
