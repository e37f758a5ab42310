"""What all commands share: printing as text or JSON, questions, and exit codes."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from cyclopts import Parameter

from prefect_batch.blocks.errors import (
    ApiUnavailable,
    BatchError,
    FailureRateExceeded,
    JobIsOwned,
    LostOwnership,
    RunStopped,
)

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

AsJson = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of text.")]
Yes = Annotated[bool, Parameter(name="--yes", negative=(), help="Do not ask.")]


class Ending(IntEnum):
    """The exit code of a command, as docs/command-line.md describes it."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    LIMIT = 3
    STOPPED = 4
    AT_WORK = 5
    NO_SERVER = 6
    INTERRUPTED = 130


def ending_of(error: BatchError) -> Ending:
    """Return the exit code for a command that ended with this error."""
    if isinstance(error, FailureRateExceeded):
        return Ending.LIMIT
    if isinstance(error, JobIsOwned):
        return Ending.AT_WORK
    if isinstance(error, ApiUnavailable):
        return Ending.NO_SERVER
    if isinstance(error, (RunStopped, LostOwnership)):
        return Ending.STOPPED
    return Ending.REFUSED


class Encoded(Protocol):
    """What a command can print: text by `str`, and JSON by `encode`."""

    def encode(self) -> dict[str, Any]:
        """Return the same as JSON."""


def print_found(found: Encoded | Sequence[Encoded], *, as_json: bool, nothing: str = "nothing was found") -> None:
    """Print one thing, or a list of them, as text or as one JSON document. An empty list is stated in words."""
    if isinstance(found, Sequence):
        text = "\n\n".join(map(str, found)) or nothing
        say(json.dumps([one.encode() for one in found], indent=2, default=str) if as_json else text)
    else:
        say(json.dumps(found.encode(), indent=2, default=str) if as_json else str(found))


@dataclass(frozen=True)
class Done:
    """What a command did: a sentence, and the same as fields of JSON."""

    sentence: str
    fields: dict[str, Any]

    def encode(self) -> dict[str, Any]:
        """Return the fields."""
        return self.fields

    def __str__(self) -> str:
        return self.sentence


def print_outcome(state: "State[Any]", *, as_json: bool) -> Ending:
    """Print how a flow ended: its report, or the sentence of its state.

    Returns:
        The exit code.

    Raises:
        BatchError: The flow ended with it.
    """
    result: Any = None if state.is_cancelled() else state.result(raise_on_failure=False)
    if isinstance(result, BatchError):
        raise result
    if state.is_completed():
        print_found(Done(str(result), asdict(result)), as_json=as_json)
        return Ending.DONE
    print(f"prefect-batch: {state.message}", file=sys.stderr)  # noqa: T201 - a program's output
    return Ending.STOPPED if state.is_cancelled() else Ending.REFUSED


def say(text: str) -> None:
    """Print a line of the command's output. A closed pipe, as behind ``| head``, is no error."""
    try:
        print(text, flush=True)  # noqa: T201 - a program's output
    except BrokenPipeError:
        _close_output()


def _close_output() -> None:
    # Python flushes once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_array(values: Iterable[Any]) -> None:
    """Print the values as one JSON array, each as soon as it comes."""
    opening = "["
    try:
        for value in values:
            text = json.dumps(value, indent=2, default=str).replace("\n", "\n  ")
            print(opening, text, sep="\n  ", end="")  # noqa: T201 - a program's output
            opening = ","
    except BrokenPipeError:
        _close_output()
        return
    say("[]" if opening == "[" else "\n]")


def confirm(question: str) -> None:
    """Continue only if a person says yes.

    Raises:
        SystemExit: They said no, or nobody can be asked.
    """
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        print("nothing was changed", file=sys.stderr)  # noqa: T201 - a program's output
        sys.exit(Ending.REFUSED)


def announce_server() -> None:
    """Say why nothing happens for a while, when Prefect is about to start a server of its own.

    Raises:
        ApiUnavailable: A server is configured, and does not answer.
    """
    from prefect.settings import PREFECT_API_URL

    from prefect_batch.blocks.prefect_api import look_up_api

    if url := PREFECT_API_URL.value():
        look_up_api(url)
    else:
        print("No Prefect server is configured (PREFECT_API_URL); starting a temporary one …", file=sys.stderr)  # noqa: T201
