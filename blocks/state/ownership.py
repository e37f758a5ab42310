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

HEARTBEAT_SECONDS = 20.0
LEASE = timedelta(seconds=90)

# The living owners in this process. The pid alone cannot distinguish them from one that crashed.
_alive_here: set[str] = set()


@dataclass(frozen=True)
class Owner:
    """The run that works on a job.

    Attributes:
        attempt: The number of starts of this flow run.
        started_at: The start of the process `pid` on `host`, as `_started_at` returns it.
        generation: Counted from 1, and one more for each dead owner that was taken over.
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
    """Return a name of this host that differs where process ids do: two containers may have the same hostname."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _started_at(pid: int) -> float:
    """Return when this process started: in seconds since the boot on Linux, elsewhere since 1970.

    The former does not move when the clock is set, which would make a living owner look like another process.

    Raises:
        psutil.NoSuchProcess: there is no such process.
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
    """Return whether the owner can no longer be running, as far as this process can know."""
    if owner.host == _host():
        try:
            same = abs(_started_at(owner.pid) - owner.started_at) < 1
            zombie = same and psutil.Process(owner.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        return not same or zombie or (owner.pid == os.getpid() and owner.token not in _alive_here)
    if owner.run_id == run_id and owner.attempt < attempt:
        return True  # Prefect itself restarted this flow run.
    return flow_run_ended or _now() - datetime.fromisoformat(owner.heartbeat) > LEASE


class Ownership:
    """The right of one run to work on a job, kept alive by a heartbeat in its own thread."""

    def __init__(self, job: str, owner: Owner, document: UUID) -> None:
        self.job = job
        self.owner = owner
        self._document = document
        self._ended = threading.Event()

    def check(self) -> None:
        """Raise LostOwnership unless this run still owns the job."""
        owner = call_api(lambda client: _read(client, self._document))
        if owner is None or owner.token != self.owner.token:
            raise LostOwnership(self.job)

    def beat(self) -> None:
        """Renew the heartbeat until released. If the server is unavailable, the next beat tries again."""
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self.owner = replace(self.owner, heartbeat=_now().isoformat())
            with contextlib.suppress(httpx.HTTPError, ObjectNotFound):
                call_api(self._renew, patience_seconds=0)

    def _renew(self, client: SyncPrefectClient) -> None:
        client.request(
            "PATCH", "/variables/{id}", path_params={"id": self._document}, json={"value": asdict(self.owner)}
        )

    def release(self) -> None:
        """Release the job. If the server is unavailable, the next run sees that this process is dead."""
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
    """Create the owner's Variable, safe to repeat because it reads back and compares.

    Returns:
        The id of the Variable, or None if there is one already.
    """

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
            continue  # It has just been released.
        former = _owner(existing.value)
        if not is_dead(former, owner.run_id, owner.attempt, flow_run_ended=_flow_run_ended(former.run_id)):
            raise JobIsOwned(job, former.run_id, former.host_name, former.pid, former.since)
        call_api(lambda client: _delete(client, existing.id))  # noqa: B023 - called at once
        owner = replace(owner, generation=former.generation + 1)
        if document := _create(job, owner):
            return Ownership(job, owner, document)
    raise JobIsOwned(job)


def last_owner(job: str) -> tuple[Owner, bool] | None:
    """Return the latest owner that did not release the job, and whether it still runs it. None if there is none."""
    existing = call_api(lambda client: client.read_variable_by_name(_variable(job)))
    if existing is None:
        return None
    owner = _owner(existing.value)
    return owner, not is_dead(owner, "", 0, flow_run_ended=_flow_run_ended(owner.run_id))


def living_owner(job: str) -> Owner | None:
    """Return the owner that runs the job now.

    Returns:
        None if there is none, or only a dead one.
    """
    owner, lives = last_owner(job) or (None, False)
    return owner if lives else None


@contextlib.contextmanager
def own_job(job: str, run_id: str, attempt: int) -> Iterator[Ownership]:
    """Own the job for the length of the block, taking it over from a dead owner.

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
