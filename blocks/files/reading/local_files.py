"""Local files as fsspec lists them, with symbolic links followed."""

import os
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class LocalFiles(LocalFileSystem):  # type: ignore[misc]
    """The local file system. A symbolic link is listed as what it leads to.

    Left out are links from a directory to one that contains it, because such a tree would have no end.
    """

    def ls(self, path: str, detail: bool = False, **options: Any) -> list[Any]:
        """Return what is in the directory, as fsspec does."""
        found = []
        for info in super().ls(path, detail=True, **options):
            shown = self._followed(info) if info["islink"] else info
            if shown is not None:
                found.append(shown)
        return found if detail else [info["name"] for info in found]

    def _followed(self, info: dict[str, Any]) -> dict[str, Any] | None:
        """Return the facts of what the link leads to, or None if following it would have no end.

        A link that leads nowhere counts as a file, so that it is missed by name where it is read.
        """
        path = Path(info["name"])
        try:
            target: dict[str, Any] = self.info(info["name"])
        except OSError:
            return {**info, "type": "file", "size": 0}
        if target["type"] != "directory":
            return target
        above = {os.path.realpath(parent) for parent in path.parents}
        return None if os.path.realpath(path) in above else target
