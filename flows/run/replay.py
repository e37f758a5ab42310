"""Replaying dead letters: they are chosen once, and then a run works on them as on any other source."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import get_run_context
from pydantic import Field, TypeAdapter, ValidationError

from prefect_batch.blocks.capabilities import InPlace
from prefect_batch.blocks.errors import BadCursor, BadParameter, BadProcessor
from prefect_batch.blocks.jobs import main_job, replay_job
from prefect_batch.blocks.letters.place import open_place, used_place
from prefect_batch.blocks.letters.read import newest_pass
from prefect_batch.blocks.letters.replay_list import list_path, write_replay_list
from prefect_batch.blocks.opening import introduce, open_sink, open_source
from prefect_batch.blocks.parameters.letters import Letters, RecordsFrom
from prefect_batch.blocks.parameters.specs import SinkSpec, SourceSpec
from prefect_batch.blocks.processor import resolve_processor
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.blocks.state.cursor_store import CursorStore, load_cursor
from prefect_batch.blocks.state.ownership import own_job
from prefect_batch.flows.run.parameters import (
    ChunkParameters,
    FailureParameters,
    JobParameters,
    Parameters,
    PassParameters,
    RunParameters,
)
from prefect_batch.flows.run.pass_files import check_files
from prefect_batch.flows.run.run_job import run_job
from prefect_batch.tasks.letters.choose import Choice, Selection, Unfinished, choose
from prefect_batch.tasks.plan.begin import differences

_SOURCE: TypeAdapter[SourceSpec] = TypeAdapter(Annotated[SourceSpec, Field(discriminator="kind")])
_SINK: TypeAdapter[SinkSpec] = TypeAdapter(SinkSpec)


@dataclass(frozen=True)
class Replay:
    """The parameters of a replay, as `replay_dead_letters` describes them. The last three are those of any run."""

    job: str
    process: str | Callable[..., Any] | None
    records: RecordsFrom | None
    selection: Selection
    limit: int | None
    dry_run: bool
    restart: bool
    failures: FailureParameters
    chunks: ChunkParameters
    run: RunParameters


def replay(asked: Replay) -> State[Any]:
    """Own the job, choose the letters or resume those of an interrupted replay, and run over them."""
    main = load_cursor(asked.job)
    asked = replace(asked, selection=asked.selection.of_latest(main))
    flow_run = get_run_context().flow_run  # type: ignore[union-attr]
    if asked.dry_run:
        with tempfile.TemporaryDirectory(prefix="prefect-batch-") as directory:
            return run_job(_rehearsal(asked, main, directory))
    with own_job(asked.job, str(flow_run.id), flow_run.run_count) as ownership:  # type: ignore[union-attr]
        main = load_cursor(asked.job)  # It may have moved before this run owned it.
        saved = CursorStore(replay_job(asked.job)).load()
        if saved is not None and not asked.restart and (parameters := _interrupted(asked, main, saved)):
            return run_job(parameters, ownership)
        if saved is not None:
            settle_leftovers(saved, main)
        return run_job(_chosen_anew(asked, main, saved), ownership)


def _rehearsal(asked: Replay, main: Cursor, directory: str) -> Parameters:
    choice = _choose(asked, main)
    write_replay_list(open_place(directory), "chosen.json", choice.replay_list)
    return _parameters(
        asked, main, 1, _records(asked, main, choice), choice.redacted, replay_list=(directory, "chosen.json")
    )


def _interrupted(asked: Replay, main: Cursor, saved: Cursor) -> Parameters | None:
    """Return the parameters to resume an interrupted replay, or None unless there is one and it asks for the same."""
    # One that died after its last chunk was not judged yet; that is done by going on with it.
    if saved.status != "running" and (saved.status != "stopped" or saved.position.complete):
        return None
    before = saved.definition["source"].get("records", "letter")
    parameters = _parameters(asked, main, saved.pass_number, asked.records or before, frozenset(saved.run.redact))
    return None if differences(saved.definition, parameters.what.define()) else parameters


def _chosen_anew(asked: Replay, main: Cursor, saved: Cursor | None) -> Parameters:
    place = main.dead_letters
    choice = _choose(asked, main)
    number = max(saved.pass_number if saved else 0, newest_pass(place, replay_job(asked.job))) + 1
    write_replay_list(open_place(place), list_path(asked.job, number), choice.replay_list)
    return _parameters(asked, main, number, _records(asked, main, choice), choice.redacted, restart=True)


def _choose(asked: Replay, main: Cursor) -> Choice:
    choice = choose(used_place(main.dead_letters, asked.job), asked.job, asked.selection, Unfinished.of(main))
    if choice.unfinished:
        get_run_logger().warning(
            "%s: %s letters are left out, because their chunks are not finished: the job's next run does them again",
            asked.job,
            f"{choice.unfinished:,}",
        )
    return choice


def _records(asked: Replay, main: Cursor, choice: Choice) -> RecordsFrom:
    """Return where to take the records from. In place, a letter's record would overwrite what was changed since."""
    if not choice.redacted:
        return asked.records or ("source" if in_place(main) == "yes" else "letter")
    if asked.records == "letter":
        raise BadParameter(
            "letters with redacted columns do not have the records that failed: replay them with from_='source'"
        )
    return "source"


