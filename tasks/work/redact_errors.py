"""Redaction of columns in errors that fail a chunk and in log lines of the function."""

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.errors import LostOwnership, RemoteError, RunStopped, SinkRefuses, StopBatch
from prefect_batch.blocks.letters.redaction import Redaction, redaction_key
from prefect_batch.tasks.error_text import message_of, normalise, printed, text_of

# The batch that each thread has in hand, and what redacts it.
_in_hand = threading.local()


def open_redaction(columns: tuple[str, ...], *, dry_run: bool = False) -> Redaction | None:
    """Return what redacts these columns in errors and log lines, or None without columns."""
    if not columns:
        return None
    _watch_logs()
    return Redaction(columns, redaction_key(create=not dry_run))


def hold(redaction: Redaction | None, batch: Batch) -> None:
    """Redact what this thread logs from now on by the values of this batch."""
    if redaction is not None:
        _in_hand.held = redaction, batch


def _text(text: str) -> str:
    held = getattr(_in_hand, "held", None)
    if held is None:
        return text
    redaction, batch = held
    places = [place for place, name in enumerate(batch.names) if name in redaction.columns]
    return str(redaction.text(text, {row[place]: None for row in batch.rows for place in places if _plain(row[place])}))


def _plain(value: Any) -> bool:
    return value is not None and value.__hash__ is not None


@contextmanager
def redacted_errors(redaction: Redaction | None) -> Iterator[None]:
    """Let no error out of the block that shows a value: errors of a whole chunk may show those of any record in it."""
    if redaction is None:
        yield
        return
    try:
        yield
    except (RunStopped, LostOwnership):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, its text goes into logs and states
        raise _redacted(error) from None
    finally:
        _in_hand.held = None


def _redacted(error: Exception) -> Exception:
    # By the values where the batch is in hand; the placeholders take care of those that are not.
    if isinstance(error, StopBatch):
        return StopBatch(_text(message_of(error)))
    if isinstance(error, SinkRefuses):
        return SinkRefuses(error.records, normalise(_text(error.error)))
    name, message, _ = text_of(error)
    if isinstance(error, RemoteError):
        name, message = error.kind, error.message
    message, frames = normalise(_text(message)), printed(traceback.format_tb, error.__traceback__)
    return RemoteError(name, message, f"{frames}{name}: {message}", blame_of(error))


def _watch_logs() -> None:
    """Redact the log lines that a user's function writes in a thread with a batch in hand, wherever they go."""
    former: Callable[..., logging.LogRecord] = logging.getLogRecordFactory()
    if getattr(former, "redacts", False):
        return

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = former(*args, **kwargs)
        if getattr(_in_hand, "held", None) is not None:
            record.msg, record.args = _text(record.getMessage()), ()
            if record.exc_info and record.exc_info[0] is not None:
                record.exc_text = _text(printed(traceback.format_exception, *record.exc_info))
                record.exc_info = None
        return record

    make.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)
