"""Trials of records that have one key together, so that their chunk cannot be split: each of them is done alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.dead_letter import Stage
from prefect_batch.blocks.errors import RemoteError, WorkerDied
from prefect_batch.tasks.error_text import ErrorText, text_of
from prefect_batch.tasks.work.failure import Failure

NONE = -1


@dataclass(frozen=True)
class Trial:
    """What to do with each record of a chunk of one key, by its place in it, from 0.

    Attributes:
        only: The record to process alone, or `NONE` for reading alone. Nothing is committed. None commits all others.
        failed: The errors of records that failed alone. They become letters, and are not processed.
        unread: The error with which the records cannot even be read. They become one letter, and are not read.
    """

    only: int | None = None
    failed: Mapping[int, Exception] = field(default_factory=dict)
    unread: Exception | None = None

    @property
    def commits(self) -> bool:
        """Whether what it writes counts."""
        return self.only is None

    def divide(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Failure] | None]]:
        """Yield batches of one record, each with its failures, or with None if it is to be processed."""
        place = 0
        for batch in batches:
            if error := self.failed.get(place):
                yield batch, [Failure(0, _stage(error), told(error), 1)]
            else:
                yield batch, None if self.only in (None, place) or not len(batch) else []
            place += len(batch)


def told(error: Exception) -> ErrorText:
    """Return the error as text, as it was where it was raised, in this process or another one."""
    if isinstance(error, RemoteError):
        return ErrorText(error.kind, error.message, error.traceback)
    return text_of(error)


def _stage(error: Exception) -> Stage:
    """Return where the record failed: what a function takes kills its process, and what a row takes is refused."""
    of_process = isinstance(error, (MemoryError, WorkerDied))
    remote = isinstance(error, RemoteError) and error.kind == MemoryError.__name__
    return "process" if of_process or remote else "write"
