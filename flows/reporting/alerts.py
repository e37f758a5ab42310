"""Alerts, sent through Prefect's notification blocks when a run ends badly. A failed alert changes nothing."""

import asyncio
import inspect
import threading
from collections.abc import Sequence
from typing import Any

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.passwords import hide_passwords

# A hook that waits for a service which is down would keep the run's process alive.
PATIENCE_SECONDS = 30.0


def check_alerts(slugs: Sequence[str]) -> None:
    """Raise BadParameter unless each of these names a notification block that can be loaded."""
    for slug in slugs:
        block = _load(slug)
        if not isinstance(block, NotificationBlock):
            raise BadParameter(
                f"alert={slug!r} is a {type(block).__name__}, which cannot notify; name a notification block, such as "
                "slack-webhook/data-team"
            )


def _load(slug: str) -> Any:
    try:
        return Block.load(slug, _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        raise BadParameter(
            f"alert={slug!r}: there is no such block; create it in Prefect, or correct the name: TYPE/NAME, such as "
            "slack-webhook/data-team"
        ) from error
    except Exception as error:
        # Prefect's errors on a block of an unknown type have no common base.
        raise BadParameter(
            f"alert={slug!r} cannot be loaded: {error}; is the package installed that defines this block?"
        ) from error


def send_alerts(slugs: Sequence[str], subject: str, body: str, log: Any) -> None:
    """Send the alert through these blocks. Blocks that fail, or do not answer soon, are named in the log."""
    for slug in slugs:
        sending = _Sending(slug, subject, body)
        sending.start()
        sending.join(PATIENCE_SECONDS)
        if sending.is_alive():
            log.error("the alert %s was not sent: no answer within %g s", slug, PATIENCE_SECONDS)
        elif sending.error is not None:
            kind = type(sending.error).__name__
            text = hide_passwords(str(sending.error) or getattr(sending.error, "log", ""))
            log.error("the alert %s was not sent: %s: %s", slug, kind, text)


class _Sending(threading.Thread):
    """One alert on its way, in a thread without an event loop: blocks notify synchronously there, or return theirs."""

    def __init__(self, slug: str, subject: str, body: str) -> None:
        super().__init__(name=f"batch-alert-{slug}", daemon=True)
        self._slug, self._subject, self._body = slug, subject, body
        self.error: BaseException | None = None

    def run(self) -> None:
        """Send it, and keep an error in `error`."""
        try:
            block = _load(self._slug)
            with block.raise_on_failure():
                sent = block.notify(self._body, self._subject)
                if inspect.isawaitable(sent):
                    asyncio.run(_await(sent))
        except BaseException as error:  # noqa: BLE001 - whatever a service or its client does, the outcome is final
            self.error = error


async def _await(sent: Any) -> None:
    await sent
