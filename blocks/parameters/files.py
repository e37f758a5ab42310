"""The parameter that names files: where they are, their format, and how they are read and written."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from prefect_batch.blocks.credentials import SECRETS
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.kinds.names import schema_of
from prefect_batch.blocks.parameters.text_form import text_form
from prefect_batch.blocks.passwords import gives_access

Format = Literal["parquet", "csv", "jsonl"]
# The endings of each format's files; text may have one of COMPRESSIONS behind it, by its codec.
ENDINGS: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
}
COMPRESSIONS = {"gzip": ".gz", "zstd": ".zst"}
# The values a person typed are not repeated in errors: one of them may be a password.
_CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True)


def ending_of(path: str) -> tuple[str | None, str | None]:
    """Return the format and the compression that the path's ending shows.

    Returns:
        None for each that the ending does not show.
    """
    name = path.lower().rstrip("/*")
    compression = next((codec for codec, ending in COMPRESSIONS.items() if name.endswith(ending)), None)
    return next((kind for kind, endings in ENDINGS.items() if _plain_name(path).endswith(endings)), None), compression


def _plain_name(path: str) -> str:
    """Return the path in lower case, without the ending of a compression."""
    name = path.lower().rstrip("/*")
    return name.rpartition(".")[0] if name.endswith(tuple(COMPRESSIONS.values())) else name


@dataclass(frozen=True, config=_CONFIG)
class Files:
    """Files, as a source to read by ranges of rows or bytes, or as a sink of one part per chunk.

    As a source, `path` is a file, a directory, a glob (``sales/2024-*.csv``) or an fsspec URL (``s3://bucket/sales``).
    """

    path: Annotated[
        str,
        Field(min_length=1, description="A file, a directory, a glob, or a URL such as s3://bucket/sales/*.parquet."),
    ]
    format: Annotated[
        Format | None, Field(description="parquet, csv or jsonl (JSON Lines); told from the path's ending if empty.")
    ] = None
    schema: Annotated[
        dict[str, str] | None,
        Field(
            description="Types of columns, as Arrow names them: int64, double, date32, timestamp[us], "
            "timestamp[us, UTC], decimal(12, 2), bool, string. Columns of CSV that are not named here are text."
        ),
    ] = None
    columns: Annotated[list[str] | None, Field(description="Source: the columns to read; all if empty.")] = None
    storage: Annotated[
        str | None,
        Field(
            description="fsspec's storage options as JSON, in a Secret block, secret/NAME, or an environment variable, "
            "env/NAME. If empty, credentials come from the environment."
        ),
    ] = None
    compression: Annotated[
        str | None,
        Field(
            description="Source: gzip, zstd or none for text; told from the ending if empty. Sink: the codec of the "
            "parts."
        ),
    ] = None
    encoding: Annotated[str, Field(description="Text: the encoding, as Python names it.")] = "utf-8"
    delimiter: Annotated[
        str | None,
        Field(description="CSV: the character between fields. If empty, a tab in .tsv files, and a comma in others."),
    ] = None
    quote: Annotated[str | None, Field(description="CSV: the character around fields; none if empty.")] = '"'
    escape: Annotated[str | None, Field(description="CSV: the character that takes the next one literally.")] = None
    header: Annotated[bool, Field(description="CSV: whether each file begins with a line of column names.")] = True
    names: Annotated[
        list[str] | None,
        Field(description="CSV source: the columns' names, instead of a header's or where there is none."),
    ] = None
    nulls: Annotated[
        list[str], Field(description="CSV: unquoted fields that are NULL in columns that have a type other than text.")
    ] = Field(default_factory=lambda: [""])
    text_nulls: Annotated[bool, Field(description="CSV: whether `nulls` are NULL in columns of text, too.")] = False
    multiline: Annotated[
        bool,
        Field(
            description="CSV source: whether quoted fields may contain line breaks. False finds chunks without a scan."
        ),
    ] = True
    allow_empty: Annotated[
        bool,
        Field(description="Source: whether no file at all means that there is nothing to do, instead of an error."),
    ] = False
    compact: Annotated[
        bool, Field(description="Sink: at the end of each pass, join its small files to ones of about 128 MB.")
    ] = False
    kind: Annotated[Literal["files"], Field(description="Always 'files'.")] = "files"
    replay: ClassVar[None] = None
    # A full pass replaces what is there, and a repeated chunk its own part.
    adds_rows: ClassVar[bool] = False
    forbids_repair: ClassVar[str] = (
        "writes files, and those of a complete pass are not changed: write all of them anew with restart=True"
    )
    forbids_overlap: ClassVar[str] = "a sink of files would then hold them twice"

    @field_validator("path")
    @classmethod
    def _no_secret(cls, path: str) -> str:
        if gives_access(path):
            raise BadParameter(
                "the path carries a password or a key, and flow parameters can be read by everybody: store the options "
                "of the storage as JSON (prefect-batch secret lake) and write storage='secret/lake', or set them in an "
                "environment variable and write storage='env/LAKE', or leave them to the store's own environment"
            )
        return path

    @field_validator("storage")
    @classmethod
    def _is_secret(cls, storage: str | None) -> str | None:
        if storage is not None and not storage.startswith(SECRETS):
            raise BadParameter(
                "storage must be secret/NAME, a Secret block, or env/NAME, an environment variable, and hold fsspec's "
                "options as JSON"
            )
        return storage

    def __post_init__(self) -> None:
        if not self.quote:
            object.__setattr__(self, "quote", None)
        if self.format is None:
            object.__setattr__(self, "format", ending_of(self.path)[0])
        check_files(self)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that identify a record: file, row group and row, or file, byte offset and line."""
        return ("file", "row_group", "row") if self.format == "parquet" else ("file", "offset", "line")

    def delimiter_of(self, name: str) -> str:
        """Return the character between the fields of a CSV file with this name."""
        if self.delimiter is not None:
            return self.delimiter
        return "\t" if _plain_name(name).endswith(".tsv") else ","

    def define_source(self) -> dict[str, Any]:
        """Return the fields that define a job with this source. The set of files is compared separately."""
        # None is left out of a definition, and would come back as the default.
        fields = {
            **{k: v for k, v in asdict(self).items() if k not in ("compact", "allow_empty")},
            "quote": self.quote or "",
        }
        same = ("kind", "path", "format", "columns", "storage")
        if self.format == "parquet":
            return {k: fields[k] for k in same}
        if self.format == "jsonl":
            return {k: fields[k] for k in (*same, "schema", "compression", "encoding")}
        return fields

    def define_sink(self) -> dict[str, Any]:
        """Return the fields that decide where and how records are written, as JSON."""
        fields = {**asdict(self), "delimiter": self.delimiter_of(self.path)}
        form = {"csv": ("compression", "delimiter", "header"), "jsonl": ("compression",)}
        return {k: fields[k] for k in ("kind", "path", "format", "schema", "storage", *form.get(str(self.format), ()))}

    @property
    def made_again(self) -> "Files":
        """The same sink for a replay: a directory is always made."""
        return self


def check_files(files: "Files") -> None:
    """Raise BadParameter unless the fields are valid together."""
    if files.format is None:
        raise BadParameter(
            "the path's ending does not tell the files' format: say format='csv', format='jsonl' or format='parquet'"
        )
    _check_once("columns", files.columns)
    _check_once("names", files.names)
    schema_of(files.schema or {})
    if files.format == "parquet":
        return
    if files.format == "csv":
        _check_characters(files)
    if files.compression not in (None, "none", *COMPRESSIONS):
        raise BadParameter(f"compression={files.compression!r} does not go with text: gzip, zstd or none")


def _check_once(what: str, names: Sequence[str] | None) -> None:
    if names is not None and (not names or len(set(names)) != len(names)):
        raise BadParameter(f"{what} must name at least one column, each once")


def _check_characters(files: "Files") -> None:
    delimiter = files.delimiter_of(files.path)
    marks = {"delimiter": delimiter, "quote": files.quote, "escape": files.escape}
    given = {name: mark for name, mark in marks.items() if mark is not None}
    for name, mark in given.items():
        if len(mark) != 1 or mark in "\r\n" or not mark.isascii():
            raise BadParameter(f"{name}={mark!r} must be one ASCII character, and not the end of a line")
    if len(set(given.values())) != len(given):
        raise BadParameter(
            "delimiter, quote and escape must differ: a quote inside quotes is doubled without an escape"
        )
    text_form(files.encoding, delimiter, files.quote, files.escape)
