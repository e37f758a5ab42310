"""Errors as text, and what they keep alive let go: ten thousand records of a million may fail, all in the same way."""

import contextlib
import re
import traceback
from collections.abc import Callable, Iterator
from types import CodeType, TracebackType
from typing import Any, NamedTuple

from sqlalchemy.exc import DBAPIError

from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import RemoteError

# Deeper stacks are those of a recursion, which seldom come twice; of all others so many are remembered.
MOST_FRAMES, MOST_STACKS = 50, 500
ATTEMPTS = 3
# What a message and a stack may have in a letter, a state and a log.
MOST_CHARACTERS, MOST_TRACE_CHARACTERS = 10_000, 50_000
# Without a look at what a user's class makes of these attributes.
_cause, _context, _traceback = (BaseException.__dict__[f"__{name}__"] for name in ("cause", "context", "traceback"))

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


class ErrorText(NamedTuple):
    """An error as text that any store and any JSON can hold. Its text is the message."""

    kind: str
    message: str
    traceback: str

    def __str__(self) -> str:
        return self.message


def text_of(error: BaseException, tb: TracebackType | None = None) -> ErrorText:
    """Return the error as text, with this part of its traceback, or with all of it.

    The error may be one of a user's with anything in it: its methods may raise, its message may be of any length.
    """
    own = own_error(error)
    return ErrorText(type_name(own), message_of(own), trace_text(own, tb or _traceback.__get__(own)))


def remote_error(error: BaseException, blame: Blame) -> RemoteError:
    """Return the error as one that any process can hold, and that keeps nothing of this one alive."""
    if type(error) is RemoteError:
        return error
    text = text_of(error)
    return RemoteError(text.kind, text.message, text.traceback, blame)


def message_of(error: BaseException) -> str:
    """Return the message of any error, shortened if it is very long."""
    try:
        return storable(str(own_error(error)), MOST_CHARACTERS)
    except BaseException as second:  # noqa: BLE001 - a user's class may raise whatever it likes
        return f"the error has no message: {type_name(second)} was raised when it was asked for it"


def storable(text: str, most: int) -> str:
    """Return at most so many characters of the text, as a text that every file and database can hold.

    Lone surrogates, as in a file name that is no UTF-8, and NULs are written as escapes.
    """
    length = str.__len__(text)
    if length > most:
        left, right = (
            str.__getitem__(text, slice(most * 3 // 4)),
            str.__getitem__(text, slice(length - most // 4, None)),
        )
        text = f"{left} … ({length:,} characters) … {right}"
    return str.encode(text, "utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def trace_text(error: BaseException, tb: TracebackType | None) -> str:
    """Return the error as Python prints it, with this part of its traceback."""
    try:
        return storable(_trace_text(error, tb), MOST_TRACE_CHARACTERS)
    except BaseException:  # noqa: BLE001 - a user's class may raise whatever it likes
        stack = printed(traceback.format_tb, tb)
        return storable(f"{stack}{type_name(error)}: {message_of(error)}", MOST_TRACE_CHARACTERS)


def _trace_text(error: BaseException, tb: TracebackType | None) -> str:
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
    wrapper: Any = error if issubclass(type(error), DBAPIError) else None
    return error if wrapper is None or wrapper.orig is None else wrapper.orig


def type_name(error: BaseException) -> str:
    """Return the qualified name of the error's type, without the module for errors of Python and of a script."""
    kind = type(error)
    bare = kind.__module__ in ("builtins", "__main__")
    return storable(kind.__qualname__ if bare else f"{kind.__module__}.{kind.__qualname__}", MOST_CHARACTERS)


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
            _traceback.__set__(one, None)
            pending += [_cause.__get__(one), _context.__get__(one)]


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
