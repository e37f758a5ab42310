"""A dead letter: a failed record, whole, with its error."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.record import Record

__all__ = ["DeadLetter", "Origin", "Stage"]


Stage = Literal["read", "process", "write", "timeout"]


class Origin(NamedTuple):
    """What a letter takes along when it fails again: its id, its pass and its chunk there, and its attempts so far."""

    id: str
    pass_number: int
    chunk: str
    attempts: int


@dataclass(frozen=True)
class DeadLetter:
    """A failed record, whole and typed, with its error.

    `redacted` names the columns whose values are replaced; `origin` is that of a letter which failed again.
    """

    key: Key
    stage: Stage
    error_type: str
    error_message: str
    traceback: str
    attempts: int
    failed_at: datetime
    record: Record
    redacted: tuple[str, ...] = ()
    origin: Origin | None = None
