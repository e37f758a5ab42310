"""Opens what a parameter names: a table, a query, files or dead letters. Imports each engine only when needed."""

from typing import TYPE_CHECKING, cast, overload

from prefect_batch.blocks.capabilities import InPlace, MeetsItsSource, Replays
from prefect_batch.blocks.contracts import Sink, Source
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.blocks.parameters.specs import SinkSpec, SourceSpec
from prefect_batch.blocks.parameters.tables import Query, Table, check_key

if TYPE_CHECKING:
    from prefect_batch.blocks.capabilities import OfFiles
    from prefect_batch.blocks.databases.source import SqlSource
    from prefect_batch.blocks.letters.source import LettersSource


class PinnedFiles:
    """The parameter of a source of files, with the files of a pass. A chunk gets it as its source.

    It is not a dataclass, because Prefect would walk through all files at every task run.
    """

    def __init__(self, spec: SourceSpec | Letters, files: FileList) -> None:
        self.spec, self.files = spec, files


@overload
def open_source(spec: Table | Query) -> "SqlSource": ...
@overload
def open_source(spec: Letters) -> "LettersSource": ...
@overload
def open_source(spec: SourceSpec | PinnedFiles | Letters) -> Source: ...
def open_source(spec: SourceSpec | PinnedFiles | Letters) -> Source:
    """Return the source that this parameter names, which connects when first used.

    A source of files reads those of the list, or, without a list, those that exist now.

    Raises:
        BadParameter: the table has no key to be read by.
    """
    if isinstance(spec, PinnedFiles):
        # Not isinstance, which before Python 3.12 would list the files that exist now.
        return cast("OfFiles", open_source(spec.spec)).with_files(spec.files)
    if isinstance(spec, Files):
        return _open_files(spec)
    if isinstance(spec, Letters):
        from prefect_batch.blocks.letters.source import LettersSource

        return LettersSource(spec, open_source(spec.origin) if spec.records == "source" and spec.origin else None)
    from prefect_batch.blocks.databases.source import SqlSource

    check_key(spec.key)
    return SqlSource(spec)


def _open_files(spec: Files) -> Source:
    if spec.format == "parquet":
        from prefect_batch.blocks.files.reading.parquet_source import ParquetSource

        return ParquetSource(spec)
    from prefect_batch.blocks.files.reading.text_source import TextSource

    return TextSource(spec)


def introduce(sink: Sink, source: Source) -> InPlace:
    """Let the sink look whether it writes to what the source reads, or what a replay reads again.

    Returns:
        Its answer.

    Raises:
        BadSink: it cannot be written while this source is read.
    """
    read = source.origin if isinstance(source, Replays) else source
    if read is None or not isinstance(sink, MeetsItsSource):
        return "no"
    sink.meet(read)
    return sink.in_place


def open_sink(spec: SinkSpec, in_place: InPlace = "no") -> Sink:
    """Return the sink that this parameter names, which connects when first used.

    Args:
        spec: The parameter.
        in_place: What `introduce` has returned before.

    Raises:
        BadParameter: the files cannot be written as asked for.
    """
    if isinstance(spec, Files):
        from prefect_batch.blocks.files.writing.sink import open_files_sink

        return open_files_sink(spec)
    from prefect_batch.blocks.databases.sink import SqlSink

    sink = SqlSink(spec)
    sink.in_place = in_place
    return sink
