"""Dead letters: files that other programs read, whole or not there at all."""

import itertools
import json
import os
import stat
import traceback
from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.dead_letter import DeadLetter, Origin
from prefect_batch.blocks.errors import BadPlace
from prefect_batch.blocks.letters.bury import GROUP_ROWS, DeadLetters
from prefect_batch.blocks.letters.ids import LetterSet
from prefect_batch.blocks.letters.place import full_place, open_place
from prefect_batch.blocks.letters.purge import purge_letters
from prefect_batch.blocks.letters.read import count_letters, newest_pass, read_letters
from prefect_batch.blocks.letters.record_json import decode_record
from prefect_batch.blocks.letters.status import Decision, save_decision
from prefect_batch.tasks import error_text as traces
from prefect_batch.tasks.error_text import normalise
from prefect_batch.tasks.letters.group import deepest_frame, group_letters

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("price", pa.decimal128(10, 2)),
        ("day", pa.date32()),
        ("raw", pa.binary()),
    ]
)
GOOD = {"id": 1, "name": "a", "price": Decimal("1.50"), "day": date(2024, 1, 1), "raw": b"\x00"}
COLUMNS = [
    *("id", "job", "pass", "generation", "run_id", "chunk", "key", "stage", "error_type", "error_message"),
    *("traceback", "attempts", "failed_at", "record", "record_json", "redacted"),
    *("status", "decided_at", "decided_by", "reason"),
]


def letter(record, **fields):
    now = datetime(2024, 1, 1, tzinfo=UTC)
    base = {"key": (record["id"],), "stage": "process", "error_type": "E", "error_message": "m", "traceback": "t"}
    return DeadLetter(**{**base, "attempts": 1, "failed_at": now, "record": record, **fields})


def bury(place, chunk, records, pass_number=1, **fields):
    with DeadLetters(str(place), "job", pass_number, SCHEMA).open(chunk, "run") as burial:
        burial.add([letter(record, **fields) for record in records])
        return burial.finish()


FIRST, SECOND = ChunkRange(None, (5,)), ChunkRange((5,), (9,))


def test_the_columns_are_those_that_the_documentation_names(tmp_path):
    bury(tmp_path, FIRST, [GOOD])
    frame = read_letters(str(tmp_path), "job")
    assert list(frame.columns) == COLUMNS
    assert frame.iloc[0]["record"] == GOOD
    assert decode_record(frame.iloc[0]["record_json"]) == GOOD
    assert frame.iloc[0]["chunk"] == "(start, 5]"
    assert str(frame["failed_at"].dtype).endswith("UTC]")


def test_files_open_together_also_where_a_column_is_null_in_one(tmp_path):
    bury(tmp_path, FIRST, [GOOD])
    bury(tmp_path, SECOND, [dict.fromkeys(GOOD) | {"id": 7}])
    assert len(read_letters(str(tmp_path), "job")) == 2
    assert len(pd.read_parquet(tmp_path / "job")) == 2
    table = ds.dataset(tmp_path / "job", format="parquet").to_table()
    assert table.schema.field("record").type.field("price").type == pa.decimal128(10, 2)
    found = duckdb.sql(f"SELECT record.price, record.id FROM '{tmp_path}/job/*/*.parquet' ORDER BY 2").fetchall()
    assert found == [(Decimal("1.50"), 1), (None, 7)]


def test_a_value_that_does_not_fit_its_column_is_whole_in_the_text(tmp_path):
    odd = {"id": 1, "name": "\ud800", "price": "12,5", "day": "soon", "raw": "text"}
    bury(tmp_path, FIRST, [odd, GOOD])
    first, second = (row for _, row in read_letters(str(tmp_path), "job").iterrows())
    assert first["record"]["price"] is None
    assert first["record"]["day"] is None
    assert decode_record(first["record_json"]) == odd
    assert second["record"] == GOOD


def test_a_repeated_chunk_replaces_its_file_or_removes_it(tmp_path):
    path = bury(tmp_path, FIRST, [GOOD, GOOD])
    assert bury(tmp_path, FIRST, [GOOD]) == path
    assert len(read_letters(str(tmp_path), "job")) == 1
    assert bury(tmp_path, FIRST, []) is None
    assert read_letters(str(tmp_path), "job").empty
    assert list(read_letters(str(tmp_path), "job").columns) == COLUMNS


