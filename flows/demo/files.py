"""The part of the demo that is about files: the flights' CSV read directly, into Parquet."""

import contextlib
import sqlite3
import sys
import zipfile
from pathlib import Path
from typing import Any

from prefect_batch.blocks.errors import BatchError
from prefect_batch.blocks.processor import processor
from prefect_batch.flows.demo.flights import data_file, minutes_gained

# Of the columns that are no text; those that a flight lacks are NA.
_TYPES = dict.fromkeys(("dep_delay", "arr_delay", "air_time", "distance"), "int64")


@processor
def minutes_gained_by_line(flight: dict[str, Any]) -> dict[str, Any]:
    """`minutes_gained` of a line of the CSV file, in which flights have no number."""
    gained = minutes_gained({"id": None, **flight})
    return {name: value for name, value in gained.items() if name != "id"}


def unpack_flights(directory: Path) -> Path:
    """Unpack the flights as a CSV file in this directory."""
    with zipfile.ZipFile(data_file()) as archive:
        return Path(archive.extract("flights.csv", directory))


def files_of_flights(directory: Path) -> Path:
    """Return where the job writes its files."""
    return directory / "minutes-gained"


def compare_files(database: Path, directory: Path) -> str:
    """Return a sentence that confirms that the files hold the same rows as the table.

    Raises:
        BatchError: they do not.
    """
    import pyarrow.dataset as ds

    from prefect_batch.blocks.files.writing.manifest import complete_files

    files = complete_files(str(files_of_flights(directory)), verify=True)
    names = ["flight", "route", "gained", "mph"]
    with contextlib.closing(sqlite3.connect(database)) as connection:
        table = connection.execute(f"SELECT {', '.join(names)} FROM minutes_gained ORDER BY id").fetchall()
    columns = ds.dataset(files).to_table(columns=names).to_pydict()
    if table != list(zip(*columns.values(), strict=True)):
        raise BatchError(f"the files in {files_of_flights(directory)} differ from the table minutes_gained")
    return f"The same {len(table):,} rows, in the same order, in the Parquet files that the manifest names."


def _run(directory: str) -> None:
    """Run the job in a process of its own."""
    from prefect_batch import Files, process_records

    place = Path(directory)
    report = process_records(
        job="flights-csv",
        source=Files(str(place / "flights.csv"), schema=_TYPES, nulls=["", "NA"]),
        process="prefect_batch.flows.demo.files:minutes_gained_by_line",
        sink=Files(str(files_of_flights(place)), "parquet", compact=True),
        min_records=100_000,  # As in flights.py: the storms come in a row.
        dead_letters=str(place / "dead-letters"),
    )
    print(report)  # noqa: T201 - a program's output


if __name__ == "__main__":
    _run(*sys.argv[1:])
