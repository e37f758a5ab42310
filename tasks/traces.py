"""Errors as text, and what they keep alive let go: ten thousand records of a million may fail, all in the same way."""

import traceback
from collections.abc import Iterator
from types import CodeType, TracebackType

__all__ = ["let_go", "trace_text"]

# Deeper stacks are those of a recursion, which seldom come twice; of all others so many are remembered.
MOST_FRAMES, MOST_STACKS = 50, 500

# The text of a stack: with the source lines, and the marks below them, it takes a tenth of a millisecond to make.
_stacks: dict[tuple[tuple[CodeType, int, int], ...], str] = {}


def trace_text(error: BaseException, tb: TracebackType | None) -> str:
    """The error as Python prints it, with this part of its traceback."""
    alone = error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    places = tuple((at.tb_frame.f_code, at.tb_lasti, at.tb_lineno) for at in _frames(tb))
    if not alone or not 0 < len(places) <= MOST_FRAMES or hasattr(error, "exceptions"):
        return "".join(traceback.format_exception(type(error), error, tb))
    last = "".join(traceback.format_exception_only(type(error), error))
    stack = _stacks.get(places)
    if stack is None:
        stack = "".join(traceback.format_exception(type(error), error, tb)).removesuffix(last)
        if len(_stacks) >= MOST_STACKS:
            _stacks.clear()
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
