"""One owner of a job: a uniquely named Prefect Variable, created atomically and deleted by id.

Not a Prefect concurrency slot: its leases live in the server's memory, so after kill -9 and a restart of the server
the slot would stay taken for ever.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from prefect_batch.blocks.errors import JobIsOwned, LostOwnership
from prefect_batch.blocks.prefect_api import call_api

__all__ = ["Owner", "Ownership", "is_dead", "living_owner", "own_job"]

HEARTBEAT_SECONDS = 20.0
LEASE = timedelta(seconds=90)

# The owners that live in this process: its pid alone cannot tell them from one that ended badly.
_alive_here: set[str] = set()


@dataclass(frozen=True)
class Owner:
    """Who works on a job. `started_at` is the start of the process `pid` on `host`, as `_started_at` tells it.

    `attempt` counts the starts of the same flow run; `generation` counts the owners that died and were taken over.
    """

    token: str
    run_id: str
    attempt: int
    host: str
    pid: int
    started_at: float
    since: str
    heartbeat: str
    generation: int = 1

    @property
    def host_name(self) -> str:
        """The name of its host."""
        return self.host.partition("/")[0]


def _host() -> str:
    """This host, as far as its process ids reach: two containers may have the same name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _started_at(pid: int) -> float:
    """When this process started: in seconds since the boot where Linux tells it, else since 1970.

    The former does not move when the clock is set, which would make a living owner look like another process.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return psutil.Process(pid).create_time()
    # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html, field 22; the name before it may hold spaces.
    return int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def _now() -> datetime:
    return datetime.now(UTC)


def is_dead(owner: Owner, run_id: str, attempt: int, *, flow_run_ended: bool) -> bool:
    """Whether the owner can no longer be at work, as far as it can be known from here."""
    if owner.run_id == run_id and owner.attempt < attempt:
        return True  # Prefect itself started this flow run anew.
    if owner.host == _host():
        try:
            same = abs(_started_at(owner.pid) - owner.started_at) < 1
            zombie = same and psutil.Process(owner.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        return not same or zombie or (owner.pid == os.getpid() and owner.token not in _alive_here)
    return flow_run_ended or _now() - datetime.fromisoformat(owner.heartbeat) > LEASE


class Ownership:
    """The right of one run to work on a job, kept alive by a heartbeat in a thread of its own."""

    def __init__(self, job: str, owner: Owner, document: UUID) -> None:
        self.job = job
        self.owner = owner
        self._document = document
        self._ended = threading.Event()

    def check(self) -> None:
        """Nothing, while this run owns the job.

        Raises:
            LostOwnership: another run took it over.
        """
        owner = call_api(lambda client: _read(client, self._document))
        if owner is None or owner.token != self.owner.token:
            raise LostOwnership(self.job)

    def beat(self) -> None:
        """Renew the heartbeat until released; a server that is away is tried again at the next beat."""
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self.owner = replace(self.owner, heartbeat=_now().isoformat())
            with contextlib.suppress(httpx.HTTPError, ObjectNotFound):
                call_api(self._renew, patience_seconds=0)

    def _renew(self, client: SyncPrefectClient) -> None:
        client.request(
            "PATCH", "/variables/{id}", path_params={"id": self._document}, json={"value": asdict(self.owner)}
        )

    def release(self) -> None:
        """Give the job up; if the server is away, the next run sees that this process is dead."""
        self._ended.set()
        _alive_here.discard(self.owner.token)
        with contextlib.suppress(httpx.HTTPError):
            call_api(lambda client: _delete(client, self._document), patience_seconds=20)


def _variable(job: str) -> str:
    return "batch_owner_" + job.replace("-", "_")


def _read(client: SyncPrefectClient, document: UUID) -> Owner | None:
    try:
        variable = client.request("GET", "/variables/{id}", path_params={"id": document}).json()
    except httpx.HTTPStatusError as error:
        if error.response.status_code == 404:
            return None
        raise
    return _owner(variable["value"])


def _owner(value: Any) -> Owner:
    fields = json.loads(value) if isinstance(value, str) else value
    return Owner(**fields)


def _delete(client: SyncPrefectClient, document: UUID) -> None:
    try:
        client.request("DELETE", "/variables/{id}", path_params={"id": document})
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 404:
            raise


def _flow_run_ended(run_id: str) -> bool:
    try:
        state = call_api(lambda client: client.read_flow_run(UUID(run_id))).state
    except ObjectNotFound:
        return True
    return state is not None and state.is_final()


def _create(job: str, owner: Owner) -> UUID | None:
    """The id of the new Variable, or None if there is one already. Safe to repeat: it reads back and compares."""

    def attempt(client: SyncPrefectClient) -> UUID | None:
        with contextlib.suppress(ObjectAlreadyExists):
            return client.create_variable(VariableCreate(name=_variable(job), value=asdict(owner))).id
        # An answer that got lost may have been a success.
        existing = client.read_variable_by_name(_variable(job))
        return existing.id if existing and _owner(existing.value).token == owner.token else None

    return call_api(attempt)


def _acquire(job: str, owner: Owner) -> Ownership:
    for _ in range(3):
        if document := _create(job, owner):
            return Ownership(job, owner, document)
        existing = call_api(lambda client: client.read_variable_by_name(_variable(job)))
        if existing is None:
            continue  # It was released just now.
        former = _owner(existing.value)
        if not is_dead(former, owner.run_id, owner.attempt, flow_run_ended=_flow_run_ended(former.run_id)):
            raise JobIsOwned(job, former.run_id, former.host_name, former.pid, former.since)
        call_api(lambda client: _delete(client, existing.id))  # noqa: B023 - called at once
        owner = replace(owner, generation=former.generation + 1)
        if document := _create(job, owner):
            return Ownership(job, owner, document)
    raise JobIsOwned(job)


def living_owner(job: str) -> Owner | None:
    """Who works on the job now; None when nobody does, or only one that is dead."""
    existing = call_api(lambda client: client.read_variable_by_name(_variable(job)))
    if existing is None:
        return None
    owner = _owner(existing.value)
    return None if is_dead(owner, "", 0, flow_run_ended=_flow_run_ended(owner.run_id)) else owner


@contextlib.contextmanager
def own_job(job: str, run_id: str, attempt: int) -> Iterator[Ownership]:
    """Own the job for the length of the block; a dead owner is taken over.

    Raises:
        JobIsOwned: a living run owns it, or another start won the race.
    """
    now = _now().isoformat()
    started_at = _started_at(os.getpid())
    owner = Owner(secrets.token_hex(16), run_id, attempt, _host(), os.getpid(), started_at, now, now)
    _alive_here.add(owner.token)
    try:
        ownership = _acquire(job, owner)
    except BaseException:
        _alive_here.discard(owner.token)
        raise
    heart = threading.Thread(target=ownership.beat, name=f"batch-owner-{job}", daemon=True)
    heart.start()
    try:
        yield ownership
    finally:
        ownership.release()
