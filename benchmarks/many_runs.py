"""How much a process grows that calls many runs, beside one that calls as many plain Prefect flows.

Each of the two runs in a process of its own, against the server that PREFECT_API_URL names::

    python benchmarks/many_runs.py 200
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

WARM_RUNS = 10


def main(runs: int) -> None:
    grown = {}
    for which in ("ours", "plain"):
        command = [sys.executable, __file__, str(runs), which]
        grown[which] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        print(f"{which}: {grown[which]:.1f} MB in {runs} runs", flush=True)
    print(f"more than plain flows: {grown['ours'] - grown['plain']:.1f} MB")


def grow(runs: int, which: str) -> float:
    """The megabytes by which this process has grown after some first runs."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
    import psutil

    with tempfile.TemporaryDirectory() as directory:
        run = {"ours": _ours, "plain": _plain}[which](Path(directory))
        for _ in range(WARM_RUNS):
            run()
        before = psutil.Process().memory_info().rss
        for _ in range(runs):
            run()
        return (psutil.Process().memory_info().rss - before) / 2**20


def _ours(directory: Path):
    from prefect_batch import Table, process_records

    url = f"sqlite:///{directory}/many.db"
    with sqlite3.connect(directory / "many.db") as database:
        database.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO a VALUES (?)", [(n,) for n in range(300)])
    source, sink = Table(url, "a", key="id"), Table(url, "b", key="id", create=True)
    options = {"chunk_size": 100, "dead_letters": str(directory / "letters")}
    return lambda: process_records(f"many-runs-{os.getpid()}", source, lambda row: row, sink, **options)


def _plain(_directory: Path):
    from prefect import flow, task

    @task
    def work(number: int) -> dict:
        return {"number": number}

    @flow(name="many-runs-plain")
    def plain() -> None:
        for future in work.map(range(3)):
            future.result()

    return plain


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(grow(int(sys.argv[1]), sys.argv[2]))
    else:
        main(int(sys.argv[1]))
