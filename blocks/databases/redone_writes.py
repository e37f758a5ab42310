"""The way back for a database without savepoints: a transaction that is begun again, and its writes repeated."""

import contextlib
from collections.abc import Callable, Iterator

from prefect_batch.blocks.errors import BadSink

Write = Callable[[], None]


class RedoneWrites:
    """The writes of a chunk's transaction, kept until its end, so that they can be repeated after an error.

    What a record is refused for is found in the same state of the table as with savepoints. It costs the memory of a
    chunk's rows, and for each refused attempt the time to write the rows before it once more.
    """

    def __init__(self, begin_again: Callable[[], None]) -> None:
        self._begin_again = begin_again
        self._done: list[Write] = []
        self._tried: list[Write] = []

    def do(self, write: Write) -> None:
        """Write, and keep the write."""
        write()
        self._tried.append(write)

    @contextlib.contextmanager
    def block(self, is_over: Callable[[BaseException], bool]) -> Iterator[None]:
        """Undo what was written in the block, and only that, if the block raises.

        Raises:
            BadSink: What was written before it cannot be written again.
        """
        self._tried = []
        try:
            yield
        except BaseException as error:
            if not is_over(error):
                self._redo()
            raise
        self._done += self._tried

    def _redo(self) -> None:
        self._begin_again()
        try:
            for write in self._done:
                write()
        except Exception as error:
            raise BadSink(
                f"rows of the chunk that were written before one was refused cannot be written again: {error}; does "
                "another program write to the table?"
            ) from error
