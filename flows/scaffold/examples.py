"""Small sources to begin with: a thousand orders, ten of them without a quantity, which fail."""

import csv
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Kind = Literal["table", "csv", "jsonl", "parquet"]
COLUMNS = {"id": "int64", "qty": "int64", "price": "double"}
EXAMPLES: dict[Kind, str] = {
    "table": "example.db",
    "csv": "example.csv",
    "jsonl": "example.jsonl",
    "parquet": "example.parquet",
}


def example_url(file: str) -> str:
    """Return the connection to an SQLite file in the directory of the job."""
    return f"sqlite:///{file}"


def write_example(kind: Kind, path: Path) -> None:
    """Write the orders to a file of this kind, which must not exist."""
    rows = [{"id": n, "qty": None if n % 100 == 7 else n % 9, "price": n % 7 + 0.5} for n in range(1, 1001)]
    _WRITERS[kind](path, rows)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, qty INTEGER, price REAL)")
        database.executemany("INSERT INTO orders VALUES (:id, :qty, :price)", rows)
    database.close()


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    # Here, because commands that need no examples import this module.
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


_WRITERS: dict[Kind, Callable[[Path, list[dict[str, Any]]], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
