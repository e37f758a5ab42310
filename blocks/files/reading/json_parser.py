"""Parses JSON Lines into Python objects, or into tables of given types."""

import itertools
import json
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import json as arrow_json

from prefect_batch.blocks.files.reading.text_file import Stretch
from prefect_batch.blocks.files.reading.text_parse import Fault, Parser
from prefect_batch.blocks.kinds.json_form import from_json, json_type
from prefect_batch.blocks.kinds.of_values import type_of_values
from prefect_batch.blocks.parameters.text_form import TextForm


def object_of(text: str) -> dict[str, Any]:
    """Return the JSON object in a line.

    Raises:
        ValueError: the line is not a JSON object.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"it is {type(found).__name__}, and no object")  # noqa: TRY004 - one error for all
    return found


def json_parser(schema: pa.Schema, *, others: bool, form: TextForm) -> Parser:
    """Return the parser for lines with these columns.

    With `others`, a line may have more columns, which are not read. Without it, such a line is a fault.
    """
    read = pa.schema([(field.name, json_type(field.type)) for field in schema])
    options = arrow_json.ParseOptions(
        explicit_schema=read, newlines_in_values=False, unexpected_field_behavior="ignore" if others else "error"
    )

    def table(text: bytes) -> pa.Table:
        _check_lines(text)
        if form.encoding == "utf-8":
            text.decode()  # pyarrow would take bytes that are no UTF-8.
        blocks = arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1)
        found = arrow_json.read_json(pa.BufferReader(text), blocks, options).select(schema.names)
        if read == schema:
            return found
        return pa.table([from_json(found[field.name], field.type, field.name) for field in schema], schema=schema)

    def faults(texts: list[bytes]) -> dict[int, str]:
        """Return the lines that are not JSON objects, with the reasons."""
        found = {}
        for place, text in enumerate(texts):
            try:
                object_of(text.decode())
            except ValueError as error:
                found[place] = str(error)
        return found

    return Parser(table, faults, form, schema)


def _check_lines(text: bytes) -> None:
    """Raise ArrowInvalid unless each line begins and ends as an object.

    Otherwise pyarrow might read two lines as one record.
    """
    units = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(units[:-1] == ord("\n"))
    if (
        text.startswith(b"{")
        and text.rstrip().endswith(b"}")
        and (units[ends - 1] == ord("}")).all()
        and (units[ends + 1] == ord("{")).all()
        and b"\r" not in text
    ):
        return
    for line in text.splitlines():
        if line and not (line.startswith(b"{") and line.endswith(b"}")):
            raise pa.ArrowInvalid("it is no JSON object on a line of its own")


def columns_of(lines: list[dict[str, Any]]) -> pa.Schema:
    """Return the columns of these records in the order in which they appear, with types inferred from the values."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    return pa.schema([(name, type_of_values([line[name] for line in lines if name in line])) for name in names])


class Objects(NamedTuple):
    """The records in a stretch of JSON Lines.

    Attributes:
        names: The columns of the rows.
        places: The index in the stretch of each row.
        faults: The lines that are not JSON objects.
    """

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    places: list[int]
    faults: list[Fault]


def parse_objects(stretch: Stretch, encoding: str, names: tuple[str, ...], columns: list[str] | None) -> Objects:
    """Parse a stretch of JSON Lines as Python objects.

    A column that a line lacks is None in its row. Unless `columns` are given, a column that a line adds to `names`
    is read as well.
    """
    found: list[dict[str, Any]] = []
    places: list[int] = []
    faults: list[Fault] = []
    raw = stretch.raw
    for place, (start, end) in enumerate(zip(stretch.starts.tolist(), stretch.ends.tolist(), strict=True)):
        try:
            found.append(object_of(str(raw[start:end], encoding)))
            places.append(place)
        except ValueError as error:
            faults.append(Fault(place, str(error)))
    if columns is None:
        names = tuple(dict.fromkeys(itertools.chain(names, *found)))
    rows = [tuple(map(line.get, names)) for line in found]
    return Objects(names, rows, places, faults)
