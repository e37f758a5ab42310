"""Redacted columns: what the letters, logs, messages and artifacts of a job must not show."""

import logging
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_batch import (
    FailureRateExceeded,
    Table,
    dead_letters,
    failures,
    process_records,
    reconcile,
    replay_dead_letters,
)
from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.errors import BadParameter, RunStopped
from prefect_batch.blocks.letters.redaction import TOKEN, Redaction
from tests.redacting_job import picky

HERE = Path(__file__).parent
KEY = b"k" * 32
EMAILS = Redaction(["email"], KEY)


def letter(record, message, traceback=""):
    return DeadLetter((1,), "process", "E", message, traceback, 1, datetime(2024, 1, 1, tzinfo=UTC), record)


VALUES = st.one_of(
    st.text(min_size=1).filter(str.strip),
    st.emails(),
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.uuids(),
)


@given(VALUES)
def test_no_form_of_a_value_is_left(value):
    found = Redaction(["email"], KEY).letter(
        letter({"email": value, "id": 1}, f"at <{value}>: {value!r}", f"E: {value}")
    )
    assert TOKEN.fullmatch(found.record["email"])
    assert found.record["id"] == 1
    assert found.redacted == ("email",)
    for text in (found.error_message, found.traceback):
        assert str(value) not in TOKEN.sub("", text)


@given(VALUES, VALUES)
def test_equal_values_have_equal_hashes_and_others_do_not(some, other):
    assert (EMAILS.token(some) == EMAILS.token(other)) == ((type(some), some) == (type(other), other))
    assert EMAILS.token(some) != Redaction(["email"], b"x" * 32).token(some)
    assert EMAILS.token(EMAILS.token(some)) == EMAILS.token(some)


@pytest.mark.parametrize(
    ("value", "text", "shown"),
    [
        ("ada@example.org", "no user ADA@example.org", "no user *"),
        ("Ada Lovelace", "Lovelace has no account; {'name': 'Ada Lovelace'}", "* has no account; {'name': '*'}"),
        ("O'Brien", "bad value \"O'Brien\" of 'O\\'Brien'", "bad value \"*\" of 'O\\'*'"),
        (17, "17 is less than 171 and 1.17", "* is less than 171 and 1.17"),
        (50000, "50,000 and 50000", "* and *"),
        ("é", "'\\xe9' and \"\\u00e9\" and é", "'*' and \"*\" and *"),
        (date(2024, 1, 2), "born 2024-01-02 or datetime.date(2024, 1, 2)", "born * or *"),
        (Decimal("1.50"), "Decimal('1.50') is 1.50", "* is *"),
        ({"mail": "ada@example.org"}, "ada@example.org", "*"),
        (b"secret-bytes", "b'secret-bytes' 7365637265742d6279746573", "* *"),
        (None, "None", "None"),
        (True, "True", "True"),
        ("", "nothing", "nothing"),
    ],
)
def test_texts(value, text, shown):
    assert TOKEN.sub("*", EMAILS.text(text, [value])) == shown


def test_a_part_of_a_line_that_could_not_be_read_is_not_shown():
    found = EMAILS.letter(letter({"__raw__": b"1,ada@example.org,x", "__line__": 3}, "4 fields"))
    assert b"ada" not in str(found.record).encode()
    assert found.record["__line__"] == 3


PEOPLE = [(n, f"user{n}@example.org", n % 10) for n in range(60)]


@pytest.fixture
def people(server, sqlite):
    sqlite.run(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT, grade INTEGER)",
        "CREATE TABLE out (id INTEGER PRIMARY KEY, email TEXT CHECK (email = lower(email)))",
    )
    sqlite.many("INSERT INTO people VALUES (:a, :b, :c)", [dict(zip("abc", row, strict=True)) for row in PEOPLE])
    return sqlite


def run(people, job, place, process=picky, **parameters):
    return process_records(
        job=job,
        source=Table(people.url, "people", key="id"),
        process=process,
        sink=Table(people.url, "out", key="id"),
        dead_letters=str(place),
        **{"redact": ["email"], "max_failure_rate": 1, "workers": "threads", **parameters},
    )


