"""The statuses of a job: what they mean, which may follow which, and that nothing else is written about them."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

import prefect_batch
from prefect_batch.blocks.errors import BadCursor
from prefect_batch.blocks.state.cursor import Cursor, PastRun, RunState, past_run
from prefect_batch.blocks.state.cursor_store import JobCursor
from prefect_batch.blocks.state.position import Position
from prefect_batch.blocks.state.statuses import CHANGES, MEANINGS, STATUSES, as_markdown, check_change
from prefect_batch.flows.operations.status import JobStatus
from prefect_batch.tasks.report.report import Report

CURSOR = Cursor("orders", 1, "id", "full", {}, Position(None, (9,), None), 9, "letters", RunState("run", ""))
ALLOWED = [(before, after) for before, after in product(CHANGES, STATUSES) if after in CHANGES[before]]
OTHERS = [(before, after) for before, after in product(CHANGES, STATUSES) if after not in CHANGES[before]]


def test_every_status_has_a_meaning_and_its_changes():
    assert {*STATUSES, "died", "dry run"} == set(MEANINGS)
    assert {None, *STATUSES} == set(CHANGES)


def test_every_status_can_be_reached_and_left():
    reached, found = {None}, {"running"}
    while found - reached:
        reached |= found
        found = {after for before in reached for after in CHANGES[before]}
    assert reached == set(CHANGES)
    assert all("running" in CHANGES[before] for before in CHANGES)


@pytest.mark.parametrize(("before", "after"), ALLOWED)
def test_a_change_of_the_table_is_made_with_its_message(before, after):
    check_change(before, after)
    if before is not None:
        changed = replace(CURSOR, status=before).become(after, "because")
        assert changed == replace(CURSOR, status=after, message="because")


@pytest.mark.parametrize(("before", "after"), OTHERS)
def test_any_other_change_is_refused_with_those_that_are_allowed(before, after):
    allowed = ", ".join(CHANGES[before])
    with pytest.raises(ValueError, match=f"cannot change from {before or 'no status'} to {after}, only to {allowed}"):
        check_change(before, after)
    if before is not None:
        with pytest.raises(ValueError, match="cannot change"):
            replace(CURSOR, status=before).become(after, "because")


def test_only_a_running_job_fails_or_completes():
    assert {before for before, after in ALLOWED if after in ("failed", "complete")} == {"running"}


def test_a_cursor_with_another_status_cannot_be_read():
    fields = CURSOR.encode()
    assert Cursor.decode(fields).status == "running"
    with pytest.raises(BadCursor, match="cannot be read"):
        Cursor.decode({**fields, "status": "paused"})


def test_a_run_that_is_over_and_still_running_has_died():
    assert past_run(CURSOR, over=True).status == "died"
    assert past_run(CURSOR, over=False).status == "running"
    assert all(past_run(replace(CURSOR, status=s), over=True).status == s for s in STATUSES if s != "running")


def test_the_page_on_concepts_has_the_table_and_the_diagram_as_they_are():
    page = (Path(prefect_batch.__file__).parent / "docs" / "concepts.md").read_text()
    assert page.count(f"## Statuses\n\n{as_markdown()}\n\n## ") == 1


def test_whatever_lists_the_statuses_lists_all_of_them():
    described = JobCursor.model_fields["status"].description
    assert described == "Running, stopped, failed, complete or reset."
    assert all(f"``{status}``" in JobStatus.__doc__ for status in STATUSES)
    assert all(f"``{status}``" in PastRun.__doc__ for status in (*STATUSES, "died"))
    assert all(f"``{status}``" in Report.__doc__ for status in ("complete", "stopped", "failed", "dry run"))
