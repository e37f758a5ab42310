"""Requests to a running job from outside: to stop, or to continue with other limits.

A request is a Prefect Variable beside the job's owner, and names the owner that it is meant for by its token, so that a
late request never stops a later run.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from prefect_batch.blocks.prefect_api import call_api


@dataclass(frozen=True)
class RunRequest:
    """A request to the owner with this token.

    Attributes:
        by: Who asked, for messages.
        stop: ``drain`` to stop after the chunks in flight, ``now`` to stop at once, or empty.
        changes: The new values of limits, by name.
    """

    token: str
    by: str = ""
    stop: Literal["", "drain", "now"] = ""
    changes: dict[str, Any] = field(default_factory=dict)

    def merge(self, former: "RunRequest | None") -> "RunRequest":
        """Return this request together with what was requested of the same owner before."""
        if former is None or former.token != self.token:
            return self
        stop = "now" if "now" in (self.stop, former.stop) else self.stop or former.stop
        return replace(self, stop=stop, changes={**former.changes, **self.changes})


def changes_text(changes: Mapping[str, float | None]) -> str:
    """Return changes of limits as people write them: ``concurrency=8, max_rate=none``."""
    return ", ".join(f"{name}={'none' if value is None else format(value, ',g')}" for name, value in changes.items())


def _variable(job: str) -> str:
    return "batch_request_" + job.replace("-", "_")


def _decode(value: Any) -> RunRequest:
    return RunRequest(**(json.loads(value) if isinstance(value, str) else value))


def send_request(job: str, request: RunRequest) -> None:
    """Send a request to the job's owner, together with what was requested before."""
    name = _variable(job)

    def send(client: SyncPrefectClient) -> None:
        existing = client.read_variable_by_name(name)
        merged = request.merge(_decode(existing.value) if existing else None)
        if existing is None:
            with contextlib.suppress(ObjectAlreadyExists):
                client.create_variable(VariableCreate(name=name, value=asdict(merged)))
                return
        client.update_variable(VariableUpdate(name=name, value=asdict(merged)))

    call_api(send, patience_seconds=20)


def read_request(job: str, token: str) -> RunRequest | None:
    """Return what is requested of the owner with this token now.

    Returns:
        None if nothing is requested.

    Raises:
        httpx.HTTPError: the Prefect API did not answer.
    """
    found = call_api(lambda client: client.read_variable_by_name(_variable(job)), patience_seconds=0)
    request = None if found is None else _decode(found.value)
    return request if request is not None and request.token == token else None


def forget_request(job: str) -> None:
    """Remove what was requested of the job, because the run that it was meant for has ended."""
    with contextlib.suppress(ObjectNotFound):
        call_api(lambda client: client.delete_variable_by_name(_variable(job)), patience_seconds=0)
