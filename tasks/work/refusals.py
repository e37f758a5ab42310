"""Whether the sink takes any of a chunk's records at all: a dead sink must not turn a source into dead letters."""

from prefect_batch.blocks.errors import RecordError, SinkRefuses
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.tasks.error_text import message_of, own_error

# So many records refused one after the other, and none taken, say enough: isolating all of them takes minutes.
ENOUGH_RECORDS = 500
MESSAGE_CHARACTERS = 300


class Refusals:
    """Counts what a sink refuses of a chunk until it takes a first record. Then the chunk is like any other."""

    def __init__(self, *, hold: bool) -> None:
        self._undecided = hold
        self._count = 0
        self._latest: BaseException | None = None

    def taken(self) -> None:
        """Take note that the sink took a record."""
        self._undecided = False

    def refused(self, error: BaseException) -> None:
        """Take note of one more record that the sink refused, with its error.

        Raises:
            SinkRefuses: these are enough, and it has taken none.
        """
        if not self._undecided:
            return
        if issubclass(type(error), RecordError):
            self._undecided = False  # The record's own fault, found before the database was asked.
            return
        self._count, self._latest = self._count + 1, error
        if self._count >= ENOUGH_RECORDS:
            self._raise()

    def end(self) -> None:
        """All records of the chunk were offered.

        Raises:
            SinkRefuses: the sink took none of them.
        """
        if self._undecided and self._count:
            self._raise()

    def _raise(self) -> None:
        assert self._latest is not None
        name = type(own_error(self._latest)).__name__
        message = " ".join(hide_passwords(message_of(self._latest)).split())[:MESSAGE_CHARACTERS]
        raise SinkRefuses(self._count, f"{name}: {message}") from self._latest
