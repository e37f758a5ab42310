"""Errors as text, and what they keep alive let go: ten thousand records of a million may fail, all in the same way."""

import contextlib
import re
import traceback
from collections.abc import Callable, Iterator
from types import CodeType, TracebackType
from typing import Any

# Deeper stacks are those of a recursion, which seldom come twice; of all others so many are remembered.
MOST_FRAMES, MOST_STACKS = 50, 500
ATTEMPTS = 3

# The text of a stack: with the source lines, and the marks below them, it takes a tenth of a millisecond to make.
_stacks: dict[tuple[tuple[CodeType, int, int], ...], str] = {}


def printed(lines: Callable[..., list[str]], *args: Any) -> str:
    """Return the lines that a function of `traceback` makes, as one text.

    Before 3.11.8 and 3.12.2 it sometimes fails with a SystemError while another thread does the same
    (https://github.com/python/cpython/issues/106905), which is no reason to fail a chunk: the text is empty then.
    """
    for _ in range(ATTEMPTS):
        with contextlib.suppress(SystemError):
            return "".join(lines(*args))
    return ""


def trace_text(error: BaseException, tb: TracebackType | None) -> str:
    """Return the error as Python prints it, with this part of its traceback."""
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


def own_error(error: BaseException) -> BaseException:
    """Return the database's own error if SQLAlchemy has wrapped it, and otherwise the error itself.

    The wrapper would repeat the statement and its parameters.
    """
    return getattr(error, "orig", None) or error


def type_name(error: BaseException) -> str:
    """Return the qualified name of the error's type, without the module for errors of Python and of a script."""
    kind = type(error)
    bare = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if bare else f"{kind.__module__}.{kind.__qualname__}"


def let_go(error: BaseException) -> None:
    """Remove the tracebacks from the error and from its causes.

    Their frames hold all records of the batch, and the error itself. Left to the garbage collector, such cycles add up
    to a gigabyte before they are collected.
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


MESSAGE_CHARACTERS = 300


# In this order: a UUID is made of numbers, and a quoted text may hold anything.
_PLACEHOLDERS = (
    (re.compile(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"redacted:[0-9a-f]+"), "<redacted>"),
    (re.compile(r"(?<!\w)b?'(?:[^'\\]|\\.)*'(?!\w)"), "<text>"),
    (re.compile(r'(?<!\w)b?"(?:[^"\\]|\\.)*"(?!\w)'), "<text>"),
    (re.compile(r"(?<=\)=)\([^)]*\)"), "(<value>)"),  # PostgreSQL: Key (email)=(…) already exists.
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b"), "<time>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<hex>"),
    (re.compile(r"(?<![\w<])[+-]?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?(?![\w>])"), "<n>"),
)


def normalise(message: str) -> str:
    """Return the message with numbers, quoted texts, times and UUIDs replaced by placeholders: ``no column <text>``."""
    for pattern, placeholder in _PLACEHOLDERS:
        message = pattern.sub(placeholder, message)
    return " ".join(message.split())[:MESSAGE_CHARACTERS]
