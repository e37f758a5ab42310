"""The failures of a run by cause, as rows of a table in the Prefect UI."""

import itertools
from typing import Any

from prefect_batch.blocks.databases.connections import redact
from prefect_batch.blocks.letters.ids import main_job, of_replay
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.read import letter_tables
from prefect_batch.tasks.letters.group import COLUMNS, group_letters
from prefect_batch.tasks.report.report import Report

__all__ = ["MOST_LETTERS", "failure_rows"]

# More letters than this are grouped by the command line only: the end of a run must not take minutes.
MOST_LETTERS = 50_000
MOST_GROUPS = 100


def failure_rows(report: Report) -> list[dict[str, Any]]:
    """The groups of the open letters of the run's pass, or, of a replay, of the job; the largest first."""
    number = None if of_replay(report.job) else report.pass_number
    tables = letter_tables(open_place(report.dead_letters), main_job(report.job), COLUMNS, number, "open")
    letters = (letter for table in tables for letter in table.to_pylist())
    groups = group_letters(itertools.islice(letters, MOST_LETTERS))
    return [
        {
            "group": group.number,
            "records": group.count,
            "error": group.error_type,
            "message": redact(group.message),
            "example": redact(group.example_message),
            "its key": group.example_key,
            "in": group.where,
            "first": f"{group.first:%Y-%m-%d %H:%M:%S}",
            "last": f"{group.last:%Y-%m-%d %H:%M:%S}",
        }
        for group in groups[:MOST_GROUPS]
    ]
