"""One run of a job: check, own, begin, walk, end. The sentence behind `process_records`."""

import functools
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import get_run_context
from prefect.settings import PREFECT_HOME

from prefect_batch.blocks.capabilities import AbandonsPasses, InPlace, OfFiles
from prefect_batch.blocks.chunks import ChunkResult
from prefect_batch.blocks.contracts import Sink, Source
from prefect_batch.blocks.jobs import of_replay
from prefect_batch.blocks.letters.bury import DeadLetters
from prefect_batch.blocks.letters.place import full_place, is_marked, open_place
from prefect_batch.blocks.letters.read import newest_pass
from prefect_batch.blocks.opening import introduce, open_sink, open_source
from prefect_batch.blocks.state.accounts import Accounts, remove_old
from prefect_batch.blocks.state.cursor import Cursor, RunState, remember
from prefect_batch.blocks.state.cursor_store import CursorStore
from prefect_batch.blocks.state.job_files import save_files
from prefect_batch.blocks.state.ownership import Ownership, own_job
from prefect_batch.blocks.state.statuses import Status
from prefect_batch.flows.reporting.alerts import check_alerts
from prefect_batch.flows.run.choose_workers import check_reach, choose_workers
from prefect_batch.flows.run.circuit_breaker import Circuit
from prefect_batch.flows.run.ending import deployed, finish, give_up, judge, outside_window
from prefect_batch.flows.run.health_watch import try_checks
from prefect_batch.flows.run.memory import memory_bound_bytes, quiet_heap
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.flows.run.pass_files import chunk_source, files_definition, pin_files
from prefect_batch.flows.run.progress_bar import open_bar
from prefect_batch.flows.run.resources import places_of
from prefect_batch.flows.run.restart import abandons, check_restart
from prefect_batch.flows.run.run_limits import RunLimits
from prefect_batch.flows.run.show import Show, log_start
from prefect_batch.flows.run.stopping import StopRequest, stop_on_interrupt
from prefect_batch.flows.run.walk import Walk
from prefect_batch.flows.run.watch import watch_run
from prefect_batch.tasks.plan.begin import PassRequest, begin, caution
from prefect_batch.tasks.plan.chunk_size import ChunkSizer, start_of
from prefect_batch.tasks.plan.planner import Planner
from prefect_batch.tasks.report.progress import Progress
from prefect_batch.tasks.run_chunk import chunk_task, forget_cache
from prefect_batch.tasks.work.work_chunk import ChunkJob, forget
from prefect_batch.tasks.workers.pool import refuse_waiting

# Records in memory at once, for each running chunk: a call of a vectorized function costs up to 2 ms, whatever their
# number, and a record as a column takes a sixth of the memory of one as a dict.
BATCH_ROWS, TABLE_ROWS = 5_000, 20_000

_Save = Callable[[Cursor], Cursor]


@dataclass(frozen=True)
class _Run:
    """What a run has at hand: its parameters, its two ends, its identity and its log."""

    parameters: Parameters
    source: Source
    sink: Sink
    run_id: str
    attempt: int
    log: Any
    way_on: str
    in_place: InPlace = "no"


def run_job(parameters: Parameters, ownership: Ownership | None = None) -> State[Any]:
    """Check the job, own it, and walk its pass.

    With `ownership`, the caller owns what the run works on.

    Returns:
        A state with the report, or one that says why the run did not complete.
    """
    what, window = parameters.what, parameters.run.window
    if window and not window.is_open(now := datetime.now(UTC)):
        return outside_window(what.job, window, now)
    flow_run = get_run_context().flow_run  # type: ignore[union-attr]
    try_checks(parameters.run.health or ())
    check_alerts(what.alert or ())
    source, sink = open_source(what.source), open_sink(what.sink)
    way_on = "its next run goes on" if deployed() else "call it again to go on"
    run = _Run(parameters, source, sink, str(flow_run.id), flow_run.run_count, get_run_logger(), way_on)  # type: ignore[union-attr]
    in_place, warnings = _check_ends(source, sink, dry_run=parameters.pass_.dry_run)
    run = replace(run, in_place=in_place)
    for warning in warnings:
        run.log.warning("%s: %s", what.job, warning)
    what.check_redact(source)
    try:
        if parameters.pass_.dry_run:
            run = replace(run, source=pin_files(run.source, parameters, None, run.log))
            return _walk(run, _begin(run, None, ""), lambda cursor: cursor)
        owned = own_job(what.job, run.run_id, run.attempt) if ownership is None else nullcontext(ownership)
        with owned as owner:
            store = CursorStore(what.job)

            def save(cursor: Cursor) -> Cursor:
                owner.check()
                return store.save(cursor)

            saved = store.load()
            run = replace(run, source=pin_files(run.source, parameters, saved, run.log))
            return _walk(run, save(_prepare(run, saved)), save, owner)
    finally:
        forget(run.run_id)


