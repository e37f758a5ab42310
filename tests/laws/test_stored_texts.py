"""SQLite has timestamps as text: a text that nobody changed is written as it was, above all in a key."""

import pandas as pd
import pytest

from prefect_batch import Table, processor
from tests.laws.chunks import OneChunk

TEXTS = [
    "2024-01-01 00:00:00",
    "2024-01-01 00:00:00.000000",
    "2024-01-01 00:00:00.123",
    "2024-01-01 00:00:00.123456",
    "2024-01-01 00:00:00.123456789",
    "2024-01-01T00:00:00Z",
    "2024-01-01T00:00:00+02:00",
    "2024-01-01",
    "2024-W01-1 00:00:00",
    "20240101 000000",
    "never",
]


@pytest.fixture
def readings(sqlite):
    sqlite.run("CREATE TABLE readings (at DATETIME PRIMARY KEY, seen DATETIME, value REAL)")
    sqlite.run(*(f"INSERT INTO readings VALUES ('{text}', '{text}', {n})" for n, text in enumerate(TEXTS)))
    return sqlite


def tenfold(record):
    return {**record, "value": record["value"] * 10}


@processor(vectorized=True)
def tenfold_frame(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(value=frame["value"] * 10)


@pytest.mark.parametrize("write", ["update", "upsert"])
def test_records_keep_the_texts(readings, tmp_path, write):
    table = Table(readings.url, "readings", key="at", write=write)
    tally = OneChunk(tmp_path, table, table).run(tenfold)
    assert (tally.written, tally.failed) == (len(TEXTS), 0)
    found = readings.rows("SELECT at, seen, value FROM readings")
    assert sorted(found) == sorted((text, text, n * 10.0) for n, text in enumerate(TEXTS))


def test_what_is_computed_has_the_usual_text(readings, tmp_path):
    table = Table(
        readings.url,
        "readings",
        key="at",
        write="update",
        where="at LIKE '%.123' OR at LIKE '%.123456' OR at LIKE '%Z'",
    )

    def later(record):
        return {**record, "seen": record["seen"].replace(hour=7)}

    assert OneChunk(tmp_path, table, table).run(later).written == 3
    found = sorted(seen for (seen,) in readings.rows("SELECT seen FROM readings WHERE seen LIKE '% 07:%'"))
    assert found == ["2024-01-01 07:00:00+00:00", "2024-01-01 07:00:00.123000", "2024-01-01 07:00:00.123456"]


@pytest.mark.parametrize("write", ["update", "upsert"])
def test_a_dataframe_writes_no_second_row_for_a_key(readings, tmp_path, write):
    table = Table(readings.url, "readings", key="at", write=write)
    job = OneChunk(tmp_path, table, table)
    tally = job.run(tenfold_frame)
    assert (tally.written, tally.failed) == (2, len(TEXTS) - 2)
    assert [at for (at,) in readings.rows("SELECT at FROM readings ORDER BY at")] == sorted(TEXTS)
    assert any("use a function of records" in letter["error_message"] for letter in job.letters())


@pytest.mark.parametrize("records", ["letter", "source"])
def test_a_replay_keeps_the_texts(readings, tmp_path, records):
    def fails(_record):
        raise ValueError("not today")

    table = Table(readings.url, "readings", key="at", write="update")
    job = OneChunk(tmp_path, table, table)
    assert job.run(fails).failed == len(TEXTS)
    assert job.replay(tenfold, records).written == len(TEXTS)
    assert sorted(seen for (seen,) in readings.rows("SELECT seen FROM readings WHERE at = seen")) == sorted(TEXTS)
