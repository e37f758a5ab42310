"""Every refusal: nothing is read or written, and the sentence says what to do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_batch import Query, Table, process_records, processor
from prefect_batch.blocks import passwords
from prefect_batch.blocks.credentials import check_url
from prefect_batch.blocks.databases import check_source as source_check
from prefect_batch.blocks.errors import (
    BadParameter,
    BadPlace,
    BadProcessor,
    BadSink,
    BadSource,
    DefinitionChanged,
)
from prefect_batch.blocks.opening import open_source
from prefect_batch.blocks.passwords import hide_passwords


@pytest.fixture
def shop(sqlite):
    sqlite.run(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, qty INTEGER, region TEXT, ref INTEGER)",
        "CREATE TABLE orders_clean (id INTEGER PRIMARY KEY, total REAL)",
        "CREATE TABLE loose (id INTEGER, total REAL)",
        "CREATE VIEW recent AS SELECT * FROM orders",
    )
    sqlite.many("INSERT INTO orders VALUES (:id, 1, NULL, :id)", [{"id": n} for n in range(20)])
    return sqlite


def keep(record):
    return {"id": record["id"], "total": 1}


@pytest.fixture
def run(shop, server, job, tmp_path):
    def call(**parameters):
        defaults = {
            "job": job,
            "source": Table(shop.url, "orders", key="id"),
            "process": keep,
            "sink": Table(shop.url, "orders_clean", key="id"),
            "dead_letters": str(tmp_path / "letters"),
        }
        return process_records(**{**defaults, **parameters})

    return call


def refused(error, *sentences):
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, sentences)))


@pytest.mark.parametrize(
    ("name", "key", "sentences"),
    [
        ("order", "id", ["there is no table order in the sqlite database", "did you mean", "orders"]),
        ("xyz", "id", ["there is no table xyz", "there are loose, orders, orders_clean, recent"]),
        ("orders", "ids", ["table orders has no key column ids: did you mean id?"]),
        ("orders", "region", ["20 rows with NULL in key column region", "where='region IS NOT NULL'"]),
    ],
)
def test_sources_that_cannot_be_walked(run, shop, name, key, sentences):
    with refused(BadSource, *sentences):
        run(source=Table(shop.url, name, key=key))


def test_columns_and_conditions_that_do_not_exist(run, shop):
    with refused(BadSource, "table orders has no column quantity: ", "qty"):
        run(source=Table(shop.url, "orders", key="id", columns=["id", "quantity"]))
    with refused(BadSource, "table orders cannot be read", "no such column: colour"):
        run(source=Table(shop.url, "orders", key="region", where="colour = 1"))


def test_queries_that_are_wrong(run, shop):
    with refused(BadSource, "the query has no key column nr", "id"):
        run(source=Query(shop.url, "SELECT id FROM orders", key="nr"))
    with refused(BadSource, "the query cannot be read", "no such table: nowhere"):
        run(source=Query(shop.url, "SELECT id FROM nowhere", key="id"))


def test_floating_point_keys_are_refused_where_they_are_not_exact(postgresql):
    postgresql.run("CREATE TABLE t (k real PRIMARY KEY)")
    with refused(BadSource, "key column k is a floating-point number"):
        open_source(Table(postgresql.url, "t", key="k")).check()


def test_a_key_of_nan_is_refused(postgresql):
    postgresql.run("CREATE TABLE t (k numeric PRIMARY KEY)", "INSERT INTO t VALUES (1), ('NaN')")
    with refused(BadSource, "NaN in its key"):
        open_source(Table(postgresql.url, "t", key="k")).last_key()


def test_a_large_table_without_an_index_on_its_key_is_warned_of(shop, monkeypatch):
    monkeypatch.setattr(source_check, "LARGE", 10)
    warning = "table orders has no index on its key (ref), so every chunk sorts or scans all of it: create one"
    assert open_source(Table(shop.url, "orders", key="ref")).check() == [warning]
    assert open_source(Table(shop.url, "orders", key="id")).check() == []
    assert open_source(Query(shop.url, "SELECT * FROM orders", key="id")).check() == []
    assert "no index" in open_source(Query(shop.url, "SELECT * FROM orders", key="ref")).check()[0]
    shop.run("CREATE INDEX by_ref ON orders (ref, qty)")
    assert open_source(Table(shop.url, "orders", key="ref")).check() == []


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_query_that_sorts_is_warned_of(kind, request, monkeypatch, tmp_path):
    from tests.conftest import _database

    database = _database(kind, request, tmp_path)
    database.run("CREATE TABLE big (id INTEGER PRIMARY KEY, ref INTEGER)")
    database.many("INSERT INTO big VALUES (:n, :n)", [{"n": n} for n in range(3000)])
    database.run("ANALYZE TABLE big" if kind == "mariadb" else "ANALYZE big")
    monkeypatch.setattr(source_check, "LARGE", 1000)
    try:
        assert open_source(Query(database.url, "SELECT id, ref FROM big", key="id")).check() == []
        assert "no index" in open_source(Query(database.url, "SELECT id, ref FROM big", key="ref")).check()[0]
    finally:
        from prefect_batch.blocks.databases.connections import close_engines

        close_engines()
        database.clear()


def test_sinks_that_cannot_be_written(run, shop):
    with refused(BadSink, "there is no table clean", "orders_clean, recent. Create it", "create=True"):
        run(sink=Table(shop.url, "clean", key="id"))
    with refused(BadSink, "there is no table order_clean", "did you mean", "orders_clean? Create it"):
        run(sink=Table(shop.url, "order_clean", key="id"))
    with refused(BadSink, "nothing to update"):
        run(sink=Table(shop.url, "clean", key="id", write="update", create=True))
    with refused(BadSink, "no primary key or unique index on (id)", "CREATE UNIQUE INDEX ON loose (id)"):
        run(sink=Table(shop.url, "loose", key="id"))
    with refused(BadSink, "table orders_clean has no key column nr; it has id, total"):
        run(sink=Table(shop.url, "orders_clean", key="nr"))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"chunk_size": 0}, "chunk_size=0 must be 1 or more, or None"),
        ({"concurrency": 0}, "concurrency=0 must be 1 or more"),
        ({"limit": 0}, "limit=0 must be 1 or more, or None"),
        ({"retries": -1}, "retries=-1 must be 0 or more"),
        ({"retry_delay_seconds": -1}, "retry_delay_seconds=-1.0 must be 0 or more"),
        ({"record_retries": -1}, "record_retries=-1 must be 0 or more"),
        ({"max_failure_rate": 5}, "max_failure_rate=5.0 must be a share from 0 to 1: 0.05 is 5 %"),
        ({"max_failures": -1}, "max_failures=-1 must be 0 or more, or None"),
        ({"min_records": -1}, "min_records=-1 must be 0 or more"),
        ({"job": "Clean Orders"}, "job='Clean Orders' must be at most 60 lowercase letters"),
        ({"job": "../x"}, "must be at most 60 lowercase letters"),
        ({"overlap": 5}, "overlap goes with mode='incremental'"),
        ({"overlap": -5, "mode": "incremental"}, "overlap=-5 must not be negative"),
    ],
)
def test_parameters_out_of_range(run, parameters, sentence):
    with refused(BadParameter, sentence):
        run(**parameters)


def test_an_overlap_in_time_needs_a_key_in_time(run):
    from datetime import timedelta

    run(mode="incremental")
    with refused(BadParameter, "the key starts with a int: give a number of records instead"):
        run(mode="incremental", overlap=timedelta(hours=1))


def test_an_overlap_into_plain_inserts(run, shop):
    with refused(BadParameter, "overlap=5 reads records again", "would write them twice: use write='upsert'"):
        run(mode="incremental", overlap=5, sink=Table(shop.url, "loose", key="id", write="insert"))


@pytest.mark.parametrize("key", ["", [], ["id", "id"], ["id", ""]])
def test_an_empty_key(key):
    with refused(ValueError, "key must name at least one column, each once"):
        Table("sqlite:///x.db", "orders", key=key)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host/db",
        "mysql://me:hun%40ter2@host/db",
        "postgresql://host/db?user=me&password=hunter2",
        "postgresql+psycopg://me:hun@ter2@host/db",
    ],
)
def test_a_password_in_a_parameter(url):
    with refused(
        ValueError, "the connection carries a password", "prefect-batch secret shop", "env/SHOP_URL"
    ) as raised:
        Table(url, "orders", key="id")
    assert "hunter2" not in str(raised.value)
    assert "ter2" not in hide_passwords(url)
    with pytest.raises(BadParameter):
        check_url(url)


PIECES = ["://", "me", ":", "hunter2", "@", "=", "PassWord", "ssl", "pwd", "\u017f", "pa", "wd", "&", " "]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_looking_first_whether_there_may_be_a_password_hides_no_less(text):
    in_urls = passwords._IN_URL.sub(r"\1:***@", text)
    assert hide_passwords(text) == passwords._PARAMETER.sub(r"\1=***", in_urls)


@pytest.mark.parametrize("text", ["PASSWORD=hunter2", "the pa\u017f\u017fwd=hunter2 was refused", "pwd=hunter2"])
def test_a_password_is_hidden_in_whatever_spelling(text):
    assert "hunter2" not in hide_passwords(text)


def test_a_connection_that_is_none():
    with refused(ValueError, "the connection cannot be read; write an SQLAlchemy URL such as"):
        Table("shop.db", "orders", key="id")


@pytest.mark.parametrize("end", ["source", "sink", "query"])
def test_a_file_of_a_database_that_does_not_exist_is_not_made(run, end, tmp_path):
    place = tmp_path / "missing" / "shop.db"
    place.parent.mkdir()
    url = f"sqlite:///{place}"
    ends = {"query": Query(url, "SELECT * FROM orders", key="id")}
    named = {"source" if end == "query" else end: ends.get(end, Table(url, "orders", key="id"))}
    with refused(BadSink if end == "sink" else BadSource, f"there is no file {place}"):
        run(**named)
    assert not list(place.parent.iterdir())


def test_a_block_that_does_not_exist(run):
    with refused(BadParameter, "there is no block secret/nothing"):
        run(source=Table("secret/nothing", "orders", key="id"))


def test_a_secret_holds_the_url(run, shop, job):
    from prefect.blocks.system import Secret

    Secret(value=shop.url).save(job, _sync=True)
    assert run(source=Table(f"secret/{job}", "orders", key="id")).run.written == 20


def test_an_environment_variable_holds_the_url(run, shop, monkeypatch):
    monkeypatch.setenv("SHOP_URL", shop.url)
    assert run(source=Table("env/SHOP_URL", "orders", key="id")).run.written == 20


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set(run, value, monkeypatch):
    monkeypatch.delenv("SHOP_URL", raising=False) if value is None else monkeypatch.setenv("SHOP_URL", value)
    with refused(BadParameter, "the environment variable SHOP_URL is not set where this runs"):
        run(source=Table("env/SHOP_URL", "orders", key="id"))


def test_a_connector_holds_the_engine(run, shop, job):
    from prefect_sqlalchemy import SqlAlchemyConnector

    SqlAlchemyConnector(connection_info=shop.url).save(job, _sync=True)
    assert run(sink=Table(f"sqlalchemy-connector/{job}", "orders_clean", key="id")).run.written == 20


@pytest.mark.parametrize(
    ("process", "sentences"),
    [
        ("os:system", ["'os:system' is not marked: put @prefect_batch.processor above the function"]),
        ("nowhere.at_all:f", ["cannot be imported", "is the package installed where the flow runs?"]),
        ("os:nothing", ["cannot be imported"]),
        ("os", ["must look like 'package.module:function'"]),
    ],
)
def test_processors_that_may_not_be_called(run, process, sentences):
    with refused(BadProcessor, *sentences):
        run(process=process)


def test_a_process_that_is_no_function(run):
    with pytest.raises(Exception, match="process must be a function, or an import path"):
        run(process=7)


def test_a_generator_is_refused(run):
    def several(record):
        yield record

    with refused(BadProcessor, "must return its records, as a list if there are several, and not yield"):
        run(process=several)


def test_async_and_vectorized_is_refused(run):
    @processor(vectorized=True)
    async def both(frame):
        return frame

    with refused(BadProcessor, "cannot be both async and vectorized"):
        run(process=both)


def test_a_changed_definition_on_resume(run, shop):
    run(limit=5, chunk_size=5)
    with refused(
        DefinitionChanged,
        "has an unfinished pass that was started with another definition",
        "source.where: was None, is now 'id > 3'",
        "Go back to the former definition, or start a new pass from the beginning with restart=True",
    ):
        run(source=Table(shop.url, "orders", key="id", where="id > 3"))
    with refused(DefinitionChanged, "unfinished full pass", "restart=True"):
        run(mode="incremental")
    report = run(source=Table(shop.url, "orders", key="id", where="id > 3"), restart=True)
    assert report.run.read == 16
    # The pass is complete: another definition may follow, but not incrementally.
    assert run().run.read == 20
    with refused(DefinitionChanged, "goes on incrementally from a pass that had another definition"):
        run(mode="incremental", sink=Table(shop.url, "orders_clean", key="id", write="insert"))


def test_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "taken").touch()
    with refused(BadPlace, "dead letters cannot be written to", "name another place with dead_letters="):
        run(dead_letters=str(tmp_path / "taken"))


def test_unknown_fields_are_refused_without_repeating_values():
    from pydantic import TypeAdapter

    with pytest.raises(ValueError, match="tabel") as raised:
        TypeAdapter(Table).validate_python({"connection": "postgresql://u:hunter2@h/d", "tabel": "x", "key": "id"})
    assert "hunter2" not in str(raised.value)
