"""A dead letter: a failed record, whole, with its error."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.record import Record

Stage = Literal["read", "process", "write", "timeout"]


class Origin(NamedTuple):
    """What a dead letter keeps when it fails again in a replay.

    Attributes:
        id: The id of the letter.
        pass_number: The pass in which the record failed first.
        chunk: The range of its chunk in that pass, as text.
        attempts: The attempts so far.
    """

    id: str
    pass_number: int
    chunk: str
    attempts: int


@dataclass(frozen=True)
class DeadLetter:
    """A failed record, whole and typed, with its error.

    Attributes:
        redacted: The columns whose values are replaced.
        origin: What it keeps of the letter that was replayed. None if the record failed in a pass.
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
