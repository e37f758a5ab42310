"""One run of a job: check, own, begin, walk, end. The sentence behind `process_records`."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.context import get_run_context
from prefect.settings import PREFECT_HOME
from prefect.states import State

from prefect_batch.blocks.cursor import Cursor, CursorStore, RunState
from prefect_batch.blocks.keys import key_text
from prefect_batch.blocks.letters import DeadLetters, newest_pass
from prefect_batch.blocks.ownership import own_job
from prefect_batch.blocks.sink import SqlSink
from prefect_batch.blocks.source import SqlSource
from prefect_batch.flows.ending import finish, give_up, judge
from prefect_batch.flows.parameters import Parameters
from prefect_batch.flows.show import Show, bar_on_terminal
from prefect_batch.flows.stopping import StopRequest, stop_on_interrupt
from prefect_batch.flows.walk import Walk
from prefect_batch.tasks.begin import Asked, begin
from prefect_batch.tasks.chunk import chunk_task, forget_cache
from prefect_batch.tasks.plan import Planner
from prefect_batch.tasks.progress import Progress
from prefect_batch.tasks.report import Report
from prefect_batch.tasks.work import ChunkJob, forget

__all__ = ["run_job"]

# Prefect's server keeps the task runs of a flow run reliably up to about this many.
MANY_CHUNKS = 1_000


@dataclass(frozen=True)
class _Run:
    """What a run has at hand: its parameters, its two ends, its identity and its log."""

    parameters: Parameters
    source: SqlSource
    sink: SqlSink
    run_id: str
    attempt: int
    log: Any


def run_job(parameters: Parameters) -> Report | State[Any]:
    """Check the job, own it, and walk its pass; the report, or a state Stopped when it was interrupted."""
    flow_run = get_run_context().flow_run  # type: ignore[union-attr]
    source, sink = parameters.source.open_source(), parameters.sink.open_sink()
    run = _Run(parameters, source, sink, str(flow_run.id), flow_run.run_count, get_run_logger())  # type: ignore[union-attr]
    for warning in [*source.check(), *sink.check(source.schema)]:
        run.log.warning("%s: %s", parameters.job, warning)
    try:
        if parameters.dry_run:
            return _walk(run, _begin(run, None, ""), lambda cursor: cursor)
        with own_job(parameters.job, run.run_id, run.attempt) as ownership:
            store = CursorStore(parameters.job)

            def save(cursor: Cursor) -> Cursor:
                ownership.check()
                return store.save(cursor)

            return _walk(run, save(_prepare(run, store.load())), save)
    finally:
        forget(run.run_id)


def _prepare(run: _Run, saved: Cursor | None) -> Cursor:
    """The cursor to start from, once the dead letters' place is known to take them and leftovers are removed."""
    job = run.parameters.job
    place = run.parameters.dead_letters or (saved.dead_letters if saved else "") or _default_place()
    place = str(Path(place).expanduser().absolute())
    DeadLetters(place, job, 1, run.source.schema).check()
    cursor = _begin(run, saved, place)
    if saved is None or saved.pass_id != cursor.pass_id:
        if saved is not None:
            forget_cache(job, saved.pass_number, saved.pass_id)
        if run.sink.needs_ledger:
            run.sink.forget_chunks(job, cursor.pass_number)
    return cursor


def _default_place() -> str:
    return str(Path(PREFECT_HOME.value()) / "prefect-batch" / "dead-letters")


def _begin(run: _Run, saved: Cursor | None, place: str) -> Cursor:
    """The cursor of the pass to work on, with the estimated number of its records."""
    parameters = run.parameters
    now = datetime.now(timezone.utc).isoformat()
    state = RunState(run.run_id, now, policy=asdict(parameters.policy))
    asked = Asked(
        job=parameters.job,
        definition=parameters.definition,
        mode=parameters.mode,
        restart=parameters.restart,
        overlap=parameters.overlap,
        dead_letters=place,
    )
    cursor = begin(saved, asked, run.source, state, newest_pass(place, parameters.job) if place else 0)
    position = cursor.position
    if position.upper is None or position.complete:
        return replace(cursor, estimate=cursor.tally.read)
    return replace(cursor, estimate=cursor.tally.read + run.source.estimate(position.prefix, position.upper))


def _walk(run: _Run, cursor: Cursor, save: Callable[[Cursor], Cursor]) -> Report | State[Any]:
    parameters = run.parameters
    started = cursor.position.prefix != cursor.position.start or bool(cursor.position.planned)
    request = StopRequest()
    progress = Progress(parameters.job, cursor.estimate, cursor.tally)
    with bar_on_terminal(cursor.estimate) as bar, stop_on_interrupt(request):
        show = Show(progress, run.run_id, run.log, bar)
        walk = Walk(
            cursor=cursor,
            job=_chunk_job(run, cursor),
            task=_task(run, cursor),
            planner=Planner(run.source, parameters.chunk_size, limit=parameters.limit, canary=not started),
            policy=parameters.policy,
            progress=progress,
            concurrency=parameters.at_once,
            request=request,
            save=save,
            show=show.update,
        )
        _log_start(run, walk, resumed=started)
        try:
            walk.go()
            status, message = judge(walk)
        except BaseException as error:
            give_up(walk, error, run.log)
            raise
        show.update(final=True)
    return finish(walk, status, message, run.log, run.sink)


def _chunk_job(run: _Run, cursor: Cursor) -> ChunkJob:
    parameters = run.parameters
    return ChunkJob(
        job=parameters.job,
        pass_number=cursor.pass_number,
        pass_id=cursor.pass_id,
        run_id=run.run_id,
        source=parameters.source,
        sink=parameters.sink,
        process=parameters.process,
        dead_letters=cursor.dead_letters,
        record_retries=parameters.record_retries,
        dry_run=parameters.dry_run,
    )


def _task(run: _Run, cursor: Cursor) -> Any:
    return chunk_task(
        _chunk_job(run, cursor),
        definition=json.dumps(cursor.definition, sort_keys=True),
        retries=run.parameters.retries,
        retry_delay_seconds=run.parameters.retry_delay_seconds,
    )


def _log_start(run: _Run, walk: Walk, *, resumed: bool) -> None:
    cursor, parameters = walk.cursor, run.parameters
    prefix = cursor.position.prefix
    left = cursor.estimate - cursor.tally.read
    run.log.info(
        "%s: pass %s %s: about %s records to go in chunks of %s, %s at once%s",
        cursor.job,
        cursor.pass_number,
        f"goes on after key {key_text(prefix)}" if resumed and prefix is not None else "starts",
        f"{left:,}",
        f"{parameters.chunk_size:,}",
        walk.concurrency,
        "; this is a dry run, nothing is written" if parameters.dry_run else "",
    )
    chunks = left // parameters.chunk_size
    if chunks > MANY_CHUNKS and parameters.limit is None:
        run.log.warning(
            "%s: this makes %s chunks; beyond about %s, Prefect's server loses task runs from its pages and spends "
            "longer on them than the work takes: chunk_size=%s would do",
            cursor.job,
            f"{chunks:,}",
            f"{MANY_CHUNKS:,}",
            f"{-(-left // MANY_CHUNKS):_}",
        )
