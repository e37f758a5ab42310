"""How much memory a run may take, and what happens when it takes more."""

import contextlib
import gc
import itertools
from collections.abc import Iterator
from pathlib import Path

import psutil

from prefect_batch.flows.run.run_limits import RunLimits

LEAST_BATCH_ROWS = 100

SHARE = 0.5
# Of so many runs of a process, one begins with a collection of all garbage.
ALL_EVERY = 25
_entered = itertools.count(1)
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bound_bytes(max_memory_mb: int | None) -> int:
    """Return the bound in bytes: the one given in MB, or half the memory of the machine or its container."""
    if max_memory_mb is not None:
        return max_memory_mb * 2**20
    limits = [psutil.virtual_memory().total]
    for file in map(Path, _CGROUP_LIMITS):
        text = file.read_text().strip() if file.exists() else "max"
        limits += [int(text)] if text.isdigit() else []
    return int(SHARE * min(limits))


def mind_memory(limits: RunLimits, rss: int) -> str | None:
    """Halve the batches, and then the number of running chunks, while the run takes more memory than it may.

    Returns:
        What was found and done, as a sentence, or None if nothing was changed.
    """
    if rss <= limits.memory_bytes:
        return None
    if limits.batch_rows > LEAST_BATCH_ROWS:
        limits.batch_rows = max(LEAST_BATCH_ROWS, limits.batch_rows // 2)
    elif limits.concurrency > 1:
        limits.concurrency //= 2
    else:
        return None
    return (
        f"{rss // 2**20:,} MB of memory are more than {limits.memory_bytes // 2**20:,} MB: "
        f"now batches of {limits.batch_rows:,} records, {limits.concurrency} chunks at once"
    )


@contextlib.contextmanager
def quiet_heap() -> Iterator[None]:
    """Leave the objects that exist now out of every collection in the block.

    Batches of records set the collector off again and again, and each time it would walk through all that Prefect has
    imported: measured, a third of the time of a run.
    """
    # The young first: `unfreeze` makes all old, so what former runs left would stay for long. The old
    # only now and then, which takes a quarter of a second.
    gc.collect(2 if next(_entered) % ALL_EVERY == 0 else 1)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
