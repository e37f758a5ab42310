"""What becomes of a chunk that fails for its size: its parts, or, of a single key, its records one by one."""

from collections.abc import Callable
from dataclasses import replace

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.capabilities import CutsExactly
from prefect_batch.blocks.chunks import ChunkRange, ChunkResult, Outcome, Split, decode_outcome
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import ChunkIsDone, RemoteError, TooLarge, WorkerDied
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.tasks.error_text import let_go, own_error, type_name
from prefect_batch.tasks.work.redact_errors import redacted_errors
from prefect_batch.tasks.work.replayed import settle
from prefect_batch.tasks.work.trial import NONE, Trial
from prefect_batch.tasks.work.work_chunk import ChunkJob, Ends, open_ends

Attempt = Callable[[ChunkJob], Outcome]
MOST_PARTS = 1_000
MESSAGE_CHARACTERS = 300


def work_or_split(
    job: ChunkJob, chunk: ChunkRange, attempt: Attempt, warn: Callable[[str], None], *, again: bool
) -> Outcome:
    """Do the chunk, or write down that it is done in parts.

    Args:
        job: The job. With `most_rows`, a chunk of more records is split before it is begun.
        chunk: The chunk's range.
        attempt: Does the chunk as a whole.
        warn: Is passed a sentence on each chunk that is too large.
        again: Whether a chunk whose worker died is tried as a whole once more: it may have died by accident.

    Raises:
        TooLarge: The chunk has one key and fails for its size, and `job` does not say that the ends work.
        Exception: The chunk failed for another cause.
    """
    ends = open_ends(job)
    with redacted_errors(ends.redaction):
        known = None if job.dry_run else ends.letters.split_of(chunk)
        if known is None and job.most_rows is not None:
            ends_of_parts = ends.source.edges(chunk.after, chunk.upto, job.most_rows, MOST_PARTS)
            inside = tuple(key for key in ends_of_parts if key != chunk.upto)
            known = Split(chunk, inside) if inside else None
        if known is not None:
            return _write_down(job, known, ends)
    try:
        outcome = attempt(job)
    except Exception as error:
        if blame_of(error) is not Blame.SIZE or (again and isinstance(error, WorkerDied)):
            raise
        failed = error
    else:
        if isinstance(outcome, ChunkResult):
            return outcome
        with redacted_errors(ends.redaction):
            return _write_down(job, outcome, ends)
    with redacted_errors(ends.redaction):
        if at := _cuts(ends.source, chunk, failed):
            split = Split(chunk, at)
            warn(f"{job.job}: {chunk.text} is too large, and is done in {len(split.parts)} parts: {_said(failed)}")
            return _write_down(job, split, ends)
    if not job.bury_large:
        raise TooLarge(_said(failed)) from failed
    return _one_by_one(job, attempt, failed)


def _said(error: Exception) -> str:
    own = own_error(error)
    text = str(own) if isinstance(own, (RemoteError, WorkerDied)) else f"{type_name(own)}: {own}"
    return " ".join(hide_passwords(text).split())[:MESSAGE_CHARACTERS]


def _write_down(job: ChunkJob, split: Split, ends: Ends) -> Outcome:
    """Make the split the chunk's outcome, unless it has one.

    Where the sink has a ledger, the ledger decides; otherwise the mark beside the letters does. All of this may be
    repeated.

    Returns:
        The chunk's outcome: a split, perhaps at other keys, or the result with which it is committed.
    """
    if job.dry_run:
        return split
    if not ends.sink.needs_ledger:
        return ends.letters.mark(split)
    outcome = _record(job, split, ends) or _record(job, split, ends)
    if outcome is None:
        raise ChunkIsDone("another run has just decided what becomes of this chunk")
    if isinstance(outcome, Split):
        ends.letters.mark(outcome)
    else:
        settle(ends.source, split.range, job.run_id)
    return outcome


def _record(job: ChunkJob, split: Split, ends: Ends) -> Outcome | None:
    """Return the outcome in the ledger, where it is the split if none was there, or None if one has come just now."""
    with ends.sink.transaction(job.pass_ref, split.range) as transaction:
        if found := transaction.find():
            return decode_outcome(found)
        try:
            transaction.record(split.encode())
            transaction.commit()
        except ChunkIsDone:
            return None
    return split


def _cuts(source: Source, chunk: ChunkRange, error: Exception) -> tuple[Key, ...]:
    """Return the keys at which to split the chunk, or none if all of its records have one key.

    That is around the record for which a worker died, or about in the middle.
    """
    if isinstance(error, WorkerDied) and error.at is not None and (at := _around(source, chunk, error.at)):
        return at
    inside: list[Key] = []
    rows = 1
    try:
        while (key := _nth(source, chunk, rows)) != chunk.upto:
            inside.append(key)
            rows *= 2
    except Exception as too_far:
        if not inside or blame_of(too_far) is not Blame.SIZE:
            raise
    # It has more records than the last of these steps, and at most twice as many.
    return tuple(inside[-2:][:1])


def _around(source: Source, chunk: ChunkRange, place: int) -> tuple[Key, ...]:
    before = _nth(source, chunk, place) if place else None
    if before == chunk.upto:
        return ()
    rest = chunk if before is None else ChunkRange(before, chunk.upto)
    found = [before, _nth(source, rest, 1)]
    return tuple(key for key in found if key is not None and key != chunk.upto)


def _nth(source: Source, chunk: ChunkRange, rows: int) -> Key:
    """Return the key of the record at this place, from 1, or the end of the range if it has no more records."""
    if isinstance(source, CutsExactly):
        return source.cut(chunk, rows)
    return source.edges(chunk.after, chunk.upto, rows, 1)[0]


def _one_by_one(job: ChunkJob, attempt: Attempt, failed: Exception) -> Outcome:
    """Do a chunk of one key, of which the records that fail alone become letters."""

    def fails(trial: Trial) -> Exception | int:
        try:
            outcome = attempt(replace(job, batch_rows=1, trial=trial))
        except Exception as error:
            if blame_of(error) is not Blame.SIZE:
                raise
            let_go(error)
            return error
        return outcome.tally.read if isinstance(outcome, ChunkResult) else 0

    let_go(failed)
    count = fails(Trial(only=NONE))
    if isinstance(count, Exception):
        return attempt(replace(job, batch_rows=1, trial=Trial(unread=count)))
    alone = [failed] if count == 1 else [fails(Trial(only=place)) for place in range(count)]
    bad = {place: error for place, error in enumerate(alone) if isinstance(error, Exception)}
    return attempt(replace(job, batch_rows=1, trial=Trial(failed=bad)))
