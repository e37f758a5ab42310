"""What a run of a job would do, without doing it: its bounds, its chunks, its SQL, and how the database reads it."""

import logging
from dataclasses import dataclass
from typing import Any

from prefect_batch.blocks.capabilities import ShowsStatements
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.keys import Key, key_text
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.flows.run.run_job import preview
from prefect_batch.tasks.plan.chunk_size import CANARY_ROWS, FIRST_ROWS, MANY_CHUNKS


@dataclass(frozen=True)
class JobPlan:
    """What a run would do. Keys are texts, `records` and `chunks` estimates.

    `statements` are the SQL of the ``first`` chunk and of a ``resumed`` one, where the source is a database. `verdict`
    and `explain` are what the database says about the latter.
    """

    job: str
    begins: str
    source: str
    first_key: str | None
    last_key: str | None
    records: int
    chunks: int
    chunk_rows: int | None
    statements: dict[str, str]
    verdict: str
    explain: tuple[str, ...]
    warnings: tuple[str, ...]

    def encode(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return dict(vars(self))

    def __str__(self) -> str:
        of = f"of {self.chunk_rows:,} records" if self.chunk_rows else "of adaptive size, at most"
        lines = [
            f"{self.job}: {self.begins}",
            f"  reads {self.source}, keys {self.first_key or '(none)'} to {self.last_key or '(none)'}",
            f"  about {self.records:,} records to go; chunks {of}: about {self.chunks:,}",
            *(f"  warning: {warning}" for warning in self.warnings),
        ]
        for which, sql in self.statements.items():
            lines += [
                "",
                f"The {which} chunk:" if which == "first" else "A later chunk, or one after a restart:",
                *(f"  {line}" for line in sql.splitlines()),
            ]
        if self.verdict:
            lines += ["", f"The database: {self.verdict}", *(f"  {step}" for step in self.explain)]
        return "\n".join(lines)


def plan_job(parameters: Parameters) -> JobPlan:
    """Plan a run with these parameters. Nothing is written or saved.

    Raises:
        Refused: The run would be refused, for the same reason.
    """
    chunk_size = parameters.chunks.chunk_size
    saved = CursorStore(parameters.what.job).load()
    source, cursor, warnings = preview(parameters, saved, logging.getLogger(__name__))
    position = cursor.position
    left = max(0, cursor.estimate - cursor.tally.read)
    first, following = _two_chunks(source, cursor, chunk_size or FIRST_ROWS)
    statements: dict[str, str] = {}
    verdict, steps = "", tuple[str, ...]()
    if isinstance(source, ShowsStatements) and first is not None:
        statements["first"] = source.statement_text(first)
        if following is not None:
            statements["resumed"] = source.statement_text(following)
        verdict, steps = source.explain(following or first)
    return JobPlan(
        job=parameters.what.job,
        begins=_begins(saved, cursor),
        source=source.name,
        first_key=_first_key(source, position.prefix, position.upper),
        last_key=None if position.upper is None else key_text(position.upper),
        records=left,
        chunks=_chunks(left, chunk_size),
        chunk_rows=chunk_size,
        statements=statements,
        verdict=verdict,
        explain=steps,
        warnings=tuple(warnings),
    )


def _begins(saved: Cursor | None, cursor: Cursor) -> str:
    prefix = cursor.position.prefix
    if saved is not None and saved.pass_id == cursor.pass_id:
        stood = "its beginning" if prefix is None else f"key {key_text(prefix)}"
        return f"goes on with pass {cursor.pass_number} ({cursor.mode}) after {stood}"
    return f"starts pass {cursor.pass_number} ({cursor.mode})"


def _first_key(source: Source, after: Key | None, upto: Key | None) -> str | None:
    if upto is None or after == upto:
        return None
    return key_text(source.edges(after, upto, 1, 1)[0])


def _two_chunks(source: Source, cursor: Cursor, rows: int) -> tuple[ChunkRange | None, ChunkRange | None]:
    """Return the first chunk to be read and the one after it, or None for each that does not exist."""
    after, upto = cursor.position.prefix, cursor.position.upper
    if upto is None or after == upto:
        return None, None
    edges = source.edges(after, upto, rows, 2)
    first = ChunkRange(after, edges[0])
    return first, ChunkRange(edges[0], edges[1]) if len(edges) > 1 else None


def _chunks(records: int, chunk_size: int | None) -> int:
    """Estimate the number of chunks. Adaptive chunks are fewer, as they grow where the work is fast."""
    if chunk_size is not None:
        return -(-records // chunk_size)
    return min(MANY_CHUNKS, -(-max(0, records - CANARY_ROWS) // FIRST_ROWS) + 1) if records else 0
