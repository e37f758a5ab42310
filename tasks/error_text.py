"""Errors as text, and what they keep alive let go: ten thousand records of a million may fail, all in the same way."""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from types import CodeType, TracebackType
from typing import Any

__all__ = ["let_go", "printed", "trace_text"]

# Deeper stacks are those of a recursion, which seldom come twice; of all others so many are remembered.
MOST_FRAMES, MOST_STACKS = 50, 500
ATTEMPTS = 3

# The text of a stack: with the source lines, and the marks below them, it takes a tenth of a millisecond to make.
_stacks: dict[tuple[tuple[CodeType, int, int], ...], str] = {}


def printed(lines: Callable[..., list[str]], *args: Any) -> str:
    """What this function of `traceback` gives, as one text; empty where Python cannot.

    Before 3.11.8 and 3.12.2 it sometimes fails with a SystemError while another thread does the same
    (https://github.com/python/cpython/issues/106905), which is no reason to fail a chunk.
    """
    for _ in range(ATTEMPTS):
        with contextlib.suppress(SystemError):
            return "".join(lines(*args))
    return ""


def trace_text(error: BaseException, tb: TracebackType | None) -> str:
    """The error as Python prints it, with this part of its traceback."""
    alone = error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    places = tuple((at.tb_frame.f_code, at.tb_lasti, at.tb_lineno) for at in _frames(tb))
    last = "".join(traceback.format_exception_only(type(error), error))
    if not alone or not 0 < len(places) <= MOST_FRAMES or hasattr(error, "exceptions"):
        return printed(traceback.format_exception, type(error), error, tb) or last
    stack = _stacks.get(places)
    if stack is None:
        stack = printed(traceback.format_exception, type(error), error, tb).removesuffix(last)
        if len(_stacks) >= MOST_STACKS:
            _stacks.clear()
        if stack:
            _stacks[places] = stack
    return stack + last


def let_go(error: BaseException) -> None:
    """Take the tracebacks from the error and from what led to it: their frames hold all records of its batch, and it.

    Left to the garbage collector, such rings add up to a gigabyte before it comes to them.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            pending += [one.__cause__, one.__context__]


def _frames(tb: TracebackType | None) -> Iterator[TracebackType]:
    while tb is not None:
        yield tb
        tb = tb.tb_next
