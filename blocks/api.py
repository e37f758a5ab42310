"""Calls to the Prefect API that outlast a restart of the server."""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client

__all__ = ["open_client", "patiently"]

_Answer = TypeVar("_Answer")
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}


def open_client() -> SyncPrefectClient:
    """A client of the Prefect API; use it in a ``with`` statement."""
    return get_client(sync_client=True)


def patiently(call: Callable[[], _Answer], *, patience_seconds: float = 120.0) -> _Answer:
    """What the call returns; while the server is away it is called again, for that many seconds at most.

    The call must be harmless to repeat: after a lost connection nobody knows whether it arrived.
    """
    deadline = time.monotonic() + patience_seconds
    pause_seconds = 0.2
    while True:
        try:
            return call()
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code not in _PASSING_STATUS:
                raise
            if time.monotonic() + pause_seconds > deadline:
                raise
        time.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, 5.0)