@pytest.mark.parametrize("how", ["resumed", "repaired", "replayed"])
def test_whoever_goes_on_with_a_pass_redacts_what_it_redacts(people, job, tmp_path, monkeypatch, how):
    """Without naming the columns again."""
    monkeypatch.syspath_prepend(HERE)
    people.run("DELETE FROM people WHERE id > 50")
    letters = tmp_path / "letters"
    run(people, job, letters, "redacting_job:picky", chunk_size=30, limit=30 if how == "resumed" else None)
    if how == "resumed":
        run(people, job, letters, "redacting_job:picky", redact=None)
    elif how == "repaired":
        lost = people.rows("SELECT id FROM out LIMIT 1")[0][0]
        people.run(f"DELETE FROM out WHERE id = {lost}")
        assert reconcile(job, repair=True).repaired == 1
    else:
        replay_dead_letters(job, max_failure_rate=1)
    frame = dead_letters(job)
    assert len(frame) == 10
    assert set(map(tuple, frame["redacted"])) == {("email",)}
    assert b"@example.org" not in everything_in(letters)


def everything_in(place):
    return b"".join(file.read_bytes() for file in place.rglob("*") if file.is_file())


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_nothing_of_a_job_shows_a_redacted_column(people, job, tmp_path, monkeypatch, caplog, workers):
    monkeypatch.syspath_prepend(HERE)
    shown = []
    for name in ("prefect_batch.flows.reporting.publish", "prefect_batch.flows.run.ending"):
        monkeypatch.setattr(f"{name}.publish_report", lambda report: shown.append(report.markdown() + str(report)))
    with caplog.at_level(logging.INFO), pytest.raises(RunStopped) as stopped:
        run(people, job, tmp_path / "letters", "redacting_job:picky", chunk_size=30, workers=workers)
    texts = [
        str(stopped.value),
        *shown,
        *caplog.messages,
        caplog.text,
        *dead_letters(job).astype(str).to_numpy().ravel(),
    ]
    assert any("bad address redacted:" in text for text in texts)
    assert any("checking redacted:" in text for text in texts)
    assert "enough of redacted:" in str(stopped.value)
    for text in texts:
        assert not re.search(r"user\d+|example\.org", text, re.IGNORECASE), text
    for _, email, _ in PEOPLE:
        assert email.encode() not in everything_in(tmp_path / "letters")


def strict(person):
    if person["grade"] == 3:
        raise ValueError(f"bad address {person['email']}")
    return {"id": person["id"], "email": person["email"]}


def test_failures_are_still_counted_and_replay_reads_the_source(people, job, tmp_path):
    run(people, job, tmp_path, strict)
    assert list(failures(job)["message"]) == ["bad address <redacted>"]
    assert len({record["email"] for record in dead_letters(job)["record"]}) == 6
    with pytest.raises(BadParameter, match=r"redacted columns do not have the records .* from_='source'"):
        replay_dead_letters(job, process=dict, from_="letter")
    with pytest.raises(FailureRateExceeded) as failed:
        replay_dead_letters(job, process=strict)
    assert "bad address redacted:" in str(failed.value)
    assert "example" not in str(failed.value) + "".join(dead_letters(job)["error_message"])
    replay_dead_letters(job, process=lambda person: {"id": person["id"], "email": person["email"]})
    assert people.rows("SELECT email FROM out WHERE id = 3") == [("user3@example.org",)]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [(["id"], "names id, which is part of the key of table people"), (["mail"], "but table people has id, email")],
)
def test_columns_that_cannot_be_redacted_are_refused(people, job, tmp_path, columns, sentence):
    with pytest.raises(BadParameter, match=sentence):
        process_records(
            job=job,
            source=Table(people.url, "people", key="id"),
            process=dict,
            sink=Table(people.url, "out", key="id"),
            dead_letters=str(tmp_path),
            redact=columns,
        )
