"""Where a SQLite database is: in a file, or in memory that all threads of this process share."""

import functools
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from sqlalchemy.engine import URL

# With memdb a second writer waits for the first one; in a shared cache, which older versions have, it fails at once.
_SHARED = "vfs=memdb" if sqlite3.sqlite_version_info >= (3, 36) else "mode=memory&cache=shared"


def in_memory(url: URL) -> bool:
    """Return whether the database of this SQLite URL is in the memory of the process that opens it."""
    path, options = _parts(url)
    return path in ("", ":memory:") or options.get("mode") == "memory" or options.get("vfs") == "memdb"


def is_private(url: URL) -> bool:
    """Return whether each connection to this SQLite URL would have a database of its own."""
    path, options = _parts(url)
    named = options.get("cache") == "shared" or (options.get("vfs") == "memdb" and path.startswith("/"))
    return in_memory(url) and not (path and named)


def memory_name(url: URL) -> str | None:
    """Return the name by which this process shares the database in memory, or None if it has none."""
    return None if is_private(url) or not in_memory(url) else f"memory {_parts(url)[0]}"


def shared_memory() -> Callable[[], sqlite3.Connection]:
    """Return a function that connects to a new database in memory, the same for all threads of this process."""
    name = f"file:/prefect-batch-{secrets.token_hex(8)}?{_SHARED}"
    return functools.partial(sqlite3.connect, name, uri=True, check_same_thread=False)


def file_of(url: URL) -> Path | None:
    """Return the file of this SQLite URL, or None if its database is in memory."""
    return None if in_memory(url) else Path(_parts(url)[0]).absolute()


def _parts(url: URL) -> tuple[str, dict[str, str]]:
    """Return the path and the options of a file: URI, as SQLite reads them: https://www.sqlite.org/uri.html."""
    (name, *_), arguments = url.get_dialect()().create_connect_args(url)
    if not arguments.get("uri") or not name.startswith("file:"):
        return name, {}
    path, _, options = name.removeprefix("file:").partition("#")[0].partition("?")
    if path.startswith("//"):
        path = "/" + path.removeprefix("//").partition("/")[2]  # The authority is empty, or localhost.
    return unquote(path), dict(parse_qsl(options))
