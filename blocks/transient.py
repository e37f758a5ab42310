"""Classifies errors: transient ones, after which the whole chunk is tried again, and those that no record causes."""

from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.databases.known_dialects import DIALECTS
from prefect_batch.blocks.errors import BadSink, ChunkIsDone, RemoteError, WorkerDied


def is_transient(exc: BaseException) -> bool:
    """Return whether the same work may succeed when it is tried again. Unknown errors are permanent.

    The outermost error of the chain that has a verdict decides.
    """
    for error in _chain(exc):
        verdict = _verdict(error)
        if verdict is not None:
            return verdict
    return False


def fails_chunk(exc: BaseException) -> bool:
    """Return whether the sink would refuse every record with this error.

    The chunk then fails, and no record becomes a dead letter.
    """
    return is_transient(exc) or any(_is_of_sink(error) for error in _chain(exc))


def _is_of_sink(error: BaseException) -> bool:
    if isinstance(error, (OSError, BadSink)):
        return True  # Such as a full disk, or an object store that refuses.
    return any(dialect.is_of_sink(error) for dialect in DIALECTS)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [exc]
    while pending:
        error = pending.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        context = None if error.__suppress_context__ else error.__context__
        pending += [context, error.__cause__, error.orig if isinstance(error, DBAPIError) else None]


def _verdict(error: BaseException) -> bool | None:
    """Return whether the error itself is transient, or None if its cause decides."""
    if isinstance(error, (ChunkIsDone, RemoteError, WorkerDied)):
        return error.transient
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    return next((said for dialect in DIALECTS if (said := dialect.verdict(error)) is not None), None)
