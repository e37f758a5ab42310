"""What a chunk did, counted batch by batch: the tally, the kinds of errors, and the letters to bury."""

import time
import traceback
from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone

import psutil

from prefect_batch.blocks.connections import redact
from prefect_batch.blocks.keys import key_text
from prefect_batch.blocks.source import SqlSource
from prefect_batch.blocks.values import Batch, ChunkRange, ChunkResult, DeadLetter, ErrorCount, Item, Tally
from prefect_batch.tasks.process import Failure

__all__ = ["Count"]

TOP_ERRORS = 20
MESSAGE_CHARACTERS = 300


class Count:
    """The counts of one chunk while its batches go by."""

    def __init__(self, chunk: ChunkRange) -> None:
        self._chunk = chunk
        self._tally = Tally(chunks=1)
        self._started_at, self._clock = time.time(), time.monotonic()
        self._kinds: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, str]] = {}

    def add(self, batch: Batch, written: list[Item], failures: list[Failure], source: SqlSource) -> list[DeadLetter]:
        """Count a batch; the letters of its failed records, in the records' order."""
        read, failed = len(batch.rows), len(failures)
        rows = sum(len(item.rows) for item in written)
        filtered = read - len(written) - failed
        self._tally = self._tally + Tally(read, len(written), filtered, failed, rows)
        letters = [_letter(batch, source, failure) for failure in sorted(failures, key=lambda f: f.index)]
        for letter in letters:
            self._kinds[letter.error_type] += 1
            example = (key_text(letter.key), redact(letter.error_message)[:MESSAGE_CHARACTERS])
            self._examples.setdefault(letter.error_type, example)
        return letters

    def result(self, path: str | None) -> ChunkResult:
        """What the chunk did, with the path of its letters."""
        tally = replace(self._tally, seconds=time.monotonic() - self._clock)
        errors = tuple(ErrorCount(kind, n, *self._examples[kind]) for kind, n in self._kinds.most_common(TOP_ERRORS))
        return ChunkResult(self._chunk, tally, errors, path, self._started_at, psutil.Process().memory_info().rss)


def _letter(batch: Batch, source: SqlSource, failure: Failure) -> DeadLetter:
    row = batch.rows[failure.index]
    # Of a write, the database's own error; SQLAlchemy's wrapper would repeat the statement and its parameters.
    error: BaseException = getattr(failure.error, "orig", None) or failure.error
    tb = error.__traceback__
    if failure.stage == "process" and tb is not None and tb.tb_next is not None:
        tb = tb.tb_next  # The first frame is ours.
    return DeadLetter(
        key=source.key_of(row),
        stage=failure.stage,
        error_type=_type_name(error),
        error_message=str(error),
        traceback="".join(traceback.format_exception(type(error), error, tb)),
        attempts=failure.attempts,
        failed_at=datetime.now(timezone.utc),
        record=dict(zip(batch.names, row, strict=False)),
    )


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
