"""Ends a pass into a files sink: one replacement of the manifest publishes all parts of the pass together.

It can be killed anywhere and done again with the same result, because each step is harmless to repeat.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefect_batch.blocks.files.writing.manifest import MANIFEST, FileEntry, Manifest, load_manifest
from prefect_batch.blocks.files.writing.part_writer import PartFormat
from prefect_batch.blocks.files.writing.staging import STAGING, Note, Staging, in_order
from prefect_batch.blocks.jobs import PassRef, main_job
from prefect_batch.blocks.stores.store import NewFile, Store, put

COMPACT_BYTES = 128 * 2**20
_COPY_BYTES = 2**20
_PART = re.compile(r"part-\d{6,}-[0-9a-f]+-\d{5,}(\.[a-z]+)+")


def is_part(name: str) -> bool:
    """Return whether this is the name of a file that a pass has published."""
    return _PART.fullmatch(name) is not None


def publish(store: Store, pass_: PassRef, part_format: PartFormat, now: str, compact_bytes: int | None) -> None:
    """Publish the parts of this complete pass in the order of the source, and write the manifest.

    They replace the parts of earlier passes, or are added to them if the pass adds. With `compact_bytes`, small parts
    that follow one another are joined into files of about that size.

    Raises:
        BadSink: a part is missing.
    """
    manifest = load_manifest(store)
    if manifest is None or pass_.id not in {manifest.pass_id, *(file.pass_id for file in manifest.files)}:
        staging = Staging(store, pass_)
        staging.check()
        notes = in_order([note for note in staging.notes().values() if note.counts], pass_, store.place)
        former = manifest.files if manifest and pass_.adds else ()
        target = _Target(store, pass_, part_format, staging)
        files = (*former, *target.place([note for note in notes if note.name], compact_bytes or 0))
        job = main_job(pass_.job)
        manifest = Manifest(job, pass_.number, pass_.id, now, part_format.name, staging.schema(), files)
        put(store, staging.path(MANIFEST), manifest.encode())
        store.move(staging.path(MANIFEST), MANIFEST)
    clean(store, manifest)


def clean(store: Store, manifest: Manifest | None) -> None:
    """Remove the parts that the manifest does not name, and what unfinished passes have written."""
    named = {file.name for file in manifest.files} if manifest else set()
    names = store.names()
    store.remove([name for name in names if is_part(name) and name not in named])
    for name in names:
        if name.startswith(STAGING) and name.endswith("/"):
            store.remove_directory(name.rstrip("/"))


@dataclass(frozen=True)
class _Target:
    """Where the parts of a pass are published, and how they are joined."""

    store: Store
    pass_: PassRef
    part_format: PartFormat
    staging: Staging

    def place(self, notes: Sequence[Note], compact_bytes: int) -> list[FileEntry]:
        """Give the parts their final names, joined into files of about `compact_bytes`.

        Returns:
            The entries of the files.
        """
        done = self.staging.notes()
        entries = []
        for index, group in enumerate(_groups(notes, compact_bytes)):
            note = group[0]
            if len(group) > 1:
                label = f"joined-{index:05d}"
                note = done[label] if label in done else self._join(group, label)
            name = f"part-{self.pass_.number:06d}-{self.pass_.id}-{index:05d}{self.part_format.suffix}"
            assert note.name is not None
            self.store.move(self.staging.path(note.name), name)
            chunks = tuple(each.chunk for each in group)
            entries.append(FileEntry(name, note.rows, note.bytes, note.sha256, self.pass_.id, chunks))
        return entries

    def _join(self, group: Sequence[Note], label: str) -> Note:
        """Write the parts into one file.

        Returns:
            The note of that file.
        """
        name = label + self.part_format.suffix
        join = _join_parquet if self.part_format.name == "parquet" else _join_text
        schema = self.staging.schema()
        with self.store.new(self.staging.path(name)) as file:
            names = [self.staging.path(note.name) for note in group if note.name]
            join(self.store, names, file, self.part_format, schema)
        rows = sum(note.rows for note in group)
        note = Note(label, "", "", name, rows, file.bytes, file.sha256)
        self.staging.put_note(note)
        return note


def _groups(notes: Sequence[Note], compact_bytes: int) -> Iterator[list[Note]]:
    """Yield the notes in their order, in groups of at most this many bytes. A larger note is a group of its own."""
    group: list[Note] = []
    size = 0
    for note in notes:
        if group and size + note.bytes > compact_bytes:
            yield group
            group, size = [], 0
        group.append(note)
        size += note.bytes
    if group:
        yield group


def _join_parquet(
    store: Store, names: Sequence[str], file: NewFile, part_format: PartFormat, schema: pa.Schema | None
) -> None:
    writer = part_format.open(file, schema or pa.schema([]))
    for name in names:
        with store.open(name) as opened:
            part = pq.ParquetFile(opened)
            for group in range(part.num_row_groups):
                writer.write(part.read_row_group(group))
    writer.close()


def _join_text(
    store: Store, names: Sequence[str], file: NewFile, part_format: PartFormat, schema: pa.Schema | None
) -> None:
    plain = replace(part_format, codec=None)
    header = _header(plain, schema)
    with contextlib.ExitStack() as stack:
        target: Any = file
        if part_format.packed:
            target = stack.enter_context(pa.CompressedOutputStream(file, part_format.codec))
        target.write(header)
        for name in names:
            with store.open(name) as opened:
                part = pa.CompressedInputStream(opened, part_format.codec) if part_format.packed else opened
                part.read(len(header))
                while block := part.read(_COPY_BYTES):
                    target.write(block)


def _header(part_format: PartFormat, schema: pa.Schema | None) -> bytes:
    """Return the bytes that every part begins with."""
    sink = pa.BufferOutputStream()
    part_format.open(sink, schema or pa.schema([])).close()
    content: bytes = sink.getvalue().to_pybytes()
    return content
