"""The manifest of a files sink: the files of its complete passes, with their rows and checksums.

A pass writes it last, and replaces it in one step. The files that it names are complete and consistent, and no
other file counts.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from prefect_batch.blocks.errors import BadSink
from prefect_batch.blocks.stores.opening import open_store
from prefect_batch.blocks.stores.store import Store

MANIFEST = "_manifest.json"
VERSION = 1
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class FileEntry:
    """A file of the sink.

    Attributes:
        name: Its name in the sink's directory.
        pass_id: The pass that wrote it.
        chunks: The digests of the chunks in it.
    """

    name: str
    rows: int
    bytes: int
    sha256: str
    pass_id: str
    chunks: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """What the sink's directory contains since its last complete pass, with the files in the order of the source."""

    job: str
    pass_number: int
    pass_id: str
    completed_at: str
    format: str
    schema: pa.Schema | None
    files: tuple[FileEntry, ...]

    @property
    def columns(self) -> dict[str, str] | None:
        """The files' columns and their types, by name, or None while no record was written."""
        return None if self.schema is None else {field.name: str(field.type) for field in self.schema}

    def encode(self) -> bytes:
        """Return the manifest as JSON text, for people and programs."""
        schema = self.schema
        fields = {
            "version": VERSION,
            "job": self.job,
            "pass_number": self.pass_number,
            "pass_id": self.pass_id,
            "completed_at": self.completed_at,
            "format": self.format,
            "rows": sum(file.rows for file in self.files),
            "bytes": sum(file.bytes for file in self.files),
            "columns": self.columns,
            "arrow_schema": None if schema is None else base64.b64encode(encode_schema(schema)).decode(),
            "files": [asdict(file) for file in self.files],
        }
        return json.dumps(fields, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes, place: str) -> "Manifest":
        """Return the manifest that `encode` wrote.

        Raises:
            BadSink: another version wrote it, or it is damaged.
        """
        try:
            fields: dict[str, Any] = json.loads(content)
            version, schema = fields["version"], fields["arrow_schema"]
            if version != VERSION:
                raise BadSink(f"{place}/{MANIFEST} has version {version}, and this prefect-batch reads {VERSION}")
            files = tuple(FileEntry(**{**file, "chunks": tuple(file["chunks"])}) for file in fields["files"])
            decoded = None if schema is None else decode_schema(base64.b64decode(schema))
            own = {name: fields[name] for name in ("job", "pass_number", "pass_id", "completed_at", "format")}
            return cls(schema=decoded, files=files, **own)
        except (LookupError, TypeError, ValueError) as error:
            raise BadSink(f"{place}/{MANIFEST} cannot be read ({error!r}): write to another directory") from error


def encode_schema(schema: pa.Schema) -> bytes:
    """Return the schema as bytes, without any loss."""
    return bytes(schema.serialize())


def decode_schema(content: bytes) -> pa.Schema:
    """Return the schema that `encode_schema` wrote."""
    return pa.ipc.read_schema(pa.py_buffer(content))


def load_manifest(store: Store) -> Manifest | None:
    """Load the manifest of the sink in this store.

    Returns:
        None if no pass was ever complete.
    """
    content = store.get([MANIFEST]).get(MANIFEST)
    return None if content is None else Manifest.decode(content, store.place)


def complete_files(path: str, *, verify: bool = False, storage_options: dict[str, Any] | None = None) -> list[str]:
    """Return the paths of the files of the sink's complete passes, in the order of the source.

    Args:
        path: The sink's directory, or its URL.
        verify: Whether to compare the files with their checksums.
        storage_options: The options of the fsspec file system. None uses the environment.

    Returns:
        Paths or URLs to give to any reader.

    Raises:
        BadSink: no pass into this directory was ever complete, or a file is not what was written.
    """
    store = open_store(path, storage_options)
    manifest = load_manifest(store)
    if manifest is None:
        raise BadSink(f"{store.place} has no {MANIFEST}: no pass into it is complete yet")
    if verify:
        _verify(store, manifest.files)
    return [f"{store.place.rstrip('/')}/{file.name}" for file in manifest.files]


def _verify(store: Store, files: Iterable[FileEntry]) -> None:
    for file in files:
        digest = hashlib.sha256()
        try:
            with store.open(file.name) as opened:
                while block := opened.read(_BLOCK_BYTES):
                    digest.update(block)
        except FileNotFoundError as error:
            raise BadSink(f"{store.place} has lost {file.name}, which its manifest names") from error
        if digest.hexdigest() != file.sha256:
            raise BadSink(f"{store.place}/{file.name} is not as it was written: its checksum differs")