def _parameters(
    asked: Replay,
    main: Cursor,
    number: int,
    records: RecordsFrom,
    redacted: frozenset[str],
    *,
    restart: bool = False,
    replay_list: tuple[str, str] | None = None,
) -> Parameters:
    source, sink = specs_of(main)
    if records == "source":
        check_files(source, main)
    process = asked.process
    if process is None:
        process = main.definition["process"]
        try:
            resolve_processor(process)
        except BadProcessor as error:
            raise BadProcessor(f"{error}; or name the function for this replay with process=…") from error
    letters = Letters(
        place=main.dead_letters,
        job=asked.job,
        replay=number,
        replay_list=replay_list or (main.dead_letters, list_path(asked.job, number)),
        records=records,
        origin=source,
        asked=asked.selection.encode(),
    )
    what = JobParameters(
        replay_job(asked.job),
        letters,
        process,
        sink,
        dead_letters=main.dead_letters,
        redact=sorted({*main.run.redact, *redacted}) or None,
    )
    if asked.process is None:
        _check_whole(what, main)
    this_pass = PassParameters(limit=asked.limit, dry_run=asked.dry_run, restart=restart)
    return Parameters(what, this_pass, asked.failures, asked.chunks, asked.run)


def _check_whole(what: JobParameters, main: Cursor) -> None:
    """Raise BadProcessor if arguments were given to the job's function that are not there when it is found by name."""
    lost = main.definition.get("arguments", {}).keys() - what.define(leave_no_trace=True)["arguments"].keys()
    if lost:
        raise BadProcessor(
            f"the function of {main.job} had arguments that cannot be restored ({', '.join(sorted(lost))}): "
            "name the function for this replay with process=…"
        )


def specs_of(cursor: Cursor) -> tuple[SourceSpec, SinkSpec]:
    """Return the source and the sink of a job, from its saved definition.

    Raises:
        BadCursor: they cannot be read.
    """
    try:
        source = _SOURCE.validate_python(cursor.definition["source"])
        sink = _SINK.validate_python(cursor.definition["sink"])
    except (ValidationError, KeyError) as error:
        raise BadCursor(
            cursor.job, "has a definition that cannot be read: run the job itself with restart=True"
        ) from error
    # Whether it may be made is no part of the definition; where nothing was written yet, it has to be.
    return source, sink.made_again


def letters_of(saved: Cursor) -> Letters:
    """Return the letters of a replay, restored from its cursor as far as reading and settling them requires."""
    job, place = main_job(saved.job), saved.dead_letters
    replay_list = (place, list_path(job, saved.pass_number))
    return Letters(place, job, saved.pass_number, replay_list, "letter", None, {})


def in_place(main: Cursor) -> InPlace:
    """Return whether a job's sink writes to what its source reads."""
    source, sink = specs_of(main)
    return introduce(open_sink(sink), open_source(source))


def settle_leftovers(saved: Cursor, main: Cursor) -> None:
    """Resolve the letters of chunks that an interrupted replay has committed, according to the sink's ledger.

    A sink without a ledger is written by key, where replaying a letter twice does no harm.
    """
    pending = [chunk for chunk, done in saved.position.ranges() if not done]
    if saved.status in ("complete", "reset") or not pending:
        return
    reads_again = saved.definition["source"].get("records") == "source"
    sink = open_sink(_SINK.validate_python(saved.definition["sink"]), in_place(main) if reads_again else "no")
    if not sink.needs_ledger:
        return
    source = open_source(letters_of(saved))
    for chunk in pending:
        with sink.transaction(saved.pass_ref, chunk) as transaction:
            committed = transaction.find() is not None
        if committed:
            source.settle(chunk, saved.run.run_id)
