"""Decisions of a person on dead letters: to discard them, with a reason, and to purge what was resolved long ago."""

import getpass
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from prefect_batch.blocks.errors import BadParameter, NotFinished
from prefect_batch.blocks.jobs import replay_job
from prefect_batch.blocks.letters.ids import LetterSet
from prefect_batch.blocks.letters.place import open_place, used_place
from prefect_batch.blocks.letters.purge import purge_letters
from prefect_batch.blocks.letters.replay_list import list_path, read_replay_list
from prefect_batch.blocks.letters.status import Decision, save_decision
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.blocks.state.cursor_store import CursorStore, load_cursor
from prefect_batch.blocks.state.ownership import own_job
from prefect_batch.tasks.letters.choose import Choice, Selection, Unfinished, choose


def discard_dead_letters(
    job: str,
    *,
    reason: str,
    by: str | None = None,
    pass_number: int | None = None,
    error_type: str | None = None,
    message: str | None = None,
    key: str | Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    where: str | None = None,
) -> int:
    """Discard open letters of the job's latest pass, or of the given pass: they are kept, and no longer replayed.

    Args:
        job: The job's name.
        reason: Why; it is kept with the letters.
        by: Who; the user of this machine if it is left out.
        pass_number: The pass; if it is left out, the latest, and all of an incremental job.
        error_type: Only letters with this type of error, with or without its module.
        message: Only letters with this text in their message, or the whole message of a group of `failures`.
        key: Only letters of the records with this key, or one of these, as `failures` shows them.
        since: Only letters of records that failed then or later.
        until: Only letters of records that failed before.
        where: Only letters for which this SQL condition holds.

    Returns:
        The number of discarded letters.

    Raises:
        UnknownJob: The job never ran against this Prefect API.
        JobIsOwned: The job is running.
        NotFinished: Some letters belong to chunks that an interrupted run or replay will do again.
    """
    if not reason.strip():
        raise BadParameter("reason must say why these records are given up")
    selection = Selection(pass_number, error_type, message, key, since, until, where)
    with own_job(job, str(uuid4()), attempt=1):
        main = load_cursor(job)
        choice = choose_open(main, selection, Unfinished.of(main) | _unfinished_replay(main))
        if choice.unfinished:
            raise NotFinished(job, choice.unfinished)
        if choice.ids:
            now = datetime.now(UTC)
            decision = Decision("discarded", LetterSet(choice.ids), by or getpass.getuser(), now.isoformat(), reason)
            name = f"discard-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
            save_decision(used_place(main.dead_letters, job), job, name, decision)
    return len(choice.ids)


def count_open(job: str, **asked: Any) -> int:
    """Return how many letters `discard_dead_letters` would discard."""
    return len(choose_open(load_cursor(job), Selection(**asked), Unfinished()).ids)


def choose_open(main: Cursor, selection: Selection, unfinished: Unfinished) -> Choice:
    """Return the selected open letters: by default of the latest pass, or of all passes of an incremental job."""
    return choose(used_place(main.dead_letters, main.job), main.job, selection.of_latest(main), unfinished)


def _unfinished_replay(main: Cursor) -> Unfinished:
    saved = CursorStore(replay_job(main.job)).load()
    if saved is None or saved.status in ("complete", "reset"):
        return Unfinished()
    path = list_path(main.job, saved.pass_number)
    return Unfinished.of(saved, read_replay_list(open_place(saved.dead_letters), path))


def purge_dead_letters(job: str, *, older_than: timedelta) -> int:
    """Remove the letters of all passes that were resolved longer ago than this.

    Open and discarded letters stay.

    Returns:
        The number of removed letters.

    Raises:
        UnknownJob: The job never ran against this Prefect API.
        JobIsOwned: The job is running.
        NotFinished: An interrupted replay still needs them.
    """
    if older_than < timedelta():
        raise BadParameter(f"older_than={older_than} must not be negative")
    with own_job(job, str(uuid4()), attempt=1):
        main = load_cursor(job)
        replay = CursorStore(replay_job(job)).load()
        if replay is not None and replay.status in ("running", "stopped") and not replay.position.complete:
            raise NotFinished(job)
        return purge_letters(used_place(main.dead_letters, job), job, datetime.now(UTC) - older_than)
