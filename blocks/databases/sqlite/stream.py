"""A cursor of SQLite that marks texts which are not UTF-8."""

import sqlite3
from typing import Any

from prefect_batch.blocks.databases.sqlite.errors import is_undecoded
from prefect_batch.blocks.databases.undecoded import DamagedRows
from prefect_batch.blocks.kinds.undecoded import Undecoded


class Stream:
    """A cursor with the methods of DB-API that reading a SELECT needs.

    Its SELECT may be repeated, and must be in a transaction, so that it finds the same rows.
    """

    arraysize = 1

    def __init__(self, driver: Any) -> None:
        self._driver, self._cursor = driver, driver.cursor()
        self._statement: tuple[Any, ...] = ()
        self._rows = 0
        self._tolerant = self._damaged = False

    def execute(self, statement: str, parameters: Any = ()) -> None:
        """Begin the SELECT."""
        self._statement = (statement, parameters)
        self._cursor.execute(statement, parameters)

    def fetchmany(self, count: int) -> list[tuple[Any, ...]]:
        """Return the next rows, about so many, and none after the last one."""
        try:
            found: list[tuple[Any, ...]] = self._cursor.fetchmany(count)
        except sqlite3.OperationalError as error:
            if self._tolerant or not is_undecoded(error):
                raise
            self._begin_again()
            return self.fetchmany(count)
        self._rows += len(found)
        if self._damaged:
            self._damaged = False
            return DamagedRows(found)
        return found

    def _begin_again(self) -> None:
        """Begin the SELECT anew behind the rows that were fetched, with a slower way to decode texts."""
        self._tolerant = True
        self._driver.text_factory = self._text
        self._cursor.execute(*self._statement)
        for _ in range(self._rows):
            self._cursor.fetchone()
        self._damaged = False

    def _text(self, raw: bytes) -> Any:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self._damaged = True
            return Undecoded(raw.decode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """End the SELECT."""
        self._cursor.close()
        self._driver.text_factory = str
