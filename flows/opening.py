"""What a run says at its beginning."""

from typing import Any

from prefect.context import FlowRunContext
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_batch.blocks.keys import key_text
from prefect_batch.blocks.letters.ids import pass_title
from prefect_batch.flows.run.parameters import Parameters
from prefect_batch.flows.run.walk import Walk
from prefect_batch.tasks.plan.chunk_size import MANY_CHUNKS

__all__ = ["log_start"]


def log_start(parameters: Parameters, walk: Walk, log: Any, *, resumed: bool) -> None:
    """Log what the run is about to do, and warn of what will make it slow."""
    cursor = walk.cursor
    prefix = cursor.position.prefix
    left = cursor.estimate - cursor.tally.read
    log.info(
        "%s %s: about %s records to go in chunks of %s, %s at once%s",
        pass_title(cursor.job, cursor.pass_number),
        f"goes on after key {key_text(prefix)}" if resumed and prefix is not None else "starts",
        f"{left:,}",
        f"{parameters.chunk_size:,}" if parameters.chunk_size else "adaptive size",
        walk.concurrency,
        "; this is a dry run, nothing is written" if parameters.dry_run else "",
    )
    context = FlowRunContext.get()
    if parameters.max_rate and context and not isinstance(context.task_runner, ThreadPoolTaskRunner):
        log.warning("%s: max_rate slows no chunks that another task runner, such as Dask, has at work", cursor.job)
    chunks = left // (parameters.chunk_size or left + 1)
    if chunks > MANY_CHUNKS and parameters.limit is None:
        log.warning(
            "%s: this makes %s chunks; beyond about %s, Prefect's server loses task runs from its pages and spends "
            "longer on them than the work takes: leave chunk_size out, or take %s",
            cursor.job,
            f"{chunks:,}",
            f"{MANY_CHUNKS:,}",
            f"{-(-left // MANY_CHUNKS):_}",
        )
