"""A pass from the beginning while another one is unfinished: refused where it would write rows a second time."""

from prefect_batch.blocks.capabilities import AbandonsPasses, InPlace
from prefect_batch.blocks.contracts import Sink
from prefect_batch.blocks.errors import AlreadyWritten
from prefect_batch.blocks.jobs import of_replay
from prefect_batch.blocks.state.cursor import Cursor


def abandons(saved: Cursor | None, now: Cursor) -> bool:
    """Return whether the pass that `saved` has begun is given up for that of `now`.

    The letters of a replay that is given up are settled before, so that none is replayed twice.
    """
    unfinished = saved is not None and saved.status != "complete" and not of_replay(now.job)
    return unfinished and saved is not None and saved.pass_id != now.pass_id


def check_restart(saved: Cursor | None, now: Cursor, sink: Sink, *, adds_rows: bool, in_place: InPlace) -> None:
    """Raise AlreadyWritten if the pass of `now` would write rows again that the one of `saved` has committed.

    `adds_rows`: the sink keeps them, and takes the same beside them.
    """
    repeats = adds_rows or in_place == "yes"
    if saved is None or not abandons(saved, now) or not repeats or _place(saved) != _place(now):
        return
    known = sink.committed(saved.pass_ref) if isinstance(sink, AbandonsPasses) else None
    rows = saved.tally.rows_written if known is None else known
    if rows:
        raise AlreadyWritten(now.job, sink.name, rows)


def _place(cursor: Cursor) -> list[object]:
    return [cursor.definition["sink"].get(name) for name in ("connection", "schema", "name", "path")]
