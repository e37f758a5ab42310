"""The files of a source, local or at an fsspec URL: listed, and read from any byte on."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from prefect_batch.blocks.credentials import storage_options
from prefect_batch.blocks.errors import BadParameter, BadSource, DefinitionChanged
from prefect_batch.blocks.file_list import File
from prefect_batch.blocks.files.reading.local_files import LocalFiles
from prefect_batch.blocks.parameters.files import COMPRESSIONS, ENDINGS, Files
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.blocks.stores.remote import in_memory, open_remote
from prefect_batch.blocks.suggestions import near

# Shows a change that kept the size and fell within one tick of the clock, if the first bytes differ.
HEAD_BYTES = 4 * 2**10
# An object store answers so many requests almost as fast as one.
REMOTE_THREADS = 16
T = TypeVar("T")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class FileSystem:
    """The files that a `Files` parameter names, in a file system that is connected on first use."""

    def __init__(self, spec: Files) -> None:
        self._spec = spec

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        scheme = self._spec.path.partition("://")[0] if "://" in self._spec.path else "file"
        path = str(Path(self._spec.path).expanduser()) if scheme == "file" else self._spec.path
        options = storage_options(self._spec.storage)
        try:
            # A cached listing may be outdated in the next run of this process.
            files, root = url_to_fs(path, use_listings_cache=False, **options)
        except ImportError as error:
            extra = _EXTRAS.get(scheme)
            way = f"pip install 'prefect-batch[{extra}]'" if extra else f"install what fsspec needs: {error}"
            raise BadParameter(f"{scheme}:// needs another package: {way}") from error
        except ValueError as error:
            raise BadParameter(
                f"there is no file system {scheme}://; there are s3, gs, https, memory and the others of fsspec"
            ) from error
        return (LocalFiles(**options), root) if isinstance(files, LocalFileSystem) else (files, root)

    @property
    def local(self) -> bool:
        """Whether the files are on this machine."""
        return isinstance(self._opened[0], LocalFileSystem)

    @property
    def only_here(self) -> bool:
        """Whether the files are in this process's memory."""
        return in_memory(self._opened[0])

    @cached_property
    def _base(self) -> str:
        """The directory that the files' names are relative to."""
        files, root = self._opened
        if not _is_pattern(files, root):
            return str(root) if files.isdir(root) else str(files._parent(root))  # noqa: SLF001 - its only name
        parts = PurePosixPath(root).parts
        fixed = next((place for place, part in enumerate(parts) if _has_magic(part)), len(parts))
        return str(PurePosixPath(*parts[:fixed])) if fixed else ""

    def list(self) -> list[File]:
        """Return the files that exist now, sorted by name.

        Raises:
            BadSource: they may not be read, or there is none and `allow_empty` is False.
        """
        files, _ = self._opened
        try:
            found = {self._name(path): (path, info) for path, info in self._found().items()}
            heads = self._heads({name: path for name, (path, info) in found.items() if not _etag(info)})
        except FileNotFoundError as error:
            raise BadSource(
                f"{error.filename} leads to no file: it is a broken symbolic link, or was removed just now. Remove it, "
                "or leave it out by a narrower path",
                self._spec.path,
            ) from error
        except PermissionError as error:
            raise BadSource(f"{self._spec.path} may not be read: {error}", self._spec.path) from error
        return [
            File(name, int(info.get("size") or files.size(path) or 0), _version(info), heads.get(name, ""))
            for name, (path, info) in sorted(found.items())
        ]

    def _none(self, message: str) -> dict[str, dict[str, Any]]:
        if self._spec.allow_empty:
            return {}
        raise BadSource(message, self._spec.path)

    def _found(self) -> dict[str, dict[str, Any]]:
        files, root = self._opened
        if _is_pattern(files, root):
            found = files.glob(root, detail=True)
        elif files.isdir(root):
            found = self._of_format(files.find(root, detail=True))
        elif files.exists(root):
            found = {root: files.info(root)}
        else:
            message = f"there is no file {self._spec.path}: {self._near(root)}"
            if self.local:
                raise BadSource(message, self._spec.path)
            return self._none(message)  # An object store knows no empty directories.
        found = {path: info for path, info in found.items() if info["type"] == "file"}
        return found or self._none(f"no file matches {self._spec.path}: {self._near(root)}")

    def _of_format(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return the files of the format, except those whose name or directory begins with ``.`` or ``_``."""
        shown = {path: info for path, info in found.items() if not self._is_hidden(path)}
        assert self._spec.format is not None
        endings = ENDINGS[self._spec.format]
        if self._spec.format != "parquet":
            endings += tuple(ending + packed for ending in endings for packed in COMPRESSIONS.values())
        fitting = {path: info for path, info in shown.items() if path.lower().endswith(endings)}
        return fitting or self._none(
            f"the directory {self._spec.path} has {len(shown):,} files, and the name of none ends in "
            f"{', '.join(endings)}: name them by a glob, such as {self._spec.path.rstrip('/')}/*"
        )

    def _is_hidden(self, path: str) -> bool:
        return any(part.startswith((".", "_")) for part in PurePosixPath(self._name(path)).parts)

    def _near(self, root: str) -> str:
        files, _ = self._opened
        parent = files._parent(root)  # noqa: SLF001 - its only name
        try:
            names = [PurePosixPath(path).name for path in files.ls(parent, detail=False)]
        except OSError:
            return f"there is no directory {parent}"
        return near(PurePosixPath(root).name, names)

    def _name(self, path: str) -> str:
        return str(path)[len(self._base) :].lstrip("/")

    def path_of(self, name: str) -> str:
        """Return the full path of a file."""
        return f"{self._base}/{name}" if self._base not in ("", "/") else f"{self._base}{name}"

    def _heads(self, paths: dict[str, str]) -> dict[str, str]:
        if self.local:
            heads: Any = (self._local(path, 0, HEAD_BYTES) for path in paths.values())
        else:
            files, _ = self._opened
            heads = files.cat_ranges(list(paths.values()), [0] * len(paths), [HEAD_BYTES] * len(paths))
        return {name: hashlib.sha256(head).hexdigest()[:16] for name, head in zip(paths, heads, strict=True)}

    def each(self, work: Callable[[File], T], files: Sequence[File]) -> Iterator[T]:
        """Yield the results of this work on each file, which is done for many remote files at a time."""
        if self.local:
            yield from map(work, files)
            return
        with ThreadPoolExecutor(REMOTE_THREADS) as pool:
            yield from pool.map(work, files)

    def stat(self, name: str) -> File | None:
        """Return the current state of a file.

        Returns:
            The file without its head, or None if it is gone.
        """
        files, _ = self._opened
        try:
            info = files.info(self.path_of(name))
        except FileNotFoundError:
            return None
        return File(name, int(info.get("size") or 0), _version(info), "")

    def check(self, file: File) -> None:
        """Raise DefinitionChanged unless the file is unchanged."""
        now = self.stat(file.name)
        if change := "it is gone" if now is None else file._replace(head="").changes(now):
            raise DefinitionChanged(
                f"the file {file.name} is not what it was when the pass began: {change}",
                "Bring it back, or start a new pass with restart=True",
            )

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes of a file from `start` up to `end` (exclusive), or fewer at the end of the file.

        Raises:
            BadSource: the file is gone, or may not be read.
            ConnectionError: a remote store did not answer.
        """
        path = self.path_of(name)
        try:
            if self.local:
                return self._local(path, start, end)
            content: bytes = self._opened[0].cat_file(path, start=start, end=end)
        except FileNotFoundError as error:
            raise BadSource(f"the file {name} is gone", name) from error
        except PermissionError as error:
            raise BadSource(f"the file {name} may not be read: {error.strerror or error}", name) from error
        except OSError:
            raise
        except Exception as error:
            # Store libraries have no common base class for errors, so any of theirs is worth another attempt.
            raise ConnectionError(f"the file {name} could not be read: {hide_passwords(str(error))}") from error
        return content

    @staticmethod
    def _local(path: str, start: int, end: int) -> bytes:
        with Path(path).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def open(self, name: str) -> Any:
        """Open the file to read it from any position."""
        path = self.path_of(name)
        if self.local:
            return Path(path).open("rb")
        return open_remote(self._opened[0], path)


def _has_magic(part: str) -> bool:
    return any(mark in part for mark in "*?[{")


def _is_pattern(files: Any, root: str) -> bool:
    """Return whether the path is a glob. An existing file may have the same characters in its name."""
    return _has_magic(root) and not files.exists(root)


def _etag(info: dict[str, Any]) -> str:
    return str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or "").strip('"')


def _version(info: dict[str, Any]) -> str:
    if etag := _etag(info):
        return etag
    changed = next((info[name] for name in ("mtime", "LastModified", "updated", "created") if info.get(name)), "")
    # fsspec's files in memory have it as a number in a listing, and as a datetime by themselves.
    return str(changed.timestamp() if isinstance(changed, datetime) else changed)
