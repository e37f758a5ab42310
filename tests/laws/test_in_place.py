"""A sink knows whether it writes to what its source reads, by whatever name or URL, and keeps a ledger then."""

import os
from urllib.parse import urlsplit

import pytest

from prefect_batch import Query, Table
from prefect_batch.blocks.databases.connections import close_engines
from prefect_batch.blocks.opening import introduce, open_sink, open_source


@pytest.fixture
def tables(database):
    database.run(
        "CREATE TABLE mine (id INTEGER PRIMARY KEY, v INTEGER)",
        "CREATE TABLE other (id INTEGER PRIMARY KEY, v INTEGER)",
        "CREATE VIEW few AS SELECT id, v FROM mine WHERE v < 5",
        "CREATE VIEW fewer AS SELECT id, v FROM few WHERE v < 4",
    )
    yield database
    close_engines()
    database.run("DROP VIEW fewer", "DROP VIEW few")


def answer(source, sink, write="update"):
    opened = open_sink(Table(sink.connection, sink.name, key="id", schema=sink.schema, write=write))
    found = introduce(opened, open_source(source))
    assert opened.needs_ledger == (found != "no" or write in ("insert", "append"))
    return found


def other_urls(database, tmp_path):
    """URLs of the same database."""
    url = database.url
    if database.kind == "sqlite":
        link, folder = tmp_path / "link.db", tmp_path / "folder"
        link.symlink_to(tmp_path / "test.db")
        os.link(tmp_path / "test.db", tmp_path / "hard.db")
        folder.mkdir()
        paths = [link, tmp_path / "hard.db", f"{folder}/../test.db"]
        uri = f"sqlite:///file:{tmp_path}/test.db?mode=rw&uri=true"
        return [f"sqlite:///{path}" for path in paths] + [f"sqlite+pysqlite:///{tmp_path}/test.db", uri]
    at, name = urlsplit(url).netloc, urlsplit(url).path
    user = at.rpartition("@")[0]
    scheme, driver, port = (
        url.partition(":")[0],
        *{"postgresql": ("psycopg", 5432)}.get(database.kind, ("pymysql", 3306)),
    )
    urls = [
        f"{scheme}+{driver}://{at}{name}",
        f"{scheme}://{user}@127.0.0.1:{port}{name}",
        f"{scheme}://{user}@localhost{name}",
    ]
    return urls if database.kind == "postgresql" else [*urls, f"mariadb://{at}{name}"]


def test_the_same_table_is_known_by_every_url(tables, tmp_path):
    for url in [tables.url, *other_urls(tables, tmp_path)]:
        for write in ("update", "upsert", "append"):
            assert answer(Table(url, "mine", key="id"), Table(tables.url, "mine", key="id"), write) == "yes", url
        assert answer(Table(url, "other", key="id"), Table(tables.url, "mine", key="id")) == "no", url


def test_it_is_known_behind_views_and_queries_that_name_it(tables):
    mine = Table(tables.url, "mine", key="id")
    assert answer(Table(tables.url, "few", key="id"), mine) == "yes"
    assert answer(mine, Table(tables.url, "few", key="id")) == "yes"
    assert answer(Query(tables.url, "SELECT id, v FROM mine WHERE v < 9", key="id"), mine) == "yes"


def test_where_nobody_knows_there_is_a_ledger(tables):
    mine = Table(tables.url, "mine", key="id")
    assert answer(Table(tables.url, "fewer", key="id"), mine) == "perhaps"
    assert answer(Query(tables.url, "SELECT id, v FROM few", key="id"), mine) == "perhaps"
    waiting = Table(tables.url, "other", key="id", where="id NOT IN (SELECT id FROM mine)")
    assert answer(waiting, mine) == "perhaps"


def test_databases_of_two_kinds_and_tables_that_are_not_reached_share_nothing(tables, tmp_path):
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    query = Query(elsewhere, "SELECT 1 AS id, 2 AS v", key="id")
    assert answer(query, Table(tables.url, "mine", key="id")) == "no"
    missing = Table(tables.url, "not_made_yet", key="id")
    assert answer(Table(tables.url, "mine", key="id"), missing, "upsert") == "no"


def test_of_two_files_with_the_same_table_one_is_not_the_other(sqlite, tmp_path):
    sqlite.run("CREATE TABLE mine (id INTEGER PRIMARY KEY)")
    (tmp_path / "copy.db").write_bytes((tmp_path / "test.db").read_bytes())
    source = Table(f"sqlite:///{tmp_path}/copy.db", "mine", key="id")
    assert answer(source, Table(sqlite.url, "mine", key="id")) == "perhaps"


def test_partitions_are_the_table_that_they_belong_to(postgresql):
    postgresql.run(
        "CREATE TABLE whole (id INTEGER, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF whole FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF whole FOR VALUES FROM (10) TO (20)",
        "CREATE SCHEMA IF NOT EXISTS apart",
        "CREATE TABLE apart.whole (id INTEGER PRIMARY KEY)",
    )
    try:
        whole, low, high = (Table(postgresql.url, name, key="id") for name in ("whole", "low", "high"))
        assert [answer(whole, low), answer(low, whole), answer(low, high)] == ["yes", "yes", "no"]
        assert answer(whole, Table(postgresql.url, "whole", key="id", schema="public")) == "yes"
        assert answer(whole, Table(postgresql.url, "whole", key="id", schema="apart")) == "no"
    finally:
        close_engines()
        postgresql.run("DROP SCHEMA apart CASCADE", "DROP TABLE whole CASCADE")
