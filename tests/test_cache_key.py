"""The cache key of a chunk: each ingredient changes it, and nothing else does."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from prefect.cache_policies import NO_CACHE

from prefect_batch import Files, Query, Table
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.tasks.plan.begin import define
from prefect_batch.tasks.run_chunk import chunk_task
from prefect_batch.tasks.work.trial import Trial
from prefect_batch.tasks.work.work_chunk import ChunkJob

URL, OTHER_URL = "sqlite:///shop.db", "sqlite:///other.db"
TABLE = {"connection": URL, "name": "orders", "key": "id"}
SINK = {"connection": URL, "name": "orders_clean", "key": "id"}
QUERY = {"connection": URL, "sql": "SELECT * FROM orders", "key": "id"}
CSV = {"path": "in/*.csv", "format": "csv"}
PARTS = {"path": "out", "format": "parquet"}
JOB = ChunkJob(
    job="clean-orders",
    pass_number=1,
    pass_id="3f2a",
    run_id="run-1",
    source=Table(**TABLE),
    sink=Table(**SINK),
    process="shop.orders:clean",
    dead_letters="/letters",
)
RANGE = ChunkRange((1,), (9,))
BOUND = {"arguments": {"tenant": "value 1"}, "variables": {"rate": "value 2"}}


def key_of(job=JOB, chunk=RANGE, *, source=None, sink=None, process="shop.orders:clean", bound=BOUND, **options) -> str:
    ends = source or Table(**TABLE), sink or Table(**SINK)
    definition = json.dumps(define(*ends, process, bound), sort_keys=True)
    options = {"retries": 3, "retry_delay_seconds": 1.0, **options}
    task = chunk_task(job, definition=definition, **options)
    return task.cache_policy.compute_key(None, {"job": job, "chunk": chunk}, {})


# How a value that is not the default looks, for each field of a source or a sink.
SOURCE_FIELDS = {
    Table: {
        "connection": OTHER_URL,
        "name": "returns",
        "key": "number",
        "schema": "shop",
        "columns": ["id"],
        "where": "id > 7",
        "write": "insert",
        "create": True,
        "ledger": False,
        "skipped": "filtered",
    },
    Query: {"connection": OTHER_URL, "sql": "SELECT * FROM returns", "key": "number"},
    Files: {
        "path": "in/*.txt",
        "format": "jsonl",
        "schema": {"a": "int64"},
        "columns": ["a"],
        "storage": "secret/bucket",
        "compression": "gzip",
        "encoding": "latin-1",
        "delimiter": ";",
        "quote": "'",
        "escape": "\\",
        "header": False,
        "names": ["a", "b"],
        "nulls": ["NULL"],
        "text_nulls": True,
        "multiline": False,
        "allow_empty": True,
        "compact": True,
    },
}
SINK_FIELDS = {
    Table: {**SOURCE_FIELDS[Table], "write": "insert"},
    Files: {**SOURCE_FIELDS[Files], "path": "elsewhere", "format": "csv", "compression": "zstd"},
}
# What changes no row that is read: how a sink is written, and whether no file at all is an error.
NOT_OF_SOURCE = {Table: {"write", "create", "ledger", "skipped"}, Query: set(), Files: {"allow_empty", "compact"}}
# What changes no row that is written: what is read, whether a missing table is made, and what is done after the pass.
NOT_OF_SINK = {
    Table: {"columns", "where", "create"},
    Files: {"columns", "compact", "allow_empty", "encoding", "quote", "escape", "names", "nulls", "text_nulls"}
    | {"multiline"},
}


@pytest.mark.parametrize("kind", [Table, Query, Files])
def test_all_that_decides_what_is_read_is_in_the_key(kind):
    base = {Table: TABLE, Query: QUERY, Files: CSV}[kind]
    assert SOURCE_FIELDS[kind].keys() == {field.name for field in fields(kind)} - {"kind"}
    before = key_of(source=kind(**base))
    for name, value in SOURCE_FIELDS[kind].items():
        same = key_of(source=kind(**{**base, name: value})) == before
        assert same == (name in NOT_OF_SOURCE[kind]), name


@pytest.mark.parametrize("kind", [Table, Files])
def test_all_that_decides_what_is_written_is_in_the_key(kind):
    base = {Table: SINK, Files: {"path": "out", "format": "csv"}}[kind]
    base_of = {"format": {"path": "out", "format": "parquet"}} if kind is Files else {}
    assert SINK_FIELDS[kind].keys() == {field.name for field in fields(kind)} - {"kind"}
    for name, value in SINK_FIELDS[kind].items():
        chosen = base_of.get(name, base)
        same = key_of(sink=kind(**{**chosen, name: value})) == key_of(sink=kind(**chosen))
        assert same == (name in NOT_OF_SINK[kind]), name


def test_each_kind_of_end_has_a_key_of_its_own():
    keys = [key_of(source=source) for source in (Table(**TABLE), Query(**QUERY), Files(**CSV))]
    keys += [key_of(sink=Files(**PARTS))]
    assert len(set(keys)) == 4


def test_the_processor_is_in_the_key_by_its_name():
    assert key_of(process="shop.orders:clean_all") != key_of()


@pytest.mark.parametrize("part", ["arguments", "variables"])
def test_what_is_bound_to_the_processor_changes_it(part):
    name = next(iter(BOUND[part]))
    assert key_of(bound={**BOUND, part: {name: "value 3"}}) != key_of()


@pytest.mark.parametrize(
    "chunk",
    [
        ChunkRange(None, (9,)),
        ChunkRange((0,), (9,)),
        ChunkRange((1,), (8,)),
        ChunkRange((1,), (9, 1)),
        ChunkRange(("1",), ("9",)),
        ChunkRange((datetime(2026, 1, 1, tzinfo=UTC),), (9,)),
    ],
    ids=lambda chunk: chunk.text,
)
def test_both_ends_of_the_range_are_in_the_key(chunk):
    assert key_of(chunk=chunk) != key_of()
    assert key_of(chunk=ChunkRange.decode(chunk.encode())) == key_of(chunk=chunk)


# Of a chunk's job, what says which pass of which job it is of. Source, sink and process are there as the definition.
INGREDIENTS = {"job": "other-orders", "pass_number": 2, "pass_id": "77aa"}
OTHERS = {
    "run_id": "run-2",
    "source": Table(**{**TABLE, "name": "returns"}),
    "sink": Table(**{**SINK, "name": "returns"}),
    "process": "shop.orders:clean_all",
    "dead_letters": "/elsewhere",
    "batch_rows": 7,
    "record_retries": 2,
    "record_timeout": 1.5,
    "redact": ("email",),
    "hold_refused": True,
    "bury_large": True,
    "in_place": "yes",
    "most_rows": 100,
    "trial": Trial(only=1),
    "marked": True,
}


@pytest.mark.parametrize("name", sorted({field.name for field in fields(ChunkJob)} - {"dry_run"}))
def test_of_a_chunks_job_the_pass_is_in_the_key_and_how_the_work_is_done_is_not(name):
    value = {**INGREDIENTS, **OTHERS}[name]
    assert (key_of(replace(JOB, **{name: value})) != key_of()) == (name in INGREDIENTS)


@pytest.mark.parametrize("options", [{"retries": 9}, {"retry_delay_seconds": 9.0}])
def test_retries_are_not_in_the_key(options):
    assert key_of(**options) == key_of()


def test_a_dry_run_has_no_cache():
    task = chunk_task(replace(JOB, dry_run=True), definition="", retries=0, retry_delay_seconds=0)
    assert task.cache_policy == NO_CACHE
    assert task.persist_result is False
