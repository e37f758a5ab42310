"""The flow `reconcile`: proves that a pass lost nothing, or names what it lost, and does that again."""

import contextlib
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
from prefect import flow, get_run_logger
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import State
from prefect.context import get_run_context
from prefect.states import Completed
from pydantic import BeforeValidator, WithJsonSchema

from prefect_batch.blocks.errors import BadParameter, BatchError, KeysDiffer
from prefect_batch.blocks.opening import introduce, open_sink, open_source
from prefect_batch.blocks.prefect_api import call_api
from prefect_batch.blocks.state.cursor_store import CursorStore, load_cursor
from prefect_batch.blocks.state.ownership import own_job
from prefect_batch.flows.process_records import check_process, process_records
from prefect_batch.flows.reporting.publish import publish_event
from prefect_batch.flows.run.ending import failed
from prefect_batch.flows.run.replay import specs_of
from prefect_batch.flows.run.secret_parameters import keep_secrets_out
from prefect_batch.tasks.reconcile.reconcile_pass import Reconciled, reconcile_pass
from prefect_batch.tasks.reconcile.reconciliation import Reconciliation
from prefect_batch.tasks.reconcile.reopen import reopen
from prefect_batch.tasks.run_chunk import forget_cache

# No `from __future__ import annotations` here: Prefect builds the parameters' form from the real types.


def _check_process(process: Any) -> Any:
    return None if process is None else check_process(process)


Process = Annotated[Any, BeforeValidator(_check_process), WithJsonSchema({"type": "string"})]


@keep_secrets_out
@flow(name="reconcile", flow_run_name="{job} reconcile", validate_parameters=True)
def reconcile(
    job: str,
    repair: bool = False,
    process: Process = None,
    most_keys: int = 20,
    strict: bool = False,
) -> Reconciliation | State:
    """Compare the keys in source and sink over what a job's latest pass has read, and name the ranges that differ.

    A key of the source must be in the sink, or its record was filtered, or is in an open or discarded dead letter.
    Nothing is processed for that, and nothing is changed. What cannot be verified is said, and is neither right nor
    wrong.

    Args:
        job: The job's name.
        repair: Do the ranges again in which keys are missing, as the job's own run would. Nothing is ever deleted.
        process: Repair: the function, if it is not to be the job's, or cannot be imported by its name.
        most_keys: How many missing and surplus keys are named in each range.
        strict: Fail unless everything agrees.

    Returns:
        What was found; after a repair, what was found then.

    Raises:
        Refused: it cannot be done as asked for; the message says what to do.
        KeysDiffer: with `strict`, something differs, or could not be verified.
    """
    try:
        if most_keys < 0:
            raise BadParameter(f"most_keys={most_keys} must be 0 or more")
        first = _reconcile(job, most_keys)
        found = first.found
        if repair and first.to_repair:
            get_run_logger().info("%s", found)
            repaired = _repair(job, first, process)
            found = replace(_reconcile(job, most_keys).found, repaired=repaired)
        return _tell(found, strict=strict)
    except BatchError as error:
        return failed(error)


def _reconcile(job: str, most_keys: int) -> Reconciled:
    cursor = load_cursor(job)
    if cursor.position.upper is None:
        return reconcile_pass(cursor, None, None, most_keys)
    read, written = specs_of(cursor)
    source, sink = open_source(read), open_sink(written)
    return reconcile_pass(cursor, source, sink, most_keys, introduce(sink, source))


def _tell(found: Reconciliation, *, strict: bool) -> State[Any]:
    log, run_id = get_run_logger(), get_run_context().flow_run.id  # type: ignore[union-attr]
    (log.info if found.status == "agrees" else log.warning)("%s", found)
    title = f"{found.job}: pass {found.pass_number} {found.status}"
    key = f"batch-reconcile-{found.job}"
    with contextlib.suppress(httpx.HTTPError):  # What cannot be shown changes nothing.
        artifact = ArtifactCreate(
            key=key, type="markdown", data=found.markdown(), description=title, flow_run_id=UUID(str(run_id))
        )
        call_api(lambda client: client.create_artifact(artifact), patience_seconds=20)
    name = {"agrees": "agrees", "differs": "differs"}.get(found.status, "unverified")
    publish_event(found.job, str(run_id), f"reconcile.{name}", found.encode())
    if strict and found.status != "agrees":
        raise KeysDiffer(str(found), found.job, found.missing, found.surplus, found.doubts)
    state: State[Any] = Completed(message=str(found).partition("\n")[0], name=found.status.capitalize(), data=found)
    return state


def _repair(job: str, reconciled: Reconciled, process: Any) -> int:
    """Mark the ranges as unfinished, and let the job's own flow finish the pass.

    Returns:
        The number of these ranges.
    """
    log, flow_run = get_run_logger(), get_run_context().flow_run  # type: ignore[union-attr]
    again = [account for account in reconciled.to_repair if account.range.digest not in reconciled.decided]
    for account in reconciled.to_repair:
        if account not in again:
            log.warning(
                "%s: %s is not done again: some of its letters are resolved or discarded", job, account.range.text
            )
    if not again:
        return 0
    store = CursorStore(job)
    with own_job(job, str(uuid4()), flow_run.run_count):  # type: ignore[union-attr]
        cursor = store.load()
        if cursor is None or cursor.pass_id != reconciled.pass_id:
            raise BadParameter(f"{job} has begun another pass meanwhile; reconcile that one")
        source, sink = specs_of(cursor)
        if reason := sink.forbids_repair:
            raise BadParameter(f"{job} {reason}")
        forget_cache(job, cursor.pass_number, cursor.pass_id)
        store.save(reopen(cursor, reconciled.accounts, again))
    limits = {name: cursor.run.policy[name] for name in ("max_failure_rate", "max_failures")}
    process_records(
        job=job,
        source=source,
        process=process if process is not None else cursor.definition["process"],
        sink=sink,
        mode=cursor.mode,
        dead_letters=cursor.dead_letters,
        **limits,
    )
    return len(again)
