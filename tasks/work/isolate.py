"""Isolation: finding the records that a sink refuses.

Where the sink writes many rows one by one in a single call, that call finds them. Where its error names the row, k bad
records cost about 4k writes. Otherwise the batch is halved: k bad records in n cost about 2k·log2(n/k) writes.
"""

import itertools
from collections.abc import Sequence

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.capabilities import LeavesRowsOut, WritesOneByOne
from prefect_batch.blocks.contracts import SinkTransaction
from prefect_batch.blocks.errors import RowSkipped, WriteAgain
from prefect_batch.tasks.error_text import let_go
from prefect_batch.tasks.work.failure import came_by_signal
from prefect_batch.tasks.work.outputs import Outputs, row_count, rows_of, write_outputs
from prefect_batch.tasks.work.refusals import Refusals

# A sink that complains of one of the first so many rows has about as many bad ones in all as make it worth the while
# to write each row for itself; of a few rows it is not.
DENSE_ROWS, FEW_ROWS = 200, 16

# So many ways to write a sink may have, each of which raises WriteAgain but the last.
MOST_WAYS = 4

_Refused = list[tuple[Outputs, BaseException]]


def isolate(transaction: SinkTransaction, outputs: Outputs, refusals: Refusals | None = None) -> _Refused:
    """Write the outputs, and return those that the sink refuses.

    Every attempt is made under a savepoint: after an error PostgreSQL refuses each further statement of a transaction.
    A record's rows are written together or not at all. `refusals` counts each record that is written or refused.

    Returns:
        The refused outputs in their order, each of one record, with the error that it raises by itself.

    Raises:
        SinkRefuses: `refusals` has counted enough.
        Exception: An error for which no record is to blame.
    """
    refusals = refusals or Refusals(hold=False)
    refused: _Refused = []
    pending, singly = [outputs], isinstance(transaction, WritesOneByOne)
    while pending:
        part = pending.pop()
        error = _attempt(transaction, part)
        if error is None:
            if part:
                refusals.taken()
            refused += _left_out(transaction, part)
            continue
        if blame_of(error).fails_chunk:
            raise error
        one_by_one = None
        if singly and _seems_dense(part, error):
            one_by_one = _write_one_by_one(transaction, part)
            singly = one_by_one is not None
        bad, rest = one_by_one or _divided(part, error)
        if one_by_one or rest:
            let_go(error)  # That of a record alone goes into its letter.
        if len(bad) + sum(map(len, rest)) < len(part):
            refusals.taken()
        for _, reason in bad:
            refusals.refused(reason)
        refused += bad
        pending += reversed(rest)
    return refused


def _seems_dense(outputs: Outputs, error: BaseException) -> bool:
    """Return whether so many records may be bad that writing each one alone is less work than searching for them."""
    if len(outputs) <= FEW_ROWS or row_count(outputs) != len(outputs):
        return False
    blamed = _refused_row(error)
    return blamed is None or blamed < DENSE_ROWS


def _refused_row(error: BaseException) -> int | None:
    """Return the row that the error names, if it is one of the sink's and does so."""
    try:
        found = getattr(error, "refused_row", None)
    except Exception:  # noqa: BLE001 - a user's class may raise whatever it likes
        return None
    return found if type(found) is int else None


def _write_one_by_one(transaction: SinkTransaction, outputs: Outputs) -> tuple[_Refused, list[Outputs]] | None:
    """Write the outputs one by one.

    Returns:
        The refused records, and those that must be written alone to find out why they are refused. All others are
        written. None, with nothing written, if the sink could not write one by one.
    """
    assert isinstance(transaction, WritesOneByOne)
    try:
        with transaction.savepoint():
            errors = transaction.write_one_by_one(rows_of(outputs))
    except Exception as error:
        if blame_of(error).fails_chunk:
            raise
        return None
    if errors is None:
        return None
    bad: _Refused = []
    unclear: list[Outputs] = []
    for place, reason in errors.items():
        part = outputs[place : place + 1]
        if reason is None:
            unclear.append(part)
        elif blame_of(reason).fails_chunk:
            raise reason
        else:
            bad.append((part, reason))
    return bad, unclear


def _divided(outputs: Outputs, error: BaseException) -> tuple[_Refused, list[Outputs]]:
    """Return the refused record when it is only one, and otherwise what to write next."""
    return ([], _parts(outputs, error)) if len(outputs) > 1 else ([(outputs, error)], [])


def _parts(outputs: Outputs, error: BaseException) -> list[Outputs]:
    """Return what to write instead, in order.

    These are both halves, or the records before and after the row that the error names.
    """
    blamed, count = _refused_row(error), len(outputs)
    if blamed is None or blamed >= count or row_count(outputs) != count:
        return [outputs[: count // 2], outputs[count // 2 :]]
    # The rest in halves, too: each attempt at it is wasted if it has another bad row.
    middle = (blamed + 1 + count) // 2
    cuts = [0, blamed, blamed + 1, middle, count]
    return [outputs[start:end] for start, end in itertools.pairwise(cuts) if start < end]


def _attempt(transaction: SinkTransaction, outputs: Outputs) -> BaseException | None:
    """Write the outputs, and return the error if that failed.

    It is not raised: an error raised while it is handled would carry it along, with the data of other records. A value
    of a user's class may raise anything at all.
    """
    for _ in range(MOST_WAYS):
        try:
            with transaction.savepoint():
                write_outputs(transaction, outputs)
                _check_skipped(transaction, outputs)
        except WriteAgain as error:
            again = error
        except BaseException as error:
            if came_by_signal(error):
                raise
            return error
        else:
            return None
    return again


def _check_skipped(transaction: SinkTransaction, outputs: Outputs) -> None:
    """Raise RowSkipped if rows were left out and only the records alone show of which of them."""
    if len(outputs) > 1 and row_count(outputs) != len(outputs) and _skipped(transaction):
        raise RowSkipped("the sink")


def _skipped(transaction: SinkTransaction) -> Sequence[int]:
    return transaction.skipped if isinstance(transaction, LeavesRowsOut) else ()


def _left_out(transaction: SinkTransaction, outputs: Outputs) -> _Refused:
    """Return the records that were left out on purpose. One of several rows was left out if all of them were."""
    skipped = _skipped(transaction)
    if row_count(outputs) == len(outputs):
        return [(outputs[place : place + 1], RowSkipped("the sink", on_purpose=True)) for place in skipped]
    return [(outputs, RowSkipped("the sink", on_purpose=True))] if len(skipped) == row_count(outputs) else []