def _check_ends(source: Source, sink: Sink, *, dry_run: bool) -> tuple[InPlace, list[str]]:
    """Return whether the sink writes to what the source reads, and the warnings about both.

    Raises:
        BadSource: The source cannot be read by its key.
        BadSink: The sink cannot be written as asked for.
    """
    warnings = source.check()
    in_place = introduce(sink, source)
    return in_place, [*warnings, *sink.check(source.schema, dry_run=dry_run)]


def preview(parameters: Parameters, saved: Cursor | None, log: Any) -> tuple[Source, Cursor, list[str]]:
    """Return the source and the cursor that a run would begin with, and its warnings. Nothing is changed.

    Raises:
        Refused: The run would be refused.
    """
    what = parameters.what
    source, sink = open_source(what.source), open_sink(what.sink)
    in_place, warnings = _check_ends(source, sink, dry_run=True)
    run = _Run(parameters, pin_files(source, parameters, saved, log), sink, "", 1, log, "", in_place)
    return run.source, _begin(run, saved, full_place(what.dead_letters or default_place())), warnings


def _prepare(run: _Run, saved: Cursor | None) -> Cursor:
    """Return the cursor to start from, after checking the dead letters' place and removing leftovers."""
    job, sink = run.parameters.what.job, run.parameters.what.sink
    place = full_place(run.parameters.what.dead_letters or (saved.dead_letters if saved else "") or default_place())
    used = saved is not None and saved.dead_letters == place and saved.status != "reset"
    DeadLetters(place, job, 1, run.source.schema).check(used=used)
    cursor = replace(_begin(run, saved, place), history=remember(saved))
    if sentence := caution(saved, cursor, appends=sink.adds_rows):
        run.log.warning("%s: %s", job, sentence)
    if saved is None or saved.pass_id != cursor.pass_id:
        if saved is not None:
            forget_cache(job, saved.pass_number, saved.pass_id)
            if abandons(saved, cursor) and isinstance(run.sink, AbandonsPasses):
                run.sink.abandon(saved.pass_ref)
        if isinstance(run.source, OfFiles):
            save_files(job, cursor.pass_number, run.source.files, former=saved.pass_number if saved else None)
        run.sink.begin_pass(cursor.pass_ref)
    return cursor


def default_place() -> str:
    """Return where dead letters are kept if nothing else is said: below PREFECT_HOME of this machine."""
    return str(Path(PREFECT_HOME.value()) / "prefect-batch" / "dead-letters")


def _begin(run: _Run, saved: Cursor | None, place: str) -> Cursor:
    """Return the cursor of the pass to work on, with the estimated number of its records."""
    what, asked = run.parameters.what, run.parameters.pass_
    check_reach(run.parameters, (run.source, run.sink), place)
    now = datetime.now(UTC).isoformat()
    state = RunState(run.run_id, now, policy=asdict(run.parameters.failures.policy), redact=tuple(what.redact or ()))
    request = PassRequest(
        job=what.job,
        definition={**what.define(leave_no_trace=asked.dry_run or not run.run_id), **files_definition(run.source)},
        mode=asked.mode,
        restart=asked.restart,
        overlap=asked.overlap,
        dead_letters=place,
    )
    newest = newest_pass(place, what.job) if place else 0
    if what.source.replay is not None:
        newest = what.source.replay - 1  # Its own number is in its list already.
    cursor = begin(saved, request, run.source, state, newest)
    if not asked.write_again:
        check_restart(saved, cursor, run.sink, adds_rows=what.sink.adds_rows, in_place=run.in_place)
    if saved is not None and saved.pass_id == cursor.pass_id:
        # Whoever resumes the pass may not know what its letters hide.
        redact = tuple(sorted({*saved.run.redact, *cursor.run.redact}))
        cursor = replace(cursor, run=replace(cursor.run, redact=redact))
    position = cursor.position
    if position.upper is None or position.complete:
        return replace(cursor, estimate=cursor.tally.read)
    return replace(cursor, estimate=cursor.tally.read + run.source.estimate(position.prefix, position.upper))