def test_a_chunk_that_is_not_finished_leaves_no_file(tmp_path):
    directory = tmp_path / "job" / "pass-000001"
    with DeadLetters(str(tmp_path), "job", 1, SCHEMA).open(FIRST, "run") as burial:
        burial.add([letter(GOOD)] * GROUP_ROWS)
        assert len(list(directory.iterdir())) == 1  # Some are written already.
        burial.add([letter(GOOD)])
    assert list(directory.iterdir()) == []


def test_letters_of_wide_records_do_not_gather_in_memory(tmp_path):
    wide = [{**GOOD, "id": n, "name": "x" * 1_000_000} for n in range(9)]
    groups = pq.ParquetFile(bury(tmp_path, FIRST, wide)).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [4, 4, 1]
    assert sorted(record["id"] for record in read_letters(str(tmp_path), "job")["record"]) == list(range(9))


def test_leftovers_of_a_crash_are_not_read(tmp_path):
    bury(tmp_path, FIRST, [GOOD])
    directory = tmp_path / "job" / "pass-000001"
    (directory / ".abc-1.tmp").write_bytes(b"half a file")
    (directory / ".abc.parquet").write_bytes(b"half a file")
    assert len(read_letters(str(tmp_path), "job")) == 1


def test_nobody_else_can_read_them(tmp_path):
    path = bury(tmp_path / "new", FIRST, [GOOD])
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_passes_are_kept_apart(tmp_path):
    assert newest_pass(str(tmp_path), "job") == 0
    bury(tmp_path, FIRST, [GOOD], pass_number=1)
    bury(tmp_path, FIRST, [GOOD, GOOD], pass_number=12)
    assert newest_pass(str(tmp_path), "job") == 12
    assert len(read_letters(str(tmp_path), "job", 1)) == 1
    assert len(read_letters(str(tmp_path), "job")) == 3


def test_a_password_in_a_message_is_hidden(tmp_path):
    bury(tmp_path, FIRST, [GOOD], error_message="at postgresql://me:hunter2@host/db", traceback="mysql://me:hunter2@h")
    row = read_letters(str(tmp_path), "job").iloc[0]
    assert "hunter2" not in row["error_message"] + row["traceback"]


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2500])
def test_many_letters_are_written_in_groups(tmp_path, count):
    bury(tmp_path, FIRST, [GOOD] * count)
    assert len(read_letters(str(tmp_path), "job")) == count


def test_a_place_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadPlace, match=r"dead letters cannot be written to .*file/job: .* name another"):
        DeadLetters(str(tmp_path / "file"), "job", 1, SCHEMA).check()


def again(place, replay, records, origins):
    """Bury letters of these origins in a replay."""
    with DeadLetters(str(place), "job--replay", replay, SCHEMA).open(FIRST, "run") as burial:
        burial.add([letter(record, origin=origin) for record, origin in zip(records, origins, strict=True)])
        return burial.finish()


def test_a_letter_keeps_its_id_when_it_fails_again(tmp_path):
    bury(tmp_path, FIRST, [GOOD, GOOD | {"id": 2}], pass_number=3)
    first, second = read_letters(str(tmp_path), "job")["id"]
    assert (first, second) == (f"3.{FIRST.digest}.0", f"3.{FIRST.digest}.1")
    again(tmp_path, 2, [GOOD | {"id": 2}], [Origin(second, 3, FIRST.text, 1)])
    frame = read_letters(str(tmp_path), "job", 3)
    assert list(frame["id"]) == [first, second]
    assert list(frame["generation"]) == [0, 2]
    assert list(frame["pass"]) == [3, 3]
    assert read_letters(str(tmp_path), "job", 2).empty
    assert (newest_pass(str(tmp_path), "job"), newest_pass(str(tmp_path), "job--replay")) == (3, 2)


def test_statuses_are_the_join_of_files_and_acts(tmp_path):
    bury(tmp_path, FIRST, [GOOD | {"id": n} for n in range(4)])
    place = open_place(str(tmp_path))
    ids = list(read_letters(str(tmp_path), "job")["id"])
    save_decision(
        place, "job", "one", Decision("discarded", LetterSet(ids[1:3]), "ada", "2024-01-01T00:00:00", "test data")
    )
    save_decision(place, "job", "two", Decision("resolved", LetterSet(ids[2:3]), "replay 1", "2024-01-02T00:00:00"))
    frame = read_letters(str(tmp_path), "job")
    assert list(frame["status"]) == ["open", "discarded", "resolved", "open"]
    assert list(frame["reason"]) == ["", "test data", "", ""]
    assert list(frame["decided_by"]) == ["", "ada", "replay 1", ""]
    assert count_letters(place, "job") == {"open": 2, "resolved": 1, "discarded": 1}
    assert list(read_letters(str(tmp_path), "job", status="open")["id"]) == [ids[0], ids[3]]
    # Other programs still see nothing but letters.
    assert len(pd.read_parquet(tmp_path / "job")) == 4
    assert ds.dataset(tmp_path / "job", format="parquet").count_rows() == 4
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/job/**/*.parquet'").fetchall() == [(4,)]


