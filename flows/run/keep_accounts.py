"""Keeping the accounts of a pass while a run works on it."""

from collections.abc import Callable

from prefect_batch.blocks.chunks import ChunkResult
from prefect_batch.blocks.jobs import of_replay
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.state.accounts import Accounts, remove_old
from prefect_batch.blocks.state.cursor import Cursor

Save = Callable[[Cursor], Cursor]


def keep_accounts(cursor: Cursor, save: Save) -> tuple[Callable[[ChunkResult], None], Save]:
    """Return what to call for each finished chunk, and a `save` that writes the accounts first.

    The accounts therefore never lack a chunk that the cursor counts.
    """
    if of_replay(cursor.job) or not cursor.dead_letters:
        return lambda _: None, save
    place = open_place(cursor.dead_letters)
    accounts = Accounts(place, cursor.job, cursor.pass_number)
    remove_old(place, cursor.job, cursor.pass_number)

    def save_both(now: Cursor) -> Cursor:
        accounts.save()
        return save(now)

    return accounts.add, save_both
