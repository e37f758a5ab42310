"""Make the example's database, and the Secret block `shop` that tells the deployments where it is.

``PYTHONPATH=examples python -m shop.prepare [rows]``
"""

import random
import sqlite3
import sys
from pathlib import Path

from prefect.blocks.system import Secret


def build(path: Path, rows: int) -> None:
    """Write a table of orders, 1 % of them without a quantity; one that exists is replaced."""
    dice = random.Random(2013)  # noqa: S311 - the same orders each time
    orders = (
        (
            n,
            f" customer {dice.randrange(500)} ",
            None if dice.random() < 0.01 else dice.randrange(1, 9),
            round(dice.uniform(1, 100), 2),
            dice.choices(("paid", "shipped", "cancelled"), (5, 4, 1))[0],
        )
        for n in range(1, rows + 1)
    )
    with sqlite3.connect(path) as shop:
        shop.execute("DROP TABLE IF EXISTS orders")
        shop.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, qty INTEGER, price REAL, status TEXT)"
        )
        shop.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", orders)
        shop.execute("CREATE TABLE IF NOT EXISTS orders_clean (id INTEGER PRIMARY KEY, customer TEXT, total REAL)")


if __name__ == "__main__":
    database = Path("shop.db").absolute()
    build(database, int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
    Secret(value=f"sqlite:///{database}").save("shop", overwrite=True)
    print(f"{database} is ready, and secret/shop holds its URL")
