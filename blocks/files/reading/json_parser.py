"""Parses JSON Lines into Python objects, or into tables of given types."""

import contextlib
import itertools
import json
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from prefect_batch.blocks.batches import ABSENT
from prefect_batch.blocks.files.reading.text_file import Stretch
from prefect_batch.blocks.files.reading.text_parse import Fault, Parser
from prefect_batch.blocks.kinds.convert import to_arrow
from prefect_batch.blocks.kinds.json_form import from_json, json_type
from prefect_batch.blocks.parameters.text_form import TextForm

# Beyond this, not every integer is a float.
_EXACT = 2**53


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
    if not all(map(_is_name, found)):
        raise ValueError("a key has half of a surrogate pair, which is no text")
    return found


def _is_name(key: str) -> bool:
    return key.isascii() or key.isprintable() or key.encode("utf-8", "replace").decode() == key


def json_parser(schema: pa.Schema, *, others: bool, sampled: bool, form: TextForm) -> Parser:
    """Return the parser for lines with these columns.

    With `others`, a line may have more columns, which are not read. Without it, such a line is a fault. If the types
    are only `sampled`, what Python's ``json`` makes of a line counts, as long as the columns can hold it.
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
        _check_integers(found, text)
        if read == schema:
            return found
        return pa.table([from_json(found[field.name], field.type, field.name) for field in schema], schema=schema)

    def faults(texts: list[bytes]) -> dict[int, str]:
        """Return the lines that are not JSON objects, or have other columns, with the reasons."""
        found = {}
        for place, text in enumerate(texts):
            try:
                line = object_of(text.decode())
                reason = "" if others else _more(line, schema.names)
            except ValueError as error:
                # What is nested too deeply for Python, pyarrow may be able to read.
                reason = "" if isinstance(error.__cause__, RecursionError) else str(error)
            if reason:
                found[place] = reason
        return found

    def one(text: bytes) -> pa.Table:
        line = object_of(text.decode())
        columns = [to_arrow([line.get(field.name)], f"column {field.name}", field.type) for field in schema]
        return pa.table(columns, schema=schema)

    return Parser(table, faults, form, schema, one if sampled else None)


def _check_integers(table: pa.Table, text: bytes) -> None:
    """Raise ArrowInvalid if pyarrow has rounded an integer in a column of floats."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_floating(column.type):
            continue
        large = pc.fill_null(pc.greater_equal(pc.abs(column), float(_EXACT)), False)
        if pc.any(large).as_py():
            lines = [line for line in text.splitlines() if line.strip()]
            for place in np.flatnonzero(large.to_numpy()).tolist():
                value = object_of(lines[place].decode())[name]
                if isinstance(value, int) and int(column[place].as_py()) != value:
                    raise pa.ArrowInvalid(f"column {name}: {value} is no {column.type} exactly")


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


class Objects(NamedTuple):
    """The records in a stretch of JSON Lines.

    Attributes:
        rows: The values of the columns, `ABSENT` where a line lacks one.
        gaps: Whether a line lacks one.
        places: The index in the stretch of each row.
        faults: The lines that are not JSON objects, or have another column.
    """

    rows: list[tuple[Any, ...]]
    gaps: bool
    places: list[int]
    faults: list[Fault]


def parse_objects(stretch: Stretch, encoding: str, names: tuple[str, ...], *, others: bool) -> Objects:
    """Parse a stretch of JSON Lines as Python objects with these columns.

    With `others`, a line may have more columns, which are not read. Without it, such a line is a fault.
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
    if not others and not set(names).issuperset(itertools.chain.from_iterable(found)):
        reasons = [_more(line, names) for line in found]
        faults += [Fault(place, reason) for place, reason in zip(places, reasons, strict=True) if reason]
        places = [place for place, reason in zip(places, reasons, strict=True) if not reason]
        found = [line for line, reason in zip(found, reasons, strict=True) if not reason]
    gaps = others or sum(map(len, found)) < len(names) * len(found)
    if not gaps:
        return Objects([tuple(map(line.__getitem__, names)) for line in found], gaps, places, faults)
    return Objects([tuple([line.get(name, ABSENT) for name in names]) for line in found], gaps, places, faults)


def _more(line: dict[str, Any], names: Collection[str]) -> str:
    """Return why a line with these keys is a fault, or an empty text if it has no key but the names."""
    if not (more := [name for name in line if name not in names]):
        return ""
    shown = ", ".join(names)
    return (
        f"it has the key {more[0]}, which is not among the columns of the first lines ({shown}): give it a type with "
        f'schema={{"{more[0]}": "…"}}, or name the columns to read with columns=[…]'
    )


def absent_keys(texts: Iterable[tuple[int, bytes]], names: Collection[str]) -> dict[int, set[str]]:
    """Return which of the names are not keys of these lines, by the numbers of the lines that lack some."""
    found: dict[int, set[str]] = {}
    for number, text in texts:
        with contextlib.suppress(ValueError):  # pyarrow reads what is nested more deeply than Python can.
            if absent := set(names) - object_of(text.decode()).keys():
                found[number] = absent
    return found
