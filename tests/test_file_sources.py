"""One suite for files of every format: what a source promises."""

import gzip
import json
import pickle
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefect_batch import Files
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.errors import BadParameter, BadSource, DefinitionChanged
from prefect_batch.blocks.opening import PinnedFiles, open_source
from prefect_batch.testing import SourceCase, exercise_source
from prefect_batch.testing.walk import walk

ROWS = [{"n": n, "t": text} for n, text in enumerate(["a", "é", "", "x,y", 'a"b', "two\nlines", "漢\r\n", " ", "NULL"])]


def quoted(value):
    return '"' + str(value).replace('"', '""') + '"'


def write(path, rows, form):
    """The rows as a file of this form."""
    if form == "parquet":
        table = pa.Table.from_pylist(rows, pa.schema([("n", pa.int64()), ("t", pa.string())]))
        pq.write_table(table, path, row_group_size=4)
        return
    if form.startswith("jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        end = "\r\n" if form == "csv crlf" else "\n"
        lines = ["n,t", *(f"{row['n']},{quoted(row['t'])}" for row in rows)]
        text = end.join(lines) + ("" if form == "csv no end" else end)
    raw = text.encode("utf-16" if form == "csv utf-16" else "utf-8-sig" if form == "csv bom" else "utf-8")
    path.write_bytes(gzip.compress(raw) if form.endswith("gzip") else raw)


FORMS = {
    "csv": {},
    "csv crlf": {},
    "csv no end": {},
    "csv bom": {},
    "csv utf-16": {"encoding": "utf-16"},
    "csv gzip": {"compression": "gzip"},
    "jsonl": {},
    "jsonl schema": {"schema": {"n": "int64", "t": "string"}},
    "jsonl gzip": {"compression": "gzip"},
    "parquet": {},
}


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def opened(path, form, **more):
    kind = form.partition(" ")[0]
    if kind == "csv":
        more = {"schema": {"n": "int64"}, **more}
    source = open_source(Files(str(path), format=kind, **FORMS[form], **more))
    source.check()
    return source


def values(rows):
    return [(row["n"], row["t"]) for row in rows]


def test_a_file_of_any_form_passes_the_suite_for_sources(tmp_path, form):
    kind = form.partition(" ")[0]

    def make(count):
        path = tmp_path / f"{count}.{kind}"
        rows = [{"n": n, "t": ROWS[n % len(ROWS)]["t"]} for n in range(count)]
        write(path, rows, form)
        return SourceCase(partial(opened, path, form), rows, divides=not form.endswith("gzip"))

    exercise_source(make)


def test_several_files_are_one_walk(tmp_path, form):
    kind = form.partition(" ")[0]
    for name, part in (("a", ROWS[:4]), ("b", []), ("c", ROWS[4:5]), ("d", ROWS[5:])):
        write(tmp_path / f"{name}.{kind}", part, form)
    if kind != "parquet":
        (tmp_path / f"c2.{kind}").write_bytes(b"")
    (tmp_path / "_SUCCESS").write_text("")
    source = opened(tmp_path, form)
    for rows_per_chunk in (1, 2, 3, 5, 100):
        found = walk(source, rows_per_chunk)
        assert [row[:2] for row in found.rows] == values(ROWS)
        assert not found.unreadable
    assert source.estimate(None, source.last_key()) > 0


def test_a_chunk_gets_the_files_of_the_pass_in_another_process(tmp_path, form):
    write(tmp_path / "a", ROWS, form)
    source = opened(tmp_path / "a", form)
    pinned = pickle.loads(pickle.dumps(PinnedFiles(source.spec, source.files)))
    assert walk(open_source(pinned), 4) == walk(source, 4)


def test_a_file_that_changes_during_a_pass_is_refused(tmp_path, form):
    write(tmp_path / "a", ROWS, form)
    source = opened(tmp_path / "a", form)
    chunk = ChunkRange(None, source.last_key())
    write(tmp_path / "a", [*ROWS, *ROWS], form)
    with pytest.raises(DefinitionChanged, match=r"the file a is not what it was.*bytes.*restart=True"):
        list(source.read(chunk, 10))
    (tmp_path / "a").unlink()
    with pytest.raises(DefinitionChanged, match=r"the file a is not what it was.*it is gone"):
        list(opened_again(source).read(chunk, 10))


def opened_again(source):
    return open_source(PinnedFiles(source.spec, source.files))


def test_columns_are_chosen_in_the_order_asked_for(tmp_path, form):
    write(tmp_path / "a", ROWS, form)
    source = opened(tmp_path / "a", form, columns=["t", "n"])
    assert source.names == ("t", "n")
    assert [row[0] for row in walk(source, 4).rows] == [row["t"] for row in ROWS]
    with pytest.raises(BadSource, match=r"no column tt.*did you mean t\?"):
        opened(tmp_path / "a", form, columns=["tt", "n"])


def test_overlap_is_not_for_files(tmp_path, form):
    write(tmp_path / "a", ROWS, form)
    source = opened(tmp_path / "a", form)
    with pytest.raises(BadParameter, match="an incremental pass reads new files whole"):
        source.back(source.last_key(), 3)


def test_records_are_found_by_their_keys(tmp_path, form):
    write(tmp_path / "a", ROWS, form)
    source = opened(tmp_path / "a", form)
    found = walk(source, 4).rows
    keys = [source.key_of(row) for row in found]
    again = [row for batch in source.find([*keys[::3], ("a", 10**9, 1), ("b", 0, 1)]) for row in batch.rows]
    assert sorted(again) == sorted(found[::3])


def test_a_record_is_not_found_where_the_file_has_others_now(tmp_path):
    write(tmp_path / "a", ROWS, "csv")
    keys = [row[-3:] for row in walk(opened(tmp_path / "a", "csv"), 100).rows]
    write(tmp_path / "a", [{"n": 0, "t": "another length"}, *ROWS[1:]], "csv")
    assert list(opened(tmp_path / "a", "csv").find(keys[1:])) == []
