"""Runs health checks, each in its own thread, so that one that hangs delays neither the others nor the run."""

import threading
import time
from collections.abc import Sequence
from typing import Self

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.health import look
from prefect_batch.blocks.parameters.health_check import HealthCheck
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.tasks.error_text import own_error

# A check that does not answer for this long, beyond its own interval, is itself a reason to wait.
PATIENCE_SECONDS = 30.0


class HealthWatch:
    """Looks at the checks while it is entered."""

    def __init__(self, checks: Sequence[HealthCheck]) -> None:
        self._checks = tuple(checks)
        self._reasons: list[str | None] = [None] * len(checks)
        self._answered_at = [0.0] * len(checks)
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        for place, check in enumerate(self._checks):
            self._look(place, check)
            # Not joined at the end: a check that hangs must not hold up the end of the run.
            threading.Thread(target=self._watch, args=(place, check), name=f"batch-health-{place}", daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()

    def reason(self) -> str:
        """Return why the run has to wait now, or an empty text."""
        now, found = time.monotonic(), []
        for check, reason, answered_at in zip(self._checks, self._reasons, self._answered_at, strict=True):
            if now - answered_at > PATIENCE_SECONDS + 2 * check.every_seconds:
                found.append(f"{check.name} has not answered for {now - answered_at:.0f} s")
            elif reason is not None:
                found.append(reason)
        return "; ".join(found)

    def _watch(self, place: int, check: HealthCheck) -> None:
        while not self._ended.wait(check.every_seconds):
            self._look(place, check)

    def _look(self, place: int, check: HealthCheck) -> None:
        try:
            self._reasons[place] = look(check)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows whether all is well
            self._reasons[place] = f"{check.name} cannot be read: {_said(error)}"
        self._answered_at[place] = time.monotonic()


def try_checks(checks: Sequence[HealthCheck]) -> None:
    """Raise BadParameter unless each check gives a number: a broken one would hold every run back for ever."""
    for check in checks:
        try:
            look(check)
        except Exception as error:
            if isinstance(error, BadParameter):
                raise
            raise BadParameter(f"the health check of {check.name} does not work: {_said(error)}") from error


def _said(error: Exception) -> str:
    text = hide_passwords(str(own_error(error))).strip()
    return text.splitlines()[0] if text else type(error).__name__
