"""A cursor of PostgreSQL whose rows come in small portions, without asking the server for each of them."""

from typing import Any

from prefect_batch.blocks.databases.postgresql.decode import decoded, decoders_of
from prefect_batch.blocks.databases.undecoded import marked

# libpq gives the rows of a result in portions since then: https://www.postgresql.org/docs/17/libpq-single-row-mode.html
_PORTIONS = 170000


class Stream:
    """A cursor on the server, named ``prefect_batch``, with the methods of DB-API that reading a SELECT needs.

    `arraysize` is how many rows to ask the server for, when those that it was asked for before are read. They are taken
    from the connection as they are fetched here: libpq would hold all of them in memory first.
    """

    def __init__(self, driver: Any) -> None:
        from psycopg import pq
        from psycopg.adapt import Transformer

        self._driver = driver
        self._named = driver.cursor(name="prefect_batch")
        self._transformer: Any = Transformer(driver)
        self._in_portions = pq.version() >= _PORTIONS
        self._asked = self._knows_types = False
        self.arraysize = 1

    def execute(self, statement: str, parameters: Any = None) -> None:
        """Begin the SELECT."""
        self._named.execute(statement, parameters)

    def fetchmany(self, count: int) -> list[tuple[Any, ...]]:
        """Return the next rows, about so many, and none after the last one."""
        from psycopg import DataError

        if not self._in_portions:
            try:
                found: list[tuple[Any, ...]] = self._named.fetchmany(count)
            except DataError:
                found = self._decoded(self._named.pgresult)
            return found
        rows = self._portion() if self._asked else []
        if not rows:
            self._ask(count)
            rows = self._portion()
        return rows

    def _ask(self, portion_rows: int) -> None:
        from psycopg import generators

        connection = self._driver.pgconn
        connection.send_query_params(b"FETCH FORWARD %d FROM prefect_batch" % self.arraysize, None)
        connection.set_chunked_rows_mode(portion_rows)
        self._driver.wait(generators.send(connection))
        self._asked = True

    def _portion(self) -> list[tuple[Any, ...]]:
        """Return the next rows of those that were asked for, or none if all are read.

        Raises:
            psycopg.Error: The server ended the SELECT.
        """
        from psycopg.errors import DataError, error_from_result
        from psycopg.pq import ExecStatus

        result = self._result()
        if result is not None and result.status == ExecStatus.TUPLES_CHUNK:
            self._transformer.set_pgresult(result, set_loaders=not self._knows_types)
            self._knows_types = True
            try:
                rows: list[tuple[Any, ...]] = self._transformer.load_rows(0, result.ntuples, tuple)
            except DataError:
                rows = self._decoded(result)
            return rows
        while self._result() is not None:
            pass
        self._asked = False
        if result is not None and result.status != ExecStatus.TUPLES_OK:
            raise error_from_result(result, encoding=self._driver.info.encoding)
        return []

    def _decoded(self, result: Any) -> list[tuple[Any, ...]]:
        return marked(decoded(result, decoders_of(result, self._transformer)))

    def _result(self) -> Any:
        from psycopg import generators

        return self._driver.wait(generators.fetch(self._driver.pgconn))

    def close(self) -> None:
        """End the SELECT, and what was asked for and not read."""
        if self._asked:
            self._driver.cancel_safe(timeout=5)
            while self._result() is not None:
                pass
        self._named.close()
