"""Parses CSV records into tables of text or of the schema's types. A field is never guessed, cut or fixed."""

import codecs
from typing import Any

import pyarrow as pa
from pyarrow import csv

from prefect_batch.blocks.files.reading.record_ends import RecordEnds
from prefect_batch.blocks.files.reading.text_parse import Parser
from prefect_batch.blocks.kinds.csv_form import csv_type, from_csv
from prefect_batch.blocks.parameters.files import Files
from prefect_batch.blocks.parameters.text_form import TextForm, text_form


def csv_parser(spec: Files, names: list[str], schema: pa.Schema, form: TextForm) -> Parser:
    """Return the parser for files with the columns `names`, of which it reads those of the schema."""
    convert = csv.ConvertOptions(
        column_types={field.name: csv_type(field.type) for field in schema},
        include_columns=schema.names,
        null_values=spec.nulls,
        strings_can_be_null=spec.text_nulls,
        quoted_strings_can_be_null=False,
    )
    everything = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()))

    def table(text: bytes) -> pa.Table:
        if not spec.multiline and _unclosed(spec, form, [text[_last_line(text) :]]):
            # On any other line, an open quote shows in the number of rows.
            raise pa.ArrowInvalid("a quote is not closed on the last line")
        found = _read(spec, form, text, names, convert)
        if found.schema.types == schema.types:
            return found
        columns = [from_csv(found[field.name], field.type, field.name, spec.nulls) for field in schema]
        return pa.table(columns, schema=schema)

    def faults(texts: list[bytes]) -> dict[int, str]:
        """Return the records that have too many or too few fields, or a quote that is not closed on its line."""
        found = {} if spec.multiline else _unclosed(spec, form, texts)
        places = [place for place in range(len(texts)) if place not in found]

        def note(row: csv.InvalidRow) -> str:
            fields = f"{row.actual_columns:,} field" + ("s" if row.actual_columns != 1 else "")
            # A line is added before a byte order mark, and counted where blank lines are records.
            added = len(names) == 1 and texts[places[0]].startswith(codecs.BOM_UTF8)
            columns = "is 1 column" if len(names) == 1 else f"are {len(names):,} columns"
            found[places[row.number - 1 - added]] = f"it has {fields}, and there {columns}"
            return "skip"

        if places:
            _read(spec, form, b"".join(texts[place] for place in places), names, everything, note)
        return found

    return Parser(table, faults, form, schema)


def _last_line(text: bytes) -> int:
    """Return where the last line begins that is not blank."""
    stripped = text.rstrip(b"\r\n")
    return max(stripped.rfind(b"\n"), stripped.rfind(b"\r")) + 1


def _unclosed(spec: Files, form: TextForm, texts: list[bytes]) -> dict[int, str]:
    form = text_form("utf-8", _delimiter(form), spec.quote, spec.escape)
    found = {}
    for place, text in enumerate(texts):
        (finder := RecordEnds(form)).feed(text)
        if finder.inside:
            found[place] = "a quote is not closed on its line: multiline=False forbids line breaks in fields"
    return found


def _delimiter(form: TextForm) -> str:
    assert form.delimiter is not None
    return chr(form.delimiter)


def _read(
    spec: Files, form: TextForm, text: bytes, names: list[str] | None, convert: Any = None, note: Any = None
) -> pa.Table:
    one_column = names is not None and len(names) == 1
    if marked := text.startswith(codecs.BOM_UTF8):
        text = b"\n" + text  # pyarrow would drop the mark, which is part of a field here.
    # A single block, because a row that spans two would fail.
    block = {"use_threads": False, "block_size": len(text) + 1}
    table = csv.read_csv(
        pa.py_buffer(text),
        csv.ReadOptions(column_names=names, autogenerate_column_names=names is None, **block),
        csv.ParseOptions(
            delimiter=_delimiter(form),
            quote_char=spec.quote or False,
            escape_char=spec.escape or False,
            # Finding the ends of rows takes longer where a row may be several lines.
            newlines_in_values=(spec.quote is not None and spec.quote.encode() in text) or spec.escape is not None,
            ignore_empty_lines=not one_column,
            invalid_row_handler=note,
        ),
        convert,
    )
    return table.slice(1) if marked and one_column else table


def header_of(spec: Files, form: TextForm, text: bytes) -> list[str]:
    """Return the fields of the header line, which is UTF-8."""
    text += b"\n"  # The header may be the whole file.
    numbers = [str(number) for number in range(_read(spec, form, text, None).num_columns)]
    table = _read(spec, form, text, numbers, csv.ConvertOptions(column_types=dict.fromkeys(numbers, pa.string())))
    return [str(column[0].as_py()) for column in table.columns]
