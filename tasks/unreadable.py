"""The dead letters of records that could not even be read."""

from datetime import datetime, timezone

from prefect_batch.blocks.errors import UnreadableRecord
from prefect_batch.blocks.letters.record_json import LINE, RAW
from prefect_batch.blocks.values import DeadLetter, Unreadable
from prefect_batch.tasks.error_text import trace_text

__all__ = ["letter_of"]


def letter_of(record: Unreadable) -> DeadLetter:
    """The letter of a record that could not be read, with its bytes, and with its line if that is known."""
    place = f"byte {record.key[1]:,}" if record.line is None else f"line {record.line:,}"
    error = UnreadableRecord(f"{place} of {record.key[0]}: {record.reason}")
    return DeadLetter(
        key=record.key,
        stage="read",
        error_type=f"{type(error).__module__}.{type(error).__qualname__}",
        error_message=str(error),
        traceback=trace_text(error, None),
        attempts=1,
        failed_at=datetime.now(timezone.utc),
        record={RAW: record.raw, LINE: record.line},
    )
