"""A cursor of PyMySQL that does not hold all rows, and marks dates that Python does not have."""

from typing import Any

from prefect_batch.blocks.databases.undecoded import marked
from prefect_batch.blocks.kinds.undecoded import Undecoded


class Stream:
    """A cursor with the methods of DB-API that reading a SELECT needs.

    The driver gives a date that Python does not have, such as 0000-00-00, as a text.
    """

    arraysize = 1

    def __init__(self, driver: Any) -> None:
        from pymysql.cursors import SSCursor

        self._cursor = driver.cursor(SSCursor)
        self._dates: list[int] = []

    def execute(self, statement: str, parameters: Any = None) -> None:
        """Begin the SELECT."""
        from pymysql.constants import FIELD_TYPE as KIND

        self._cursor.execute(statement, parameters)
        kinds = {KIND.DATE, KIND.DATETIME, KIND.TIMESTAMP, KIND.TIME}
        self._dates = [place for place, field in enumerate(self._cursor.description) if field[1] in kinds]

    def fetchmany(self, count: int) -> list[tuple[Any, ...]]:
        """Return the next rows, about so many, and none after the last one."""
        rows = list(self._cursor.fetchmany(count))
        if any(type(row[place]) is str for place in self._dates for row in rows):
            return marked([self._checked(row) for row in rows])
        return rows

    def _checked(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            Undecoded(value) if place in self._dates and isinstance(value, str) else value
            for place, value in enumerate(row)
        )

    def close(self) -> None:
        """End the SELECT, and read what is left of it."""
        self._cursor.close()