def test_an_act_that_was_edited_to_nonsense_is_an_error_and_not_an_open_letter(tmp_path):
    bury(tmp_path, FIRST, [GOOD])
    place = open_place(str(tmp_path))
    save_decision(
        place, "job", "one", Decision("resolved", LetterSet(read_letters(str(tmp_path), "job")["id"]), "x", "y")
    )
    (tmp_path / "job" / "_status" / "one.json").write_text("{}")
    with pytest.raises(BadPlace, match=r"one\.json is not what prefect-batch wrote there .* restore it"):
        read_letters(str(tmp_path), "job")


IDS = st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["aa", "0f", "b1"]), st.integers(0, 40)), max_size=60)


@given(IDS, IDS)
def test_a_set_of_letters_comes_back_from_json(some, others):
    ids, absent = ({f"{number}.{digest}.{row}" for number, digest, row in found} for found in (some, others))
    found = LetterSet.decode(json.loads(json.dumps(LetterSet(ids).encode())))
    assert set(found) == ids
    assert len(found) == len(ids)
    assert all((letter in found) == (letter in ids) for letter in absent)
    assert list(found) == sorted(ids, key=lambda i: (int(i.split(".")[0]), i.split(".")[1], int(i.split(".")[2])))


@pytest.mark.parametrize(
    ("message", "normalised"),
    [
        ("no row 17 in 'orders'", "no row <n> in <text>"),
        ('invalid literal for int() with base 10: "x7"', "invalid literal for int() with base <n>: <text>"),
        ("user 3F2504E0-4F89-11D3-9A0C-0305E82C3301 is gone", "user <uuid> is gone"),
        ("at 2024-01-02T03:04:05Z: -1,234.5e3", "at <time>: <n>"),
        ("object at 0x7f3a", "object at <hex>"),
        ("it's what they don't do", "it's what they don't do"),
        ("Key (email)=(ada@x.org) already exists.", "Key (email)=(<value>) already exists."),
        ("sha256 of utf8\n  text", "sha256 of utf8 text"),
    ],
)
def test_messages_are_grouped_by_what_they_have_in_common(message, normalised):
    assert normalise(message) == normalised


@given(st.integers(), st.integers(), st.uuids(), st.uuids(), st.text("abc '", max_size=9), st.text('x"\\n', max_size=9))
def test_messages_that_differ_in_their_values_only_are_one_group(n, m, u, v, s, t):
    assert normalise(f"row {n} of {u!s} has {s!r}") == normalise(f"row {m} of {v!s} has {t!r}")


def test_the_frame_shown_is_the_users_deepest():
    def inner():
        json.loads("{")

    try:
        inner()
    except ValueError:
        text = traceback.format_exc()
    assert deepest_frame(text).endswith(" in inner")
    assert deepest_frame(text).startswith("test_letters.py:")
    assert deepest_frame("") == ""


@pytest.mark.parametrize(("failing", "shown"), [(1, True), (2, True), (99, False)])
def test_a_stack_that_python_cannot_print_costs_no_letter(monkeypatch, failing, shown):
    """Python 3.11.7 sometimes cannot, while another thread does the same."""
    calls = itertools.count()
    plain = traceback.format_exception

    def sometimes(*args):
        if next(calls) < failing:
            raise SystemError("AST constructor recursion depth mismatch")
        return plain(*args)

    def broken():
        raise ValueError(f"bad {failing}")

    monkeypatch.setattr(traceback, "format_exception", sometimes)
    monkeypatch.setattr(traces, "_stacks", {})
    for _ in range(2):
        try:
            broken()
        except ValueError as error:
            text = traces.trace_text(error, error.__traceback__)
        assert text.endswith(f"ValueError: bad {failing}\n")
        assert (" in broken\n" in text) is shown
    assert bool(traces._stacks) is shown


