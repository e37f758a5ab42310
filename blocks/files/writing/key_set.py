"""The keys in the files of a sink, for `reconcile`: files have no order of their own, so all of them are in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.errors import BadParameter, BadSink
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.files.reading.parquet_source import ParquetSource
from prefect_batch.blocks.files.reading.text_source import TextSource
from prefect_batch.blocks.files.writing.manifest import Manifest
from prefect_batch.blocks.keys import Key, plain_key
from prefect_batch.blocks.parameters.files import Files

# Some 300 MB.
_MOST_KEYS = 2_000_000
_BATCH_ROWS = 10_000


class FileKeys:
    """An implementation of `KeySet`: the keys of the files in a manifest."""

    def __init__(self, keys: set[Key], doubt: str = "") -> None:
        self.doubt = doubt
        self._keys = keys
        self._found: set[Key] = set()

    def has(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of these keys that are in the files.

        Raises:
            TypeError: the values in the files are of other types, so that none of them could be equal.
        """
        keys = list(keys)
        if keys and self._keys and (ours := _types(next(iter(self._keys)))) != (theirs := _types(keys[0])):
            raise TypeError(f"the key is {', '.join(theirs)} in the source, and {', '.join(ours)} in the files")
        found = self._keys.intersection(keys)
        self._found |= found
        return found

    def others(self, most: int) -> tuple[int, list[Key]]:
        """Return how many keys `has` was never asked for, and at most `most` of them."""
        others = self._keys - self._found
        return len(others), sorted(others, key=repr)[:most]


def _types(key: Key) -> list[str]:
    return [type(value).__name__ for value in key]


def read_file_keys(spec: Files, place: str, manifest: Manifest | None, key: tuple[str, ...]) -> FileKeys:
    """Return the keys, by these columns, in the files that the manifest names.

    Raises:
        BadSink: no pass is complete, or they have too many rows, or do not have these columns.
    """
    if manifest is None:
        raise BadSink(f"{place} has no manifest: no pass into it is complete")
    if not manifest.files:
        return FileKeys(set())
    assert manifest.schema is not None
    if lacking := [name for name in key if name not in manifest.schema.names]:
        raise BadSink(
            f"the files in {place} have no column {lacking[0]}, by which the source is read", place, lacking[0]
        )
    rows = sum(file.rows for file in manifest.files)
    if rows > _MOST_KEYS:
        raise BadSink(f"the files in {place} have {rows:,} rows, and of files at most {_MOST_KEYS:,} are compared")
    source = _source(spec, manifest, key)
    keys, read = set(), 0
    for one in _keys(source, key):
        keys.add(one)
        read += 1
    lost = f"the files in {place} have {read:,} rows, and by their manifest {rows:,} were written"
    return FileKeys(keys, lost if read != rows else "")


def _source(spec: Files, manifest: Manifest, key: tuple[str, ...]) -> Source:
    """Return the files of the manifest as a source of these columns."""
    assert manifest.schema is not None
    types = {name: str(manifest.schema.field(name).type) for name in key}
    schema = None if spec.format == "parquet" else types
    try:
        read = replace(spec, schema=schema, columns=list(key), compression=None, allow_empty=True, compact=False)
        opened = ParquetSource(read) if spec.format == "parquet" else TextSource(read)
    except BadParameter as error:
        raise BadSink(f"the files in {spec.path} cannot be read by {', '.join(key)}: {error}") from error
    written = {file.name for file in manifest.files}
    return opened.with_files(FileList(file for file in opened.files.files if file.name in written))


def _keys(source: Source, key: tuple[str, ...]) -> Iterator[Key]:
    if (last := source.last_key()) is None:
        return
    for batch in source.read(ChunkRange(None, last), _BATCH_ROWS):
        places = [batch.names.index(name) for name in key]
        yield from (plain_key([row[place] for place in places]) for row in batch.rows)
