"""Which dead letters are meant by a selection."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.letters.bury import DeadLetters
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.read import read_rows
from prefect_batch.tasks.letters.choose import Selection, Unfinished, choose

SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.int64())])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Letters of the keys 3, 7, 13, 17 … 97 of pass 1, in four chunks; those with a 3 are ValueErrors."""
    root = tmp_path_factory.mktemp("letters")
    for low in range(0, 100, 25):
        with DeadLetters(str(root), "job", 1, SCHEMA).open(ChunkRange((low,), (low + 25,)), "run") as burial:
            burial.add([_letter(n) for n in range(low, low + 25) if n % 10 in (3, 7)])
            burial.finish()
    return open_place(str(root))


def _letter(n):
    kind, message = ("ValueError", f"three in {n}") if n % 10 == 3 else ("shop.errors.Seven", "'seven'")
    failed_at = datetime(2024, 1, 1, n // 10, tzinfo=UTC)
    return DeadLetter((n,), "process", kind, message, "", 1, failed_at, {"id": n, "n": n})


def keys(place, selection, unfinished=None):
    choice = choose(place, "job", selection, unfinished or Unfinished())
    ids = [
        i
        for path, runs in choice.replay_list.files
        for t in read_rows(place, path, runs, ["id"])
        for i in t["id"].to_pylist()
    ]
    assert ids == choice.ids
    tables = [t for path, runs in choice.replay_list.files for t in read_rows(place, path, runs, ["key"])]
    return sorted(int(key.strip("[]")) for table in tables for key in table["key"].to_pylist())


THREES, SEVENS = list(range(3, 100, 10)), list(range(7, 100, 10))


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({}, sorted(THREES + SEVENS)),
        ({"error_type": "ValueError"}, THREES),
        ({"error_type": "shop.errors.Seven"}, SEVENS),
        ({"error_type": "Seven"}, SEVENS),
        ({"error_type": "even"}, []),
        ({"message": "three in 4"}, [43]),
        ({"message": "three in <n>"}, THREES),
        ({"message": "<text>"}, SEVENS),
        ({"key": ("13",)}, [13]),
        ({"key": ("13", "27", "28")}, [13, 27]),
        ({"since": datetime(2024, 1, 1, 9)}, [93, 97]),
        ({"until": datetime(2024, 1, 1, 1, tzinfo=UTC)}, [3, 7]),
        ({"where": "record.n > 90"}, [93, 97]),
        ({"where": "error_type LIKE '%Seven' AND (record.n < 20 OR letter.attempts > 1)"}, [7, 17]),
        ({"where": "failed_at >= '2024-01-01T09'"}, [93, 97]),
        ({"where": "record.n > 90", "error_type": "ValueError"}, [93]),
        ({"pass_number": 1, "key": ("13",)}, [13]),
        ({"pass_number": 7}, []),
    ],
)
def test_letters_are_selected(place, asked, chosen):
    assert keys(place, Selection(**asked)) == chosen


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("nonsense =", "where='nonsense =' cannot be evaluated: .*syntax error; it is an SQL condition on id"),
        ("record.price = 1", "no such column: record.price; it is"),
        ("1); DROP TABLE letter; --", "one statement|syntax error"),
        ("load_extension('x') = 1", "not authorized"),
        ("EXISTS (SELECT 1 FROM pragma_database_list)", "not authorized|prohibited"),
        ("EXISTS (WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n FROM r) SELECT 1 FROM r)", "not authorized"),
    ],
)
def test_a_condition_can_only_look_at_letters(place, condition, sentence):
    with pytest.raises(BadParameter, match=sentence):
        keys(place, Selection(where=condition))


def test_a_span_of_time_has_a_beginning_and_an_end():
    with pytest.raises(BadParameter, match="must be before until"):
        Selection(since=datetime(2024, 2, 1), until=datetime(2024, 1, 1))


def test_unfinished_letters_are_left_out_and_counted(place):
    everything = choose(place, "job", Selection(), Unfinished())
    (first, _), (second, runs), *_ = everything.replay_list.files
    unfinished = Unfinished(frozenset({first})) | Unfinished(rows={second: {runs[0][0]}})
    choice = choose(place, "job", Selection(), unfinished)
    assert choice.unfinished == 6
    assert len(choice.ids) == 14
