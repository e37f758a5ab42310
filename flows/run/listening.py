"""A thread that reads the requests to a run from outside."""

import contextlib
import threading
from typing import Self

import httpx

from prefect_batch.blocks.state.ownership import Ownership
from prefect_batch.blocks.state.requests import RunRequest, forget_request, read_request

LISTEN_SECONDS = 2.0


class Listener:
    """Reads the requests to the owner of a job while it is entered, and keeps the latest as `heard`.

    A dry run has no owner, and takes no requests.
    """

    def __init__(self, owner: Ownership | None) -> None:
        self.heard: RunRequest | None = None
        self._owner = owner
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(owner,), name="batch-requests", daemon=True)

    def __enter__(self) -> Self:
        if self._owner is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        if self._owner is None:
            return
        self._thread.join()
        if self.heard is not None:
            with contextlib.suppress(httpx.HTTPError):
                forget_request(self._owner.job)

    def _listen(self, owner: Ownership) -> None:
        while not self._ended.wait(LISTEN_SECONDS):
            # A server that is away is asked again; the walk itself notices when it stays away.
            with contextlib.suppress(httpx.HTTPError):
                self.heard = read_request(owner.job, owner.owner.token) or self.heard
