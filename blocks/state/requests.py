"""What a running job is asked from outside: to stop, or to go on with other limits.

A request is a Prefect Variable beside the job's owner, and names the owner that it is meant for by its token: one that
comes too late never stops a later run.
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

__all__ = ["RunRequest", "changes_text", "forget_request", "read_request", "send_request"]


@dataclass(frozen=True)
class RunRequest:
    """What the owner with this token is asked: `stop` after the chunks at work or at once, and `changes` of its limits.

    `by` is who asked, for messages.
    """

    token: str
    by: str = ""
    stop: Literal["", "drain", "now"] = ""
    changes: dict[str, Any] = field(default_factory=dict)

    def merge(self, former: "RunRequest | None") -> "RunRequest":
        """This request together with what the same owner was asked before."""
        if former is None or former.token != self.token:
            return self
        stop = "now" if "now" in (self.stop, former.stop) else self.stop or former.stop
        return replace(self, stop=stop, changes={**former.changes, **self.changes})


def changes_text(changes: Mapping[str, float | None]) -> str:
    """Changes of limits as people write them: ``concurrency=8, max_rate=none``."""
    return ", ".join(f"{name}={'none' if value is None else format(value, ',g')}" for name, value in changes.items())


def _variable(job: str) -> str:
    return "batch_request_" + job.replace("-", "_")


def _decode(value: Any) -> RunRequest:
    return RunRequest(**(json.loads(value) if isinstance(value, str) else value))


def send_request(job: str, request: RunRequest) -> None:
    """Ask the job's owner; what it was asked before stays asked."""
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
    """What the owner with this token is asked now, or None.

    Raises:
        httpx.HTTPError: the Prefect API did not answer.
    """
    found = call_api(lambda client: client.read_variable_by_name(_variable(job)), patience_seconds=0)
    request = None if found is None else _decode(found.value)
    return request if request is not None and request.token == token else None


def forget_request(job: str) -> None:
    """Remove what the job was asked: whoever it was meant for has ended."""
    with contextlib.suppress(ObjectNotFound):
        call_api(lambda client: client.delete_variable_by_name(_variable(job)), patience_seconds=0)
