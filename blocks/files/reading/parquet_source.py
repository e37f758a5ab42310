"""Parquet as a source: ranges of rows within row groups."""

import functools
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefect_batch.blocks.batches import BATCH_BYTES, Batch, FileBatch
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadParameter, BadSource
from prefect_batch.blocks.file_list import File, FileList, Portion, portions
from prefect_batch.blocks.files.reading.file_system import FileSystem
from prefect_batch.blocks.files.reading.hive import directory_column, directory_columns, directory_values
from prefect_batch.blocks.files.reading.parquet_rows import readable_rows, unreadable_cells, unreadable_records
from prefect_batch.blocks.files.reading.parquet_schema import compared, read_columns, without_metadata
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.parameters.files import Files

# With more files than this, the number of rows is estimated from a sample and from the files' sizes.
COUNTED_FILES = 100
FIND_ROWS = 10_000
SHOWN_GROUPS = 10
# A chunk that is this full at the end of a row group ends there, because a row group is decoded from its top.
ENOUGH = 0.75
# The first rows of a row group, which show how wide rows are.
TRIED_ROWS = 16


class ParquetSource:
    """The records of Parquet files, file after file.

    The key is the file, the row group and the row in it, both counted from 0.
    """

    key: tuple[str, ...] = ("file", "row_group", "row")
    one_thread = False

    def __init__(self, spec: Files, files: FileList | None = None) -> None:
        self.spec = spec
        self.name = f"the files {spec.path}"
        self.connections: tuple[str, ...] = (spec.storage,) if spec.storage else ()
        self.system = FileSystem(spec)
        self._given = files
        # For each thread its own: two that read one file through its buffer disturb each other.
        self._of_thread = threading.local()
        self._counts: dict[str, list[int]] = {}

    @property
    def only_here(self) -> bool:
        """Whether the files are in this process's memory."""
        return self.system.only_here

    @cached_property
    def files(self) -> FileList:
        """The files of the pass, or those that exist now if none were given."""
        return FileList(self.system.list()) if self._given is None else self._given

    def _open(self, file: File) -> pq.ParquetFile:
        if not hasattr(self._of_thread, "open"):
            self._of_thread.open = functools.lru_cache(4)(self._opened)
        found: pq.ParquetFile = self._of_thread.open(file)
        return found

    def _opened(self, file: File) -> pq.ParquetFile:
        try:
            # For a remote file, the columns are fetched together.
            return pq.ParquetFile(
                self.system.open(file.name), pre_buffer=not self.system.local, page_checksum_verification=True
            )
        except FileNotFoundError:
            self.system.check(file)
            raise
        except PermissionError as error:
            raise BadSource(f"the file {file.name} may not be read: {error.strerror}") from error
        except (pa.ArrowException, OSError) as error:
            raise BadSource(f"{file.name} cannot be read as Parquet: {error}") from error

    def _rows(self, file: File) -> list[int]:
        """Return the number of rows in each row group.

        Raises:
            BadSource: the footer contradicts itself.
        """
        if file.name not in self._counts:
            metadata = self._open(file).metadata
            counts = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
                raise BadSource(
                    f"{file.name} is damaged: its footer names {metadata.num_rows:,} rows, and row groups of "
                    f"{', '.join(map(str, counts[:SHOWN_GROUPS]))}{' …' if len(counts) > SHOWN_GROUPS else ''} rows. "
                    "Write it again",
                    file.name,
                )
            self._counts[file.name] = counts
        return self._counts[file.name]

    def with_files(self, files: FileList) -> "ParquetSource":
        """Return the same source over these files."""
        return ParquetSource(self.spec, files)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of a record's columns, in order."""
        return tuple(self.schema.names)

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema in which all files of the pass can be read, or that of the first file that exists now.

        Raises:
            BadSource: two files of the pass have other columns, or types that no type holds exactly.
        """
        if self._given is not None and self._given.schema is not None:
            return pa.ipc.read_schema(pa.py_buffer(self._given.schema))
        # If the pass has no files, the schema of those that exist now.
        known = self.files.files or self.system.list()
        if not known:
            return pa.schema([])
        there = known[:1] if self._given is None else known
        schemas = self.system.each(self._schema_of, there)
        names = [file.name for file in there]
        found = compared(zip(names, schemas, strict=True), exactly=self.spec.columns is None)
        if self._given is not None:
            self._given.schema = found.serialize().to_pybytes()
        return found

    def _schema_of(self, file: File) -> pa.Schema:
        """Return the columns of the file that are read, with those that its directories give."""
        found = without_metadata(self._open(file).schema_arrow)
        for field in self._directories:
            if field.name not in found.names:
                found = found.append(field)
        return read_columns(found, self.spec.columns, file.name)

    @cached_property
    def _directories(self) -> pa.Schema:
        return directory_columns(file.name for file in self.files.files or self.system.list())

    def check(self) -> list[str]:
        """Return warnings about the files.

        Raises:
            BadSource: the files do not exist, or lack a column that was asked for.
        """
        _ = self.schema
        return [] if self.files.files else [f"{self.name} are none: there is nothing to do"]

    def last_key(self, after: Key | None = None) -> Key | None:
        """Return the key of the last row of the last file that has rows.

        Returns:
            None if that is `after`, or if no file has rows.
        """
        for file in reversed(self.files.files):
            filled = [(group, count) for group, count in enumerate(self._rows(file)) if count]
            if filled:
                group, count = filled[-1]
                last = (file.name, group, count - 1)
                return None if last == after else last
        return None

    def back(self, upto: Key, rows: int) -> Key | None:  # noqa: ARG002 - what every source has
        """Raise BadParameter, because an overlap is possible only for tables.

        Raises:
            BadParameter: always.
        """
        raise BadParameter(f"overlap={rows} is for the keys of tables: an incremental pass reads new files whole")

    def edges(self, after: Key | None, upto: Key, rows: int, most: int) -> list[Key]:
        """Return at most `most` keys in ``(after, upto]`` at which chunks end.

        Each is `rows` rows after the one before, or at the end of a row group.
        """
        found: list[Key] = []
        while len(found) < most and after != upto:
            after = self._edge(after, upto, rows)
            found.append(after)
        return found

    def _edge(self, after: Key | None, upto: Key, rows: int) -> Key:
        left, boundary = rows, None
        for file, group, first, stop in self._groups(after, upto):
            if stop - first > left:
                near = boundary is not None and left <= (1 - ENOUGH) * rows
                return boundary if near and boundary is not None else (file.name, group, first + left - 1)
            left -= stop - first
            boundary = (file.name, group, stop - 1)
            if not left or boundary == upto:
                return boundary
        return upto

    def _groups(self, after: Key | None, upto: Key) -> Iterator[tuple[File, int, int, int]]:
        """Yield the row groups of the range, each with its rows that are in the range, as ``[first, stop)``."""
        for portion in portions(self.files, after, upto):
            for group, count in enumerate(self._rows(portion.file)):
                first, stop = _within(portion, group, count)
                if first < stop:
                    yield portion.file, group, first, stop

    def estimate(self, after: Key | None, upto: Key) -> int:
        """Return how many rows are in ``(after, upto]``, or an estimate if there are very many files."""
        parts = list(portions(self.files, after, upto))
        some = parts if len(parts) <= COUNTED_FILES else parts[:: len(parts) // COUNTED_FILES]
        counted = sum(
            max(0, stop - first)
            for portion in some
            for first, stop in (_within(portion, *group) for group in enumerate(self._rows(portion.file)))
        )
        sizes = [sum(portion.file.size for portion in chosen) for chosen in (parts, some)]
        return counted if len(some) == len(parts) else round(counted * sizes[0] / max(1, sizes[1]))

    def key_of(self, row: tuple[Any, ...]) -> Key:
        """Return the key of a row in a batch of `read`."""
        return row[-3:]

    def read(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the records of the range in key order, in batches of at most `batch_rows`.

        Raises:
            DefinitionChanged: a file has changed since the pass began.
            BadSource: a file has other columns than the first, or is damaged.
        """
        checked: File | None = None
        for file, group, first, stop in self._groups(chunk.after, chunk.upto):
            if checked != file:
                self.system.check(file)
                checked = file
            for start, table in self._tables(file, group, first, stop, batch_rows):
                yield self._batch(table, file, group, start)

    def _batch(self, table: pa.Table, file: File, group: int, start: int) -> FileBatch:
        """Return the rows of a row group from `start` on, with those that cannot be read apart."""

        def key_of_row(index: int) -> Key:
            return (file.name, group, start + index)

        row_bytes = max(1, table.nbytes // table.num_rows)
        bad = unreadable_cells(table)
        if not bad:
            return FileBatch(self.names, row_bytes=row_bytes, table=table, key_at=key_of_row)
        rows = readable_rows(table, bad)
        return FileBatch(
            self.names,
            row_bytes=row_bytes,
            table=table.take(pa.array(rows)),
            key_at=lambda index: key_of_row(int(rows[index])),
            unreadable=unreadable_records(table, bad, key_of_row),
        )

    def find(self, keys: Sequence[Key]) -> Iterator[Batch]:
        """Yield the rows that have these keys, each followed by its key. Rows that no longer exist are left out."""
        known = {file.name: file for file in self.files.files}
        for name, group in sorted({key[:2] for key in keys}):
            if name not in known or group >= len(self._rows(known[name])):
                continue
            wanted = {key[2] for key in keys if key[:2] == (name, group)}
            stop = min(max(wanted) + 1, self._rows(known[name])[group])
            for start, table in self._tables(known[name], group, min(wanted), stop, FIND_ROWS):
                for row in sorted(wanted & set(range(start, start + table.num_rows))):
                    one = self._batch(table.slice(row - start, 1), known[name], group, row)
                    found = Batch(self.names, [one.row(0)] if len(one) else [])
                    found.unreadable = one.unreadable
                    yield found

    def read_tables(self, chunk: ChunkRange, batch_rows: int) -> Iterator[Batch]:
        """Yield the same as `read`, which yields tables anyway."""
        return self.read(chunk, batch_rows)

    def _with_directories(self, table: pa.Table, file: File) -> pa.Table:
        """Return the table with the columns that the file's directories give."""
        for name, text in directory_values(file.name).items():
            if name in self.schema.names and name not in table.column_names:
                column = directory_column(text, self._directories.field(name).type, table.num_rows)
                table = table.append_column(name, column)
        return table

    def _tables(self, file: File, group: int, first: int, stop: int, rows: int) -> Iterator[tuple[int, pa.Table]]:
        """Yield these rows of the row group as tables, each with the number of its first row."""
        opened = self._open(file)
        schema = self.schema
        both = [("the first file", schema), (file.name, self._schema_of(file))]
        read_as = compared(both, exactly=self.spec.columns is None)
        own = [name for name in schema.names if name in opened.schema_arrow.names]
        at = 0
        try:
            rows = self._narrowed(opened, group, rows)
            for batch in opened.iter_batches(rows, row_groups=[group], columns=own, use_threads=False):
                begin, end = max(first - at, 0), min(stop - at, batch.num_rows)
                if begin < end:
                    table = pa.Table.from_batches([batch.slice(begin, end - begin)])
                    yield at + begin, self._with_directories(table, file).select(schema.names).cast(read_as)
                at += batch.num_rows
                if at >= stop:
                    return
        except (pa.ArrowException, OSError) as error:
            way_out = "If the file is damaged, write it again, or leave it out"
            raise BadSource(
                f"row group {group} of {file.name} cannot be read: {error}. {way_out}", file.name
            ) from error
        raise BadSource(
            f"row group {group} of {file.name} ends after {at:,} rows, and the footer says that it has "
            f"{self._rows(file)[group]:,}: the file is damaged. Write it again, or leave it out",
            file.name,
        )

    def _narrowed(self, opened: pq.ParquetFile, group: int, rows: int) -> int:
        """Return how many rows to decode at once, at most `rows`, and fewer if they are wide.

        The footer does not show how wide values are that a dictionary holds once.
        """
        if rows <= TRIED_ROWS or not any(map(_has_any_width, self.schema.types)):
            return rows
        some = opened.iter_batches(TRIED_ROWS, row_groups=[group], columns=self.schema.names, use_threads=False)
        first = next(some, None)
        whole = opened.metadata.row_group(group)
        widths = [whole.total_byte_size // max(1, whole.num_rows)]
        widths += [first.nbytes // first.num_rows] if first is not None and first.num_rows else []
        fitting = BATCH_BYTES // max(1, *map(int, widths))
        return max(1, min(rows, fitting))


def _has_any_width(arrow: pa.DataType) -> bool:
    """Return whether one value may take more than a kilobyte."""
    try:
        return bool(arrow.bit_width > 8 * 1024)
    except ValueError:  # Text, bytes, lists and the like have no width.
        return True


def _within(portion: Portion, group: int, count: int) -> tuple[int, int]:
    """Return which rows of a row group are in the portion, as ``[first, stop)``."""
    first, stop = 0, count
    if portion.after is not None:
        first = 0 if group > portion.after[1] else portion.after[2] + 1 if group == portion.after[1] else count
    if portion.upto is not None:
        stop = count if group < portion.upto[1] else portion.upto[2] + 1 if group == portion.upto[1] else 0
    return first, min(stop, count)
