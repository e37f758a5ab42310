"""Which pass a run works on: it resumes the unfinished one, or begins the next."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.errors import BadParameter, DefinitionChanged
from prefect_batch.blocks.file_list import START
from prefect_batch.blocks.jobs import of_replay
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.blocks.parameters.specs import SinkSpec, SourceSpec
from prefect_batch.blocks.state.cursor import Cursor, RunState
from prefect_batch.blocks.state.position import Position
from prefect_batch.blocks.state.statuses import check_change
from prefect_batch.tasks.plan.bound import PARTS, bound_differences


@dataclass(frozen=True)
class PassRequest:
    """The caller's parameters that decide which pass is worked on."""

    job: str
    definition: dict[str, Any]
    mode: Literal["full", "incremental"]
    restart: bool
    overlap: int | timedelta | None
    dead_letters: str


def define(source: SourceSpec | Letters, sink: SinkSpec, process: str, bound: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definition of a job as JSON: what must not change while a pass is unfinished.

    `process` is the function's name, and `bound` what `bound_to` returned for it.
    """
    parts: dict[str, Any] = {"source": source.define_source(), "sink": sink.define_sink()}
    parts = {part: {k: v for k, v in fields.items() if v is not None} for part, fields in parts.items()}
    parsed: dict[str, Any] = json.loads(json.dumps({**parts, "process": process, **bound}))
    return parsed


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return one line for each part of the definition that differs.

    A definition that an earlier version saved has nothing that is bound to the function, and one name for all partials.
    """
    known = "arguments" in before and "arguments" in now
    lines = bound_differences(before, now) if known else []
    if not known and before.get("process") == "functools:partial":
        before = {**before, "process": now.get("process")}
    flat_before, flat_now = (_flat({k: v for k, v in one.items() if k not in PARTS}) for one in (before, now))
    changed = [k for k in sorted(flat_before.keys() | flat_now.keys()) if flat_before.get(k) != flat_now.get(k)]
    return [*(f"{k}: was {flat_before.get(k)!r}, is now {flat_now.get(k)!r}" for k in changed), *lines]


def _flat(definition: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for part, value in definition.items():
        flat.update({f"{part}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {part: value})
    return flat


def begin(saved: Cursor | None, asked: PassRequest, source: Source, run: RunState, newest_letters: int) -> Cursor:
    """Return the cursor of the pass to work on: the saved one, or a new one that is not saved yet.

    `newest_letters` is the highest pass that has dead letters, so that a lost cursor does not reuse its number.

    Raises:
        DefinitionChanged: The definition is not that of the unfinished or continued pass.
    """
    if saved is None or saved.status == "reset" or asked.restart:
        return _new_pass(saved, asked, source, run, newest_letters, start=None)
    if saved.status != "complete":
        _check_same(saved, asked, "has an unfinished pass that was started with")
        if saved.mode != asked.mode:
            raise DefinitionChanged(
                f"{asked.job} has an unfinished {saved.mode} pass",
                f"Finish it with mode={saved.mode!r}, or give it up with restart=True",
            )
        if saved.position.complete and not saved.run.finished_at:
            # The former run died between its last chunk and the judgement: it is judged as part of this one.
            run = replace(run, tally=saved.run.tally, errors=saved.run.errors)
        # Of its definition, an earlier version saved less.
        resumed = replace(saved.become("running", ""), definition=asked.definition)
        return replace(resumed, run=run, dead_letters=asked.dead_letters)
    if asked.mode == "full":
        return _new_pass(saved, asked, source, run, newest_letters, start=None)
    _check_same(saved, asked, "goes on incrementally from a pass that had", but="files")
    # Of files, the source has those that the former pass had not.
    start = START if "files" in asked.definition else _start(saved.position, asked.overlap, source)
    return _new_pass(saved, asked, source, run, newest_letters, start=start)


def caution(saved: Cursor | None, now: Cursor, *, appends: bool) -> str | None:
    """Return a warning about moving from the saved cursor to this one, as a sentence, or None.

    `appends`: the sink keeps what an earlier pass wrote, and takes the same records beside it.
    """
    if saved is None or of_replay(now.job):
        return None
    if saved.pass_id == now.pass_id and saved.dead_letters != now.dead_letters:
        return (
            f"the dead letters that this pass has buried so far stay in {saved.dead_letters}: move them to "
            f"{now.dead_letters}, or they are not shown with the others"
        )
    if saved.pass_id != now.pass_id and appends and now.position.start is None and saved.tally.written:
        return (
            f"pass {now.pass_number} reads every record again, and the rows that pass {saved.pass_number} has inserted "
            "stay: empty the sink first, or use write='upsert', or mode='incremental'"
        )
    return None


def _check_same(saved: Cursor, asked: PassRequest, what: str, but: str | None = None) -> None:
    before, now = ({k: v for k, v in d.items() if k != but} for d in (saved.definition, asked.definition))
    if changed := differences(before, now):
        raise DefinitionChanged(
            f"{asked.job} {what} another definition",
            "Go back to the former definition, or start a new pass from the beginning with restart=True",
            tuple(changed),
        )


def _new_pass(
    saved: Cursor | None,
    asked: PassRequest,
    source: Source,
    run: RunState,
    newest_letters: int,
    *,
    start: Key | None,
) -> Cursor:
    check_change(saved.status if saved else None, "running")
    number = max(saved.pass_number if saved else 0, newest_letters) + 1
    upper = source.last_key(start)
    return Cursor(
        job=asked.job,
        pass_number=number,
        pass_id=secrets.token_hex(4),
        mode=asked.mode,
        definition=asked.definition,
        position=Position(start, upper, start),
        estimate=0,
        dead_letters=asked.dead_letters,
        run=run,
    )


def _start(former: Position, overlap: int | timedelta | None, source: Source) -> Key | None:
    """Return where an incremental pass begins: at the end of the previous pass, less the overlap."""
    end = former.start if former.upper is None else former.upper
    if end is None or not overlap:
        return end
    if isinstance(overlap, int):
        return source.back(end, overlap)
    try:
        return (end[0] - overlap, *end[1:])
    except TypeError as error:
        raise BadParameter(
            f"overlap={overlap} is a duration, but the key starts with a {type(end[0]).__name__}: "
            "give a number of records instead"
        ) from error
