"""Calls to the Prefect API that survive a restart of the server."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL

from prefect_batch.blocks.errors import ApiUnavailable
from prefect_batch.blocks.passwords import hide_passwords

_Answer = TypeVar("_Answer")
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}
# Prefect's own timeout is a minute, and a server on SQLite may hang for as long.
_ANSWER_SECONDS = 10.0


# A person waits for this answer.
_LOOK_SECONDS = 5.0


def look_up_api(url: str) -> httpx.Response:
    """Return the answer of the Prefect API at this URL to the question for its version.

    Raises:
        ApiUnavailable: it does not answer within 5 seconds, or with an error, or something else answers there.
    """
    shown = hide_passwords(url)
    try:
        answer = httpx.get(f"{url.rstrip('/')}/admin/version", timeout=_LOOK_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ApiUnavailable(shown, hide_passwords(str(error)) or type(error).__name__) from error
    if answer.is_success and answer.headers.get("content-type", "").startswith("application/json"):
        return answer
    raise ApiUnavailable(shown, f"the answer to {shown.rstrip('/')}/admin/version is {answer.status_code}")


class _Line(NamedTuple):
    url: str | None
    client: SyncPrefectClient


# One for each thread, because creating a client costs as much as a call.
_lines = threading.local()


def call_api(call: Callable[[SyncPrefectClient], _Answer], *, patience_seconds: float = 120.0) -> _Answer:
    """Call the Prefect API, again and again while the server is unavailable.

    The call must be harmless to repeat: after a lost connection nobody knows whether it arrived.

    Args:
        call: The call, which is given a client.
        patience_seconds: How long to try again at most.

    Returns:
        What the call returns.

    Raises:
        httpx.HTTPError: the server stayed unavailable, or refused.
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
    """Leave "database is locked" (503) to `call_api`, because Prefect would wait at least two seconds, not 50 ms."""
    if response.status_code in _PASSING_STATUS:
        raise httpx.HTTPStatusError(str(response.status_code), request=response.request, response=response)
