"""Dead letters as a person looks at them: every one with its status, or grouped by cause."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.letters.bury import letter_schema
from prefect_batch.blocks.letters.joined import with_records
from prefect_batch.blocks.letters.place import used_place
from prefect_batch.blocks.letters.read import count_letters, letter_tables, read_letters, record_type
from prefect_batch.blocks.letters.status import LetterStatus
from prefect_batch.blocks.state.cursor_store import load_cursor
from prefect_batch.tasks.error_text import normalise
from prefect_batch.tasks.letters.group import COLUMNS, FailureGroup, group_letters

if TYPE_CHECKING:
    import pandas as pd


def dead_letters(job: str, pass_number: int | None = None, *, status: LetterStatus | None = None) -> "pd.DataFrame":
    """Return the failed records of the job's latest pass, or of the given pass: one row each, as it failed last.

    Args:
        job: The job's name.
        pass_number: The pass; the latest if it is left out.
        status: Only letters that are ``"open"``, ``"resolved"`` or ``"discarded"``.

    Raises:
        UnknownJob: The job never ran against this Prefect API.
    """
    cursor = load_cursor(job)
    number = cursor.pass_number if pass_number is None else pass_number
    used_place(cursor.dead_letters, job)  # Else letters that are away would seem to be none.
    return read_letters(cursor.dead_letters, job, number, status)


def failures(job: str, pass_number: int | None = None, *, status: LetterStatus | None = "open") -> "pd.DataFrame":
    """Return the open failures of the job's latest pass, or of the given pass, by cause: the most frequent first.

    One row for each type of error and message (numbers, quoted texts, times and UUIDs in it are placeholders), with
    the count, the first and last time, an example with its key, and the deepest frame of your code.

    Raises:
        UnknownJob: The job never ran against this Prefect API.
    """
    import pandas as pd

    groups = look(job, pass_number, status=status).groups
    frame = pd.DataFrame([vars(group) for group in groups], columns=list(FailureGroup.__dataclass_fields__))
    return frame.set_index("number")


@dataclass(frozen=True)
class Failures:
    """The failures of a pass: how many letters are open, resolved and discarded, and the groups of those with `status`.

    `status` None is any.
    """

    job: str
    pass_number: int
    counts: dict[LetterStatus, int]
    status: LetterStatus | None
    groups: list[FailureGroup]

    def encode(self) -> dict[str, Any]:
        """Return the failures as JSON."""
        return {**vars(self), "groups": [group.encode() for group in self.groups]}

    def __str__(self) -> str:
        counts = self.counts
        lines = [
            f"{self.job}: pass {self.pass_number}: {sum(counts.values()):,} dead letters: "
            + ", ".join(f"{count:,} {status}" for status, count in counts.items())
        ]
        lines += [text for group in self.groups for text in ("", *_lines(group))]
        if self.groups and self.status == "open":
            lines += [
                "",
                f"see the records of a group: prefect-batch failures {self.job} --group 1",
                f"replay them when the cause is mended: prefect-batch replay {self.job} --group 1",
                f"give them up: prefect-batch discard {self.job} --group 1 --reason '…'",
            ]
        return "\n".join(lines)


def _lines(group: FailureGroup) -> list[str]:
    again = f", tried up to {group.attempts:,} times" if group.attempts > 1 else ""
    return [
        f"  {group.number}. {group.count:,} × {group.error_type}: {group.message}",
        f"     {group.first:%Y-%m-%d %H:%M:%S} to {group.last:%Y-%m-%d %H:%M:%S} UTC{again}",
        f"     key {group.example_key}: {group.example_message}",
        *([f"     at {group.where}"] if group.where else []),
    ]


def look(job: str, pass_number: int | None = None, *, status: LetterStatus | None = "open") -> Failures:
    """Return the failures of the job's latest pass, or of the pass named."""
    cursor = load_cursor(job)
    number = cursor.pass_number if pass_number is None else pass_number
    place = used_place(cursor.dead_letters, cursor.job)
    tables = letter_tables(place, job, COLUMNS, number, status)
    groups = group_letters(letter for table in tables for letter in table.to_pylist())
    return Failures(job, number, count_letters(place, job, number), status, groups)


def group_number(failures: Failures, number: int) -> FailureGroup:
    """Return the group with this number.

    Raises:
        BadParameter: there is none.
    """
    if not 1 <= number <= len(failures.groups):
        there = f"{failures.job} has the groups 1 to {len(failures.groups)}" if failures.groups else "there are none"
        raise BadParameter(f"no group {number} of failures: {there}; see prefect-batch failures {failures.job}")
    return failures.groups[number - 1]


def group_tables(failures: Failures, group: FailureGroup | None) -> Iterator[pa.Table]:
    """Yield the letters behind the failures, or of one group, with all their columns, in tables of one schema."""
    place = used_place(load_cursor(failures.job).dead_letters, failures.job)
    names = letter_schema(pa.schema([])).names
    record = record_type(place, failures.job, failures.pass_number)
    for found in letter_tables(place, failures.job, names, failures.pass_number, failures.status):
        table = with_records(found, record)
        if group is None:
            yield table
            continue
        pairs = zip(table["error_type"].to_pylist(), table["error_message"].to_pylist(), strict=True)
        kept = [(kind, normalise(text)) == (group.error_type, group.message) for kind, text in pairs]
        if any(kept):
            yield table.filter(pa.array(kept))
