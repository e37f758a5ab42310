"""Opens the store at a path or URL."""

from typing import Any

from prefect_batch.blocks.stores.store import Store, local_path


def open_store(url: str, options: dict[str, Any] | None = None, *, private: bool = False) -> Store:
    """Return the store at this path or fsspec URL, with `options` for its file system.

    With `private`, files on this machine are for this user only.
    """
    path = local_path(url)
    if path is not None:
        from prefect_batch.blocks.stores.local import LocalStore

        return LocalStore(path, private=private)
    from prefect_batch.blocks.stores.remote import RemoteStore

    return RemoteStore(url, options or {})
