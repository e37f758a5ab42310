"""Whether the fields of `Files` go together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.parameters.text_form import text_form
from prefect_batch.blocks.parameters.type_names import schema_of

if TYPE_CHECKING:
    from prefect_batch.blocks.parameters.files import Files

__all__ = ["check_files"]


def check_files(files: "Files") -> None:
    """Nothing, when the fields go together.

    Raises:
        BadParameter: they do not; the message says which values are allowed.
    """
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
    if files.compression not in (None, "none", "gzip", "zstd"):
        raise BadParameter(f"compression={files.compression!r} does not go with text: gzip, zstd or none")


def _check_once(what: str, names: Sequence[str] | None) -> None:
    if names is not None and (not names or len(set(names)) != len(names)):
        raise BadParameter(f"{what} must name at least one column, each once")


def _check_characters(files: "Files") -> None:
    marks = {"delimiter": files.delimiter, "quote": files.quote, "escape": files.escape}
    given = {name: mark for name, mark in marks.items() if mark is not None}
    for name, mark in given.items():
        if len(mark) != 1 or mark in "\r\n" or not mark.isascii():
            raise BadParameter(f"{name}={mark!r} must be one ASCII character, and not the end of a line")
    if len(set(given.values())) != len(given):
        raise BadParameter(
            "delimiter, quote and escape must differ: a quote inside quotes is doubled without an escape"
        )
    text_form(files.encoding, files.delimiter, files.quote, files.escape)
