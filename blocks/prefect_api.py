"""Calls to the Prefect API that outlast a restart of the server."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL

__all__ = ["call_api"]

_Answer = TypeVar("_Answer")
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}
# Prefect's own is a minute, as is the time for which a server on SQLite is stuck now and then.
_ANSWER_SECONDS = 10.0


class _Line(NamedTuple):
    url: str | None
    client: SyncPrefectClient


# One for each thread: to make a client costs as much as to call.
_lines = threading.local()


def call_api(call: Callable[[SyncPrefectClient], _Answer], *, patience_seconds: float = 120.0) -> _Answer:
    """What the call returns, given a client; while the server is away it is called again, for that long at most.

    The call must be harmless to repeat: after a lost connection nobody knows whether it arrived.

    Raises:
        httpx.HTTPError: the server stayed away, or refused.
    """
    deadline = time.monotonic() + patience_seconds
    pause_seconds = 0.05
    while True:
        try:
            return call(_open_client())
        except httpx.TransportError:
            _lines.open = None  # The server may come back elsewhere.
            if time.monotonic() + pause_seconds > deadline:
                raise
        except httpx.HTTPStatusError as error:
            late = time.monotonic() + pause_seconds > deadline
            if late or error.response.status_code not in _PASSING_STATUS:
                raise
        time.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, 5.0)


def _open_client() -> SyncPrefectClient:
    line: _Line | None = getattr(_lines, "open", None)
    url = PREFECT_API_URL.value()
    if line is None or line.url != url:
        settings = {"event_hooks": {"response": [_answer_at_once]}, "timeout": _ANSWER_SECONDS}
        client = get_client(httpx_settings=settings, sync_client=True)
        line = _lines.open = _Line(url, client.__enter__())
    return line.client


def _answer_at_once(response: httpx.Response) -> None:
    """Leave "database is locked" (503) to `call_api`: Prefect would wait two seconds or more where 50 ms are enough."""
    if response.status_code in _PASSING_STATUS:
        raise httpx.HTTPStatusError(str(response.status_code), request=response.request, response=response)
