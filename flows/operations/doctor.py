"""What would keep a run from starting: versions, the Prefect API, workers, and both ends of a job."""

import platform
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, Literal

import httpx
from packaging.version import Version
from prefect.settings import PREFECT_API_URL
from sqlalchemy import make_url

from prefect_batch.blocks.databases.known_dialects import DIALECTS
from prefect_batch.blocks.errors import ApiUnavailable, BatchError
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.blocks.prefect_api import call_api, look_up_api

OLDEST_SERVER = Version("3.9.1")
_ANSWER_SECONDS = 5.0
# An owner that gives no sign for 90 seconds counts as dead; clocks that differ by much less do no harm.
_CLOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is as it must be, and what to do where it is not."""

    subject: str
    verdict: Literal["ok", "note", "fault"]
    sentence: str

    def encode(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return dict(vars(self))

    def __str__(self) -> str:
        return f"{self.verdict:<6}{self.subject:<14}{self.sentence}"


def examine(parameters: Callable[[], dict[str, Any]] | None = None) -> Iterator[Finding]:
    """Yield what is found, a finding for each part. Nothing is changed.

    Args:
        parameters: Returns the parameters of a job whose two ends are examined as well.
    """
    yield Finding(
        "versions",
        "ok",
        f"prefect-batch {version('prefect-batch')}, Prefect {version('prefect')}, Python {platform.python_version()}",
    )
    yield from _drivers()
    answers = False
    for finding in _api():
        answers = answers or (finding.subject, finding.verdict) == ("Prefect API", "ok")
        yield finding
    if answers:
        yield _workers()
    if parameters is not None:
        yield from _job(parameters)


def _drivers() -> Iterator[Finding]:
    """Yield the databases that have no driver here. An extra has the name of its database's first URL scheme."""
    for dialect in DIALECTS:
        for name, scheme in [*dialect.schemes.items()][:1]:
            try:
                make_url(f"{scheme}://").get_dialect().import_dbapi()
            except ImportError:
                yield Finding(
                    "drivers", "note", f"none for {name}:// yet: pip install 'prefect-batch[{name}]' to use it"
                )


def _api() -> Iterator[Finding]:
    url = PREFECT_API_URL.value()
    if not url:
        yield Finding(
            "Prefect API",
            "note",
            "none is configured, so each command starts a temporary server, which takes some "
            "seconds: run `prefect server start`, and prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
        return
    try:
        answer = look_up_api(url)
        found = Version(answer.json())
    except ApiUnavailable as error:
        yield Finding("Prefect API", "fault", str(error))
        return
    shown = hide_passwords(url)
    if found < OLDEST_SERVER:
        yield Finding(
            "Prefect API", "fault", f"{shown} is Prefect {found}: update the server to {OLDEST_SERVER} or later"
        )
        return
    yield Finding("Prefect API", "ok", f"{shown} answers, Prefect {found}")
    yield from _clock(answer)


def _clock(answer: httpx.Response) -> Iterator[Finding]:
    if date := answer.headers.get("date"):
        apart = abs(time.time() - parsedate_to_datetime(date).timestamp())
        if apart > _CLOCK_SECONDS:
            yield Finding("clock", "note", f"this machine's and the server's are {apart:.0f} s apart: synchronize them")


def _workers() -> Finding:
    from prefect.client.schemas.objects import WorkerStatus

    pools = call_api(lambda client: client.read_work_pools(), patience_seconds=_ANSWER_SECONDS)
    online = {
        pool.name: sum(
            worker.status == WorkerStatus.ONLINE
            for worker in call_api(lambda client, name=pool.name: client.read_workers_for_work_pool(name))  # type: ignore[misc]
        )
        for pool in pools
    }
    if not any(online.values()):
        return Finding("workers", "note", "none is online; only deployments need one: prefect worker start --pool NAME")
    return Finding("workers", "ok", ", ".join(f"{count} online in {name}" for name, count in online.items() if count))


def _job(parameters: Callable[[], dict[str, Any]]) -> Iterator[Finding]:
    """Yield what a run of this job would be refused for, part by part."""
    from prefect_batch.blocks.letters.place import check_place, full_place, open_place
    from prefect_batch.blocks.opening import open_sink, open_source
    from prefect_batch.flows.run.health_watch import try_checks
    from prefect_batch.flows.run.parameters import Parameters
    from prefect_batch.flows.run.run_job import default_place

    try:
        found = Parameters.of(**parameters())
    except (BatchError, ValueError) as error:
        yield Finding("job", "fault", str(error))
        return
    what = found.what
    yield Finding("job", "ok", f"{what.job}, with the function {what.processor.name}")
    source, sink = open_source(what.source), open_sink(what.sink)
    place = full_place(what.dead_letters or default_place())

    def both() -> list[str]:
        return sink.check(source.schema)

    def letters() -> list[str]:
        check_place(open_place(place), what.job)
        return []

    def health() -> list[str]:
        try_checks(found.run.health or ())
        return []

    parts: list[tuple[str, str, Callable[[], list[str]]]] = [
        ("source", source.name, source.check),
        ("sink", sink.name, both),
        ("dead letters", place, letters),
    ]
    if found.run.health:
        parts.append(("health", f"{len(found.run.health)} checks", health))
    for subject, name, check in parts:
        yield from _tried(subject, name, check)


def _tried(subject: str, name: str, check: Callable[[], list[str]]) -> Iterator[Finding]:
    try:
        warnings = check()
    except Exception as error:  # noqa: BLE001 - drivers have errors of their own, and each is an answer
        yield Finding(subject, "fault", hide_passwords(re.sub(r"\s+", " ", str(error))) or type(error).__name__)
        return
    yield Finding(subject, "ok", name)
    for warning in warnings:
        yield Finding(subject, "note", warning)
