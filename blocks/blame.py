"""What is to blame for an error, decided in one place: one record, an end, this process, or a passing cause."""

import errno
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.databases.known_dialects import DIALECTS
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import (
    BadSink,
    ChunkIsDone,
    RecordError,
    RecordTimeout,
    RemoteError,
    TooLarge,
    WorkerDied,
)

# Too many open files, in this process or on this machine; a full disk or quota; no buffers for sockets.
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS}
# What starts a process. EAGAIN of anything else, such as a socket that does not block, is no lack of this process.
_STARTS = {"fork", "forkpty", "fork_exec", "_fork_exec", "posix_spawn", "posix_spawnp", "spawnv_passfds"}
MOST_CAUSES = 100

_cause, _context = BaseException.__dict__["__cause__"], BaseException.__dict__["__context__"]
_suppressed, _traceback = BaseException.__dict__["__suppress_context__"], BaseException.__dict__["__traceback__"]
_members, _errno = BaseExceptionGroup.__dict__["exceptions"], OSError.__dict__["errno"]


def blame_of(error: BaseException, *, by_function: bool = False) -> Blame:
    """Return what is to blame for the error. The outermost error of its chain that says so decides.

    Args:
        error: Any error, also of a user's function, which may override whatever an exception has.
        by_function: Whether the user's function raised it. What it raises is the record's fault, even an error of a
            connection, except for what this process lacks: memory, descriptors, disk, processes and threads.
    """
    chain = list(_chain(error))
    for one in chain:
        said = _by_kind(one) or _of_process(one) or (None if by_function else _of_end(one))
        if said is not None:
            return said
    # Such as a read-only place, or an object store that refuses. What it was caused by may have said that it passes.
    return Blame.END if not by_function and any(_is(one, OSError) for one in chain) else Blame.RECORD


def _is(error: BaseException, kinds: type | tuple[type, ...]) -> bool:
    """Return whether it is an error of these kinds, without a look at its attributes, which may do anything."""
    return issubclass(type(error), kinds)


def _by_kind(error: Any) -> Blame | None:
    if _is(error, RemoteError):
        return Blame(error.blame)
    if _is(error, ChunkIsDone):
        return Blame.PASSING
    if _is(error, WorkerDied):
        return Blame.SIZE
    if _is(error, (RecordError, RecordTimeout)):
        return Blame.RECORD
    return Blame.END if _is(error, (BadSink, TooLarge)) else None


def _of_process(error: Any) -> Blame | None:
    if _is(error, MemoryError):
        return Blame.SIZE
    if _is(error, OSError):
        number = _errno.__get__(error)
        if number == errno.ENOMEM:
            return Blame.SIZE
        lacks = number in _SCARCE or (number == errno.EAGAIN and _while_starting(_traceback.__get__(error)))
        return Blame.PROCESS if lacks else None
    # Python has no other sign of it.
    no_thread = type(error) is RuntimeError and error.args[:1] == ("can't start new thread",)
    return Blame.PROCESS if no_thread else None


def _while_starting(tb: TracebackType | None) -> bool:
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is not None and not _STARTS.isdisjoint(tb.tb_frame.f_code.co_names)


def _of_end(error: BaseException) -> Blame | None:
    if _is(error, (ConnectionError, TimeoutError)):
        return Blame.PASSING
    return next((said for dialect in DIALECTS if (said := dialect.blame(error)) is not None), None)


def _orig(error: Any) -> BaseException | None:
    """Return the driver's own error, if SQLAlchemy has wrapped it."""
    return error.orig if _is(error, DBAPIError) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending and len(seen) < MOST_CAUSES:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        context = None if _suppressed.__get__(one) else _context.__get__(one)
        inner: list[BaseException | None] = list(_members.__get__(one)) if _is(one, BaseExceptionGroup) else []
        pending += [context, *inner, _cause.__get__(one), _orig(one)]
