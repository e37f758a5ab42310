"""The part of one chunk: written under a temporary name, and given its own name by `commit`."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadSink, ChunkIsDone
from prefect_batch.blocks.files.writing.fit_schema import fit_records, fit_table
from prefect_batch.blocks.files.writing.part_writer import PartFormat, PartWriter, written_schema
from prefect_batch.blocks.files.writing.staging import Note, Staging
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.stores.store import NewFile, Store, drop


class PartTransaction:
    """Writes one chunk's part, of which nothing remains without `commit`.

    `proposed` is the schema to use if none is fixed.
    """

    def __init__(
        self, store: Store, staging: Staging, part_format: PartFormat, proposed: pa.Schema | None, chunk: ChunkRange
    ) -> None:
        self._store, self._staging, self._format = store, staging, part_format
        self._proposed, self._chunk = proposed, chunk
        self._stack = contextlib.ExitStack()
        self._file: NewFile | None = None
        self._writer: PartWriter | None = None
        self._rows = 0
        self._torn = False
        self._result: dict[str, Any] | None = None
        # Of two attempts at once each has its own part, and one of them is named by the note.
        self._name = f"{chunk.digest}-{secrets.token_hex(4)}{part_format.suffix}"

    def write(self, records: list[Record]) -> None:
        """Write all of these records, or raise an error.

        Raises:
            RecordError: a record cannot be written as it is.
            OSError: the store cannot be written.
        """
        if records:
            schema = self._staging.schema()
            if schema is None:
                if self._proposed is None:
                    raise BadSink("the schema of the files is not known: `prepare` comes before the first record")
                schema = self._staging.fix_schema(self._proposed)
            self._append(fit_records(records, schema))

    def write_table(self, table: pa.Table) -> None:
        """Write all of these rows, or raise an error as in `write`."""
        if table.num_rows:
            schema = self._staging.schema()
            if schema is None:
                proposed = written_schema(table.schema)
                self._format.check(proposed)
                schema = self._staging.fix_schema(proposed)
            self._append(fit_table(table, schema))

    def _append(self, table: pa.Table) -> None:
        self._format.check_values(table)
        if self._writer is None:
            self._file = self._stack.enter_context(self._store.new(self._staging.path(self._name)))
            self._writer = self._format.open(self._file, table.schema)
        self._torn = True
        self._writer.write(table)
        self._torn = False
        self._rows += table.num_rows

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo nothing, because what does not fit is refused before any of it is written.

        Raises:
            BadSink: some of it was written.
        """
        try:
            yield
        except Exception as error:
            if self._torn and not isinstance(error, OSError):
                raise BadSink(f"the part {self._name} cannot be continued after an error: {error}") from error
            raise

    def find(self) -> dict[str, Any] | None:
        """Return the result of an earlier attempt of the chunk.

        Returns:
            None if no earlier attempt was committed.
        """
        note = self._staging.note(self._chunk)
        return None if note is None else note.result

    def record(self, result: dict[str, Any]) -> None:
        """Keep the chunk's result, which `commit` writes into its note."""
        self._result = result

    def commit(self) -> None:
        """Give the part its own name, and write the chunk's note, which makes it count.

        Raises:
            ChunkIsDone: the chunk has a note, of another run or of its split.
        """
        note = Note.of(self._chunk, self._result)
        if self._writer is not None and self._file is not None:
            self._writer.close()
            self._writer = None
            self._stack.close()
            file = self._file
            note = replace(note, name=self._name, rows=self._rows, bytes=file.bytes, sha256=file.sha256)
        if not self._staging.put_first_note(note):
            self._store.remove([self._staging.path(self._name)])
            raise ChunkIsDone("another run has committed this chunk just now, or it was split")

    def roll_back(self) -> None:
        """Discard the part, unless it was committed."""
        if self._writer is not None:
            # Else garbage collection would close it, when its file is gone.
            with contextlib.suppress(Exception):
                self._writer.close()
            drop(self._stack)