def _walk(run: _Run, cursor: Cursor, save: _Save, owner: Ownership | None = None) -> State[Any]:
    parameters = run.parameters
    started = cursor.position.prefix != cursor.position.start or bool(cursor.position.planned)
    job = _chunk_job(run, cursor)
    left = cursor.estimate - cursor.tally.read
    progress = Progress(parameters.what.job, cursor.estimate, cursor.tally)
    account, save = _keep_accounts(cursor, save)
    workers = choose_workers(parameters, (run.source, run.sink), job, left)
    start = start_of(cursor.tally, tables=parameters.what.processor.form == "table")
    sizer = ChunkSizer(parameters.chunks.chunk_size, left, workers.size, start.rows)
    request = StopRequest(functools.partial(refuse_waiting, run.run_id), run.way_on)
    memory, policy = memory_bound_bytes(parameters.run.max_memory_mb), parameters.failures.policy
    limits = RunLimits(workers.size, job.batch_rows, parameters.run.max_rate, memory, policy, request)
    places = places_of(cursor.dead_letters, run.sink)
    with (
        workers.open(),
        watch_run(run.run_id, owner, places, parameters, limits, sizer, run.log) as watch,
        open_bar(cursor.estimate) as bar,
        stop_on_interrupt(request),
        quiet_heap(),
    ):
        show = Show(progress, None if job.dry_run else run.run_id, run.log, bar)
        walk = Walk(
            cursor=cursor,
            job=job,
            task=_task(run, job, cursor),
            planner=Planner(run.source, sizer, limit=parameters.pass_.limit, canary=None if started else start.canary),
            limits=limits,
            circuit=Circuit(parameters.what.job, parameters.failures.circuit_breaker),
            progress=progress,
            warn=run.log.warning,
            save=save,
            account=account,
            show=show.update,
            watch=watch,
        )
        log_start(parameters, cursor, workers.size, run.log, resumed=started)
        status, message = _go(run, walk)
        show.update(final=True)
        return finish(walk, status, message, run.log)


def _keep_accounts(cursor: Cursor, save: _Save) -> tuple[Callable[[ChunkResult], None], _Save]:
    """Return what to call for each finished chunk, and a `save` that writes the accounts first.

    The accounts therefore never lack a chunk that the cursor counts.
    """
    if of_replay(cursor.job) or not cursor.dead_letters:
        return lambda _: None, save
    place = open_place(cursor.dead_letters)
    accounts = Accounts(place, cursor.job, cursor.pass_number)
    remove_old(place, cursor.job, cursor.pass_number)

    def save_both(now: Cursor) -> Cursor:
        if place.only_here or is_marked(place, cursor.job):  # Else its disk is away.
            accounts.save()
        return save(now)

    return accounts.add, save_both


def _go(run: _Run, walk: Walk) -> tuple[Status, str]:
    """Walk, check the failures, and let the sink end a complete pass.

    Returns:
        The status of the run, and the reason for it.
    """
    try:
        walk.go()
        status, message = judge(walk)
        if status == "complete" and not run.parameters.pass_.dry_run:
            walk.cursor = walk.save(walk.cursor)  # Another run may have taken the job over.
            # Before it is saved as complete: a run that is killed in between must end the pass again.
            run.sink.end_pass(walk.cursor.pass_ref)
    except BaseException as error:
        give_up(walk, error, run.log)
        raise
    return status, message


def _chunk_job(run: _Run, cursor: Cursor) -> ChunkJob:
    what, chunks = run.parameters.what, run.parameters.chunks
    return ChunkJob(
        job=what.job,
        pass_number=cursor.pass_number,
        pass_id=cursor.pass_id,
        run_id=run.run_id,
        source=chunk_source(run.source, what.source),
        sink=what.sink,
        process=what.process,
        dead_letters=cursor.dead_letters,
        batch_rows=TABLE_ROWS if what.processor.vectorized else BATCH_ROWS,
        record_retries=chunks.record_retries,
        record_timeout=chunks.record_timeout,
        dry_run=run.parameters.pass_.dry_run,
        redact=cursor.run.redact,
        in_place=run.in_place,
        marked=not run.parameters.pass_.dry_run and not open_place(cursor.dead_letters).only_here,
    )


def _task(run: _Run, job: ChunkJob, cursor: Cursor) -> Any:
    return chunk_task(
        job,
        definition=json.dumps(cursor.definition, sort_keys=True),
        retries=run.parameters.chunks.retries,
        retry_delay_seconds=run.parameters.chunks.retry_delay_seconds,
    )