def test_groups_count_and_show_an_example():
    def row(n, message, second, kind="ValueError"):
        when = datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC)
        return {"id": f"1.a.{n}", "error_type": kind, "error_message": message, "traceback": "", "key": f"[{n}]"} | {
            "failed_at": when,
            "stage": "process",
            "attempts": n,
        }

    rows = [row(1, "bad 1", 5), row(2, "bad 2", 3), row(3, "worse", 9), row(4, "bad 2", 4, "KeyError")]
    groups = group_letters([*rows, row(5, "bad 9", 8)])
    assert [(g.number, g.error_type, g.message, g.count) for g in groups] == [
        (1, "ValueError", "bad <n>", 3),
        (2, "KeyError", "bad <n>", 1),
        (3, "ValueError", "worse", 1),
    ]
    assert (groups[0].first.second, groups[0].last.second, groups[0].attempts) == (3, 8, 5)
    assert (groups[0].example_key, groups[0].example_message) == ("2", "bad 2")


@pytest.fixture
def memory():
    import fsspec

    yield "memory://letters"
    fsspec.filesystem("memory").store.clear()


def test_a_place_in_memory(memory):
    letters = DeadLetters(memory, "job", 1, SCHEMA)
    letters.check()
    path = bury(memory, FIRST, [GOOD, GOOD])
    assert path == f"memory://letters/job/pass-000001/{FIRST.digest}.parquet"
    frame = read_letters(memory, "job")
    assert list(frame["record"]) == [GOOD, GOOD]
    place = open_place(memory)
    save_decision(place, "job", "one", Decision("resolved", LetterSet(frame["id"][:1]), "x", "y"))
    assert count_letters(place, "job") == {"open": 1, "resolved": 1, "discarded": 0}
    assert bury(memory, FIRST, []) is None
    assert read_letters(memory, "job").empty


def test_a_chunk_that_is_not_finished_leaves_nothing_in_a_store(memory):
    with DeadLetters(memory, "job", 1, SCHEMA).open(FIRST, "run") as burial:
        burial.add([letter(GOOD)])
    assert open_place(memory).find("job") == []


def test_a_file_url_is_a_directory(tmp_path):
    path = bury(f"file://{tmp_path}/new", FIRST, [GOOD])
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert {stat.S_IMODE(os.stat(tmp_path / "new" / d).st_mode) for d in ("", "job", "job/pass-000001")} == {0o700}
    assert len(pd.read_parquet(tmp_path / "new" / "job")) == 1


@pytest.mark.parametrize("place", ["s3://me:secret@bucket/x", "sftp://me:secret@host/x"])
def test_a_place_with_credentials_is_refused_without_showing_them(place):
    with pytest.raises(BadPlace, match="carries credentials") as refused:
        full_place(place)
    assert "secret" not in str(refused.value)


def test_a_place_on_s3(s3_bucket):
    s3 = f"{s3_bucket}/letters"
    letters = DeadLetters(s3, "job", 1, SCHEMA)
    letters.check()
    assert read_letters(s3, "job").empty
    path = bury(s3, FIRST, [GOOD, GOOD | {"id": 2}])
    assert path == f"s3://bucket/letters/job/pass-000001/{FIRST.digest}.parquet"
    assert list(read_letters(s3, "job")["record"]) == [GOOD, GOOD | {"id": 2}]
    assert len(pd.read_parquet("s3://bucket/letters/job")) == 2
    assert bury(s3, FIRST, [GOOD]) == path
    place = open_place(s3)
    (left,) = read_letters(s3, "job")["id"]
    save_decision(place, "job", "one", Decision("resolved", LetterSet([left]), "x", "2024-01-01T00:00:00+00:00"))
    assert count_letters(place, "job") == {"open": 0, "resolved": 1, "discarded": 0}
    assert purge_letters(place, "job", datetime.now(UTC)) == 1
    assert place.find("job") == ["job/_place"]
    with DeadLetters(s3, "job", 1, SCHEMA).open(SECOND, "run") as burial:
        burial.add([letter(GOOD)])  # A chunk that dies.
    assert place.find("job") == ["job/_place"]


@pytest.mark.usefixtures("s3_bucket")
def test_a_bucket_that_is_missing_is_refused_and_not_made():
    with pytest.raises(BadPlace, match=r"dead letters cannot be written to s3://nowhere/x/job: .*does not exist"):
        DeadLetters("s3://nowhere/x", "job", 1, SCHEMA).check()


def test_a_place_of_an_unknown_kind_is_refused():
    with pytest.raises(BadPlace, match="dead letters cannot be kept at nowhere://x: Protocol not known"):
        open_place("nowhere://x")
