"""The ledger: a table in the sink's database with one row per finished chunk, committed in the chunk's transaction.

It shows a repeated chunk that its rows are already there, which a sink of plain inserts could not know otherwise. One
row more closes a pass that is over, for a run that was frozen in it and wakes up later.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, and_, delete, insert, select
from sqlalchemy import Table as SqlTable
from sqlalchemy import types as sql
from sqlalchemy.exc import IntegrityError

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import ChunkIsDone, LostOwnership
from prefect_batch.blocks.jobs import PassRef

LEDGER = "prefect_batch_chunks"
# By then, a pass of the same job under another Prefect server is over, too.
KEPT = timedelta(days=30)
# The row that closes a pass has this in place of a chunk's digest, which has hexadecimal digits only.
CLOSED = "closed"


class Ledger:
    """The ledger of a sink's table, in the same schema."""

    def __init__(self, schema: str | None) -> None:
        self._table = SqlTable(
            LEDGER,
            MetaData(),
            Column("job", sql.String(80), primary_key=True),
            # Not the number: two Prefect servers may number passes of the same job in one database.
            Column("pass_id", sql.String(16), primary_key=True),
            Column("chunk", sql.String(16), primary_key=True),
            Column("pass", sql.Integer, nullable=False),
            Column("result", sql.Text, nullable=False),
            Column("finished_at", sql.String(32), nullable=False),
            schema=schema,
        )

    def create(self, engine: Engine) -> None:
        """Create the table if it is missing."""
        self._table.create(engine, checkfirst=True)

    def entry(self, pass_: PassRef, chunk: ChunkRange) -> "Entry":
        """Return the chunk's entry in the ledger."""
        return Entry(self._table, {"job": pass_.job, "pass_id": pass_.id, "chunk": chunk.digest}, pass_.number)

    def rows_written(self, connection: Connection, pass_: PassRef) -> int:
        """Return how many rows the committed chunks of a pass have written."""
        rows = self._table.c
        mine = rows.job == pass_.job, rows.pass_id == pass_.id, rows.chunk != CLOSED
        results = map(json.loads, connection.execute(select(rows.result).where(*mine)).scalars())
        return sum(result.get("tally", {}).get("rows_written", 0) for result in results)

    def close(self, connection: Connection, pass_: PassRef) -> None:
        """Replace the rows of a pass that is over by the one that closes it. Closing it again changes nothing."""
        rows = self._table.c
        mine = rows.job == pass_.job, rows.pass_id == pass_.id
        connection.execute(delete(self._table).where(*mine))
        row = {"job": pass_.job, "pass_id": pass_.id, "chunk": CLOSED, "pass": pass_.number, "result": "{}"}
        connection.execute(insert(self._table).values({**row, "finished_at": datetime.now(UTC).isoformat()}))

    def forget_leftovers(self, connection: Connection, pass_: PassRef) -> None:
        """Remove old rows of the job's other passes, which were abandoned or whose run died at its very end."""
        rows, since = self._table.c, (datetime.now(UTC) - KEPT).isoformat()
        mine = rows.job == pass_.job, rows.pass_id != pass_.id, rows.finished_at < since
        connection.execute(delete(self._table).where(*mine))


@dataclass(frozen=True)
class Entry:
    """One chunk's row in the ledger, which may not exist yet."""

    table: SqlTable
    identity: dict[str, Any]
    pass_number: int

    def find(self, connection: Connection) -> dict[str, Any] | None:
        """Return the result of the chunk, or None while it is not finished."""
        mine = and_(*(self.table.c[name] == value for name, value in self.identity.items()))
        found = connection.execute(select(self.table.c.result).where(mine)).scalar_one_or_none()
        return None if found is None else json.loads(found)

    def record(self, connection: Connection, result: dict[str, Any]) -> None:
        """Write the chunk's row, which counts once the chunk's transaction is committed.

        Raises:
            ChunkIsDone: another run was faster, which happens if a run was taken for dead and is alive.
            LostOwnership: another run has even completed the pass.
        """
        now = datetime.now(UTC).isoformat()
        row = {**self.identity, "pass": self.pass_number, "result": json.dumps(result), "finished_at": now}
        try:
            connection.execute(insert(self.table).values(row))
        except IntegrityError as error:
            raise ChunkIsDone("another run has committed this chunk just now") from error
        # Not a SELECT, which may see the table as it was when the transaction began. The error undoes the deletion.
        closed = [self.table.c[name] == value for name, value in {**self.identity, "chunk": CLOSED}.items()]
        if connection.execute(delete(self.table).where(*closed)).rowcount:
            raise LostOwnership(self.identity["job"])
