"""Dead letters as the source of a replay: a parameter that only prefect-batch itself makes."""

from dataclasses import dataclass
from typing import Any, Literal

from prefect_batch.blocks.parameters.specs import SourceSpec

RecordsFrom = Literal["letter", "source"]


@dataclass(frozen=True)
class Letters:
    """Letters of a job that are to be replayed.

    `replay_list` is the place and the path of their list, `place` where the letters are. The records are those in the
    letters, or those that `origin`, the job's source, has
    under their keys now. `replay` is the replay's number,
    `asked` what they were chosen by.
    """

    place: str
    job: str
    replay: int
    replay_list: tuple[str, str]
    records: RecordsFrom
    origin: SourceSpec | None
    asked: dict[str, Any]
    kind: Literal["letters"] = "letters"

    def define_source(self) -> dict[str, Any]:
        """Return the fields that decide which letters a replay works on, as JSON."""
        return {"kind": self.kind, "place": self.place, "records": self.records, **self.asked}
