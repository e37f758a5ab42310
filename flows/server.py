"""A Prefect server on SQLite without pauses, with the options of ``prefect server start``.

Python collects garbage in whatever thread allocates. In the thread of the server's event loop it sometimes finds a
cursor whose connection waits for SQLite's lock, and waits with it; but that lock is held by a transaction that only the
loop can end. So nothing moves until SQLite gives up, after a minute. Here a thread of its own collects, and may wait.
"""

import gc
import sys
import threading
import time
from typing import NoReturn

COLLECT_SECONDS = 2.0
# All other threads wait for the collector.
LONG_SECONDS = 0.1


def _collect() -> NoReturn:
    while True:
        time.sleep(COLLECT_SECONDS)
        began = time.perf_counter()
        gc.collect()
        if time.perf_counter() - began > LONG_SECONDS:
            gc.freeze()  # These are the modules: what is left of so many objects is there to stay.


if __name__ == "__main__":
    gc.disable()
    threading.Thread(target=_collect, name="batch-garbage", daemon=True).start()
    from prefect.cli import app

    sys.argv[1:1] = ["server", "start"]
    app()
