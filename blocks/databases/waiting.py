"""Waits for a database whose connection was lost, wherever something is only read, or may be repeated."""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Engine

from prefect_batch.blocks.databases.connections import was_reached
from prefect_batch.blocks.databases.known_dialects import DIALECTS
from prefect_batch.blocks.error_facts import Blame
from prefect_batch.blocks.errors import ConnectionLost

# As long as an outage of the Prefect API is waited out.
PATIENCE_SECONDS = 120.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 5.0

_log = logging.getLogger(__name__)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class _InDatabase(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def engine(self) -> Engine: ...


_InDatabaseT = TypeVar("_InDatabaseT", bound=_InDatabase)


def waits(
    method: Callable[Concatenate[_InDatabaseT, _Parameters], _Result],
) -> Callable[Concatenate[_InDatabaseT, _Parameters], _Result]:
    """Decorate a method of an end that may be repeated: it is called again while the database is away.

    A server that was never reached by this process is not waited for, because the connection may be wrong.
    """

    @functools.wraps(method)
    def called(end: _InDatabaseT, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        started, pause_seconds = time.monotonic(), FIRST_PAUSE_SECONDS
        while True:
            try:
                return method(end, *args, **kwargs)
            except Exception as error:
                if not _passes(error) or not was_reached(end.engine):
                    raise
                waited = time.monotonic() - started
                if waited + pause_seconds > PATIENCE_SECONDS:
                    raise ConnectionLost(end.name, waited, _reason(error)) from error
                _log.warning(
                    "the database of %s does not answer; trying again in %.1f s: %s",
                    end.name,
                    pause_seconds,
                    _reason(error),
                )
            time.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    return called


def _passes(error: Any) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    causes = [error, getattr(error, "orig", None) or error]
    return any(dialect.blame(one) is Blame.PASSING for dialect in DIALECTS for one in causes)


def _reason(error: Any) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
