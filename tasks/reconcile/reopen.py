"""Making finished ranges of a pass unfinished again, so that the job's next run does them."""

import secrets
from collections.abc import Sequence
from dataclasses import fields, replace

from prefect_batch.blocks.chunks import Tally
from prefect_batch.blocks.state.accounts import Account
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.blocks.state.position import Planned, Position


def reopen(cursor: Cursor, finished: Sequence[Account], again: Sequence[Account]) -> Cursor:
    """Return the cursor with some of its finished ranges marked unfinished, and their counts subtracted.

    `finished` are the accounts of all finished ranges in order, those beyond the prefix last. Neighbours that stay
    finished become one: the cursor stays small.
    """
    reopened = {account.range for account in again}
    position = cursor.position
    beyond = {chunk for chunk, _ in position.ranges()}
    ranges = [(a.range, a.range not in reopened) for a in finished if a.range not in beyond]
    ranges += [(chunk, done and chunk not in reopened) for chunk, done in position.ranges()]
    prefix = position.start
    while ranges and ranges[0][1]:
        prefix = ranges.pop(0)[0].upto
    planned: list[Planned] = []
    for chunk, done in ranges:
        if done and planned and planned[-1].done:
            planned.pop()
        planned.append(Planned(chunk.upto, done))
    message = f"{len(again):,} ranges in which reconcile found keys missing are to be done again"
    return replace(
        cursor.become("stopped", message),
        position=Position(position.start, position.upper, prefix, tuple(planned)),
        tally=_less(cursor.tally, [account.tally for account in again]),
        pass_id=secrets.token_hex(4),  # No result of before may come from a cache.
    )


def _less(whole: Tally, parts: Sequence[Tally]) -> Tally:
    return Tally(
        **{f.name: getattr(whole, f.name) - sum(getattr(part, f.name) for part in parts) for f in fields(Tally)}
    )
