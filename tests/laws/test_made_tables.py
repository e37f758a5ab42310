"""A table that is made has the source's types for its columns, whatever their values."""

import logging
from datetime import date

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import inspect

from prefect_batch import Table, processor
from tests.laws.chunks import FORMS, OneChunk

ROWS = 12


@pytest.fixture
def source(postgresql):
    postgresql.run(
        "CREATE TABLE src (id int PRIMARY KEY, v int, n numeric, a int[], doc jsonb, span interval, none text)",
        f"INSERT INTO src SELECT g, g FROM generate_series(1, {ROWS}) g",
        f"""UPDATE src SET n = 1.5, a = '{{1}}', doc = '{{"a": 1}}', span = '1 day' WHERE id = {ROWS}""",
    )
    return Table(postgresql.url, "src", key="id")


def types_of(database):
    return {c["name"]: str(c["type"]) for c in inspect(database.engine).get_columns("dst")}


def run(source, database, process, tmp_path):
    job = OneChunk(tmp_path, source, Table(database.url, "dst", key="id", create=True), batch_rows=3)
    return job, job.run(process)


def one_bad(record):
    return {**record, "v": "n/a" if record["id"] == 2 else record["v"]}


def halves(record):
    return {**record, "v": record["v"] / 2, "day": date(2024, 1, record["id"])}


@processor(vectorized=True)
def frame_halves(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(v=frame["v"] / 2, half=0.5)


@processor(vectorized=True)
def more_columns(table: pa.Table) -> pa.Table:
    return table.append_column("extra", pa.nulls(len(table), pa.date32()))


@pytest.mark.parametrize("form", FORMS)
def test_columns_without_a_value_at_first_have_the_sources_types(source, postgresql, caplog, tmp_path, form):
    caplog.set_level(logging.INFO, "prefect_batch")
    _, tally = run(source, postgresql, FORMS[form], tmp_path)
    assert (tally.written, tally.failed) == (ROWS, 0)
    assert types_of(postgresql) == {
        "id": "BIGINT", "v": "BIGINT", "n": "NUMERIC", "a": "JSON", "doc": "JSON", "span": "INTERVAL", "none": "TEXT"
    }  # fmt: skip
    assert postgresql.rows(f"SELECT n::text, doc, a FROM dst WHERE id = {ROWS}") == [("1.5", {"a": 1}, [1])]
    assert caplog.text == ""


def test_one_odd_value_does_not_change_a_column(source, postgresql, tmp_path):
    job, tally = run(source, postgresql, one_bad, tmp_path)
    assert types_of(postgresql)["v"] == "BIGINT"
    assert (tally.written, tally.failed) == (ROWS - 1, 1)
    assert "column v is BIGINT, and cannot hold 'n/a' (str)" in job.letters()[0]["error_message"]


@pytest.mark.parametrize(
    ("process", "made", "kept"),
    [(halves, {"v": "DOUBLE", "day": "DATE"}, "n"), (frame_halves, {"v": "DOUBLE", "half": "DOUBLE"}, "n"),
     (more_columns, {"extra": "DATE"}, "v")],
    ids=["record", "frame", "table"],
)  # fmt: skip
def test_what_the_function_adds_or_changes_gets_a_type_by_its_values_and_the_log_says_so(
    source, postgresql, caplog, tmp_path, process, made, kept
):
    caplog.set_level(logging.INFO, "prefect_batch")
    _, tally = run(source, postgresql, process, tmp_path)
    assert tally.written == ROWS
    found = types_of(postgresql)
    assert {name: found[name].removesuffix(" PRECISION") for name in made} == made
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("prefect_batch")]
    assert "made table dst" in line
    assert all(f"{name} {kind}" in line for name, kind in made.items())
    assert f"{kept} " not in line.partition("first records: ")[2]
