"""Python's garbage collector kept away from what Prefect has in memory while records go by."""

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["quiet_heap"]


@contextlib.contextmanager
def quiet_heap() -> Iterator[None]:
    """Leave the objects that exist now out of every collection in the block.

    Batches of records set the collector off again and again, and each time it would walk through all that Prefect has
    imported: measured, a third of the time of a run.
    """
    gc.freeze()  # Without a collection before it, which takes a quarter of a second: there is little to collect.
    try:
        yield
    finally:
        gc.unfreeze()
