"""A directory of files as a sink: one part per chunk, staged until its pass is complete."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.credentials import storage_options
from prefect_batch.blocks.errors import BadParameter, BadSink
from prefect_batch.blocks.files.reading.parquet_source import ParquetSource
from prefect_batch.blocks.files.reading.text_source import TextSource
from prefect_batch.blocks.files.writing.key_set import FileKeys, read_file_keys
from prefect_batch.blocks.files.writing.manifest import Manifest, load_manifest
from prefect_batch.blocks.files.writing.part_writer import PartFormat, written_schema
from prefect_batch.blocks.files.writing.publish import COMPACT_BYTES, clean, is_part, publish
from prefect_batch.blocks.files.writing.staging import Staging, passes
from prefect_batch.blocks.files.writing.transaction import PartTransaction
from prefect_batch.blocks.jobs import PassRef, main_job, of_replay
from prefect_batch.blocks.kinds.names import schema_of
from prefect_batch.blocks.kinds.of_values import schema_of_records
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.stores.opening import open_store
from prefect_batch.blocks.stores.store import Store, local_path, put

if TYPE_CHECKING:
    from prefect_batch.blocks.capabilities import InPlace

# The codecs of Parquet. The default is zstd.
CODECS = ("zstd", "snappy", "gzip", "lz4", "brotli", "none")


def open_files_sink(spec: Files) -> "FilesSink":
    """Return the sink that these parameters describe.

    Raises:
        BadParameter: an option does not go with a sink.
    """
    _check_written(spec)
    assert spec.format is not None
    codec = None if spec.compression == "none" and spec.format != "parquet" else spec.compression
    part_format = PartFormat(spec.format, spec.delimiter_of(spec.path), spec.header, codec)
    schema = schema_of(spec.schema) if spec.schema else None
    connections = () if spec.storage is None else (spec.storage,)
    store = open_store(spec.path, storage_options(spec.storage))
    return FilesSink(store, part_format, schema, COMPACT_BYTES if spec.compact else None, connections, spec)


def _check_written(spec: Files) -> None:
    if any(mark in spec.path for mark in "*?["):
        raise BadParameter(f"path={spec.path!r} names many files; a sink is one directory")
    if spec.format == "parquet" and spec.compression not in (None, *CODECS):
        raise BadParameter(f"compression={spec.compression!r} does not go with Parquet: {', '.join(CODECS)}")
    written = {"encoding": "utf-8", "quote": '"', "escape": None, "names": None, "columns": None}
    for name, value in written.items():
        if getattr(spec, name) != value:
            raise BadParameter(f"{name}={getattr(spec, name)!r} goes with a source; a sink is written with {value!r}")


class FilesSink:
    """A sink that writes files to a directory. What a pass writes counts when the pass is complete.

    `schema` is the schema of every file, or None if the first records decide. With `compact_bytes`, the parts of a
    pass are joined at its end into files of about that size. By `spec` the files are read again.
    """

    # The chunks' notes are its ledger. A chunk that is repeated without a note replaces its own part.
    needs_ledger = True
    held_rows = 0
    one_thread = False

    def __init__(
        self,
        store: Store,
        part_format: PartFormat,
        schema: pa.Schema | None = None,
        compact_bytes: int | None = None,
        connections: tuple[str, ...] = (),
        spec: Files | None = None,
    ) -> None:
        self._spec = spec
        self.name = f"the files in {store.place}"
        self._store, self._format, self._compact_bytes = store, part_format, compact_bytes
        self._given = schema
        self.connections = connections
        self._proposed: pa.Schema | None = None
        self._staging: dict[str, Staging] = {}
        self._lock = threading.Lock()
        self.in_place: InPlace = "no"

    def meet(self, source: Source) -> None:
        """Raise BadSink if the source reads files in this directory, which the end of a pass replaces."""
        if not isinstance(source, (ParquetSource, TextSource)):
            return
        system = source.system if isinstance(source, ParquetSource) else source.texts.system
        directory = local_path(self._store.place)
        if system.local != (directory is not None):
            return
        here = str(directory.resolve()) if directory else self._store.place.partition("://")[2].strip("/")
        for path in map(system.path_of, (file.name for file in source.files.files)):
            if (str(Path(path).resolve()) if directory else path.strip("/")).startswith(f"{here}/"):
                raise BadSink(
                    f"{self.name} are read by the source, too ({path}), and a pass that is repeated would read what it "
                    "has written: write to a directory outside of the source's",
                    self._store.place,
                )

    @property
    def only_here(self) -> bool:
        """Whether the files are in the memory of this process."""
        return self._store.only_here

    @property
    def fills(self) -> Path | None:
        """The directory, or None if it is not on this machine."""
        return local_path(self._store.place)

    def check(self, source_schema: pa.Schema, *, dry_run: bool = False) -> list[str]:
        """Return warnings about the sink, of which there are none.

        Raises:
            BadSink: it cannot be written, or contains files that no pass has written.
        """
        del source_schema  # Only the processor decides what the records will be.
        if self._given is not None:
            self._format.check(self._given)
        try:
            manifest, names = load_manifest(self._store), self._store.names()
            if not dry_run:
                put(self._store, "_probe", b"probe")
                self._store.remove(["_probe"])
        except OSError as error:
            raise BadSink(f"{self.name} cannot be written: {error.strerror or error}") from error
        suffix = self._format.suffix
        foreign = [name for name in names if name.endswith(suffix) and not is_part(name)] if manifest is None else []
        if foreign:
            raise BadSink(
                f"{self._store.place} holds {foreign[0]}, which no pass has written, and readers would take it for a "
                "part: name an empty directory"
            )
        return []

    def begin_pass(self, pass_: PassRef) -> None:
        """Remove what unfinished passes have left, and create the staging directory of this pass.

        If the pass adds, what an unfinished replay has committed is published first, because its letters count as
        resolved.

        Raises:
            BadSink: the directory belongs to another job, or the pass cannot be added to what is there.
        """
        manifest, unfinished = load_manifest(self._store), passes(self._store)
        self._check_owner(pass_, manifest, unfinished)
        for replay in unfinished:
            if pass_.adds and of_replay(replay.job) and replay.id != pass_.id:
                self.end_pass(replay)
        manifest = load_manifest(self._store)
        clean(self._store, manifest)
        staging = Staging(self._store, pass_)
        staging.begin()
        if schema := self._schema_of(pass_, manifest):
            staging.fix_schema(schema)

    def _check_owner(self, pass_: PassRef, manifest: Manifest | None, unfinished: list[PassRef]) -> None:
        job = main_job(pass_.job)
        owners = {manifest.job} if manifest else set()
        if others := (owners | {main_job(each.job) for each in unfinished}) - {job}:
            raise BadSink(f"{self._store.place} holds the files of job {min(others)}: name another directory")
        if of_replay(pass_.job) and any(each.job == job for each in unfinished):
            raise BadSink(
                f"{job} has a pass into {self._store.place} that is not complete: complete it, and then replay "
                "its letters"
            )

    def _schema_of(self, pass_: PassRef, manifest: Manifest | None) -> pa.Schema | None:
        """Return the schema that a pass must have, if it is known before its first record."""
        if not pass_.adds:
            return self._given
        if manifest is None:
            raise BadSink(
                f"{self._store.place} has no manifest of the pass that pass {pass_.number} goes on from: start from "
                "the beginning with restart=True"
            )
        schema = manifest.schema or self._given
        if manifest.format != self._format.name or (self._given is not None and schema != self._given):
            raise BadSink(
                f"{self._store.place} holds {manifest.format} with the columns {manifest.columns}; an incremental pass "
                "must add the same: start from the beginning with restart=True"
            )
        return schema

    def prepare(self, records: Sequence[Record], source_schema: pa.Schema) -> None:
        """Propose a schema from these first records, in case none is fixed.

        Raises:
            BadSink: the format cannot hold such records.
        """
        if self._given is None and self._proposed is None and records:
            proposed = written_schema(schema_of_records(records, source_schema))
            self._format.check(proposed)
            self._proposed = proposed

    @contextlib.contextmanager
    def transaction(self, pass_: PassRef, chunk: ChunkRange) -> Iterator[PartTransaction]:
        """Open the chunk's part, which is discarded at the end of the block unless it was committed.

        Raises:
            BadSink: what the pass has written before is gone.
        """
        with self._lock:
            if pass_.id not in self._staging:
                staging = Staging(self._store, pass_)
                staging.check()
                self._staging[pass_.id] = staging
            staging = self._staging[pass_.id]
        transaction = PartTransaction(self._store, staging, self._format, self._proposed, chunk)
        try:
            yield transaction
        finally:
            transaction.roll_back()

    def end_pass(self, pass_: PassRef) -> None:
        """Publish the pass's parts, and write the manifest."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        publish(self._store, pass_, self._format, now, self._compact_bytes)

    def key_set(self, key: tuple[str, ...]) -> FileKeys:
        """Return the keys in the files that the manifest names."""
        spec = self._spec or Files(self._store.place, self._format.name)
        return read_file_keys(spec, self._store.place, load_manifest(self._store), key)
