"""Law 11 of exactness: lost connections are shown as such and waited for, and any name works or is refused by name."""

import itertools

import pyarrow as pa
import pytest
from sqlalchemy import event

from prefect_batch import Table, process_records, reconcile
from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.databases import waiting
from prefect_batch.blocks.databases.connections import open_engine
from prefect_batch.blocks.errors import BadSink, BadSource, ConnectionLost
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.opening import open_sink, open_source
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import ItemRows


def of_kinds(*kinds):
    """Only on these databases."""
    return pytest.mark.parametrize("database", kinds, indirect=True)


KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mariadb": "KILL {}"}
SESSION = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT connection_id()"}


class Killer:
    """Ends sessions of the engine from another one, before those of its statements that are asked for."""

    def __init__(self, database, statements):
        self.database, self.left, self.engine = database, set(statements), open_engine(database.url)
        self.count = itertools.count()
        event.listen(self.engine, "before_cursor_execute", self._kill)

    def _kill(self, _connection, cursor, *_rest):
        if next(self.count) in self.left:
            cursor.execute(SESSION[self.database.kind])
            (session,) = cursor.fetchone()
            self.database.run(KILL[self.database.kind].format(session))

    def stop(self):
        event.remove(self.engine, "before_cursor_execute", self._kill)


@pytest.fixture
def table(database):
    database.run("CREATE TABLE src (id INTEGER PRIMARY KEY, v INTEGER)")
    database.many("INSERT INTO src VALUES (:n, :n)", [{"n": n} for n in range(50)])
    database.run("CREATE TABLE dst (id INTEGER PRIMARY KEY, v INTEGER)")
    return database


@of_kinds("postgresql", "mariadb")
def test_whatever_is_asked_is_asked_again_when_a_session_was_ended(table):
    """Checks, planning, estimates, reconciling: each of their statements in turn meets a session that was ended."""

    def asked():
        source, sink = open_source(Table(table.url, "src", key="id")), open_sink(Table(table.url, "dst", key="id"))
        side = source.key_side(("id",))
        return (
            source.check(),
            sink.check(pa.schema([])),
            source.last_key(),
            source.edges(None, (49,), 20, 8),
            source.back((49,), 10),
            source.estimate(None, (49,)),
            side.sum(ChunkRange(None, (49,))),
            list(side.keys(ChunkRange(None, (49,)))),
            side.beyond((40,)),
            side.has([(1,), (99,)], None, None),
        )

    expected = asked()
    assert expected[2:6] == ((49,), [(19,), (39,), (49,)], (39,), 50)
    count = 0
    while True:  # Until no statement is left to be killed.
        killer = Killer(table, {count})
        try:
            assert asked() == expected
        finally:
            killer.stop()
        if next(killer.count) <= count:
            break
        count += 3


@of_kinds("postgresql", "mariadb")
def test_what_does_not_come_back_is_shown_as_a_lost_connection(table, monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 0.1)
    source = open_source(Table(table.url, "src", key="id"))
    killer = Killer(table, set(range(1000)))
    try:
        with pytest.raises(ConnectionLost, match=r"the connection to the database of table src was lost, and in \d+ s"):
            source.last_key()
    finally:
        killer.stop()


@of_kinds("postgresql")
def test_a_session_that_ends_while_rows_are_read_is_shown_as_that(table):
    source = open_source(Table(table.url, "src", key="id"))
    batches = source.read(ChunkRange(None, (49,)), 10)
    next(batches)
    table.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pytest.raises(Exception, match="terminating connection") as caught:
        list(batches)
    assert blame_of(caught.value).passes


@of_kinds("postgresql", "mariadb")
def test_a_chunk_of_one_batch_needs_one_session(table):
    source, sink = open_source(Table(table.url, "src", key="id")), open_sink(Table(table.url, "dst", key="id"))
    pool = open_engine(table.url).pool
    chunk = ChunkRange(None, (49,))
    for batches in (source.read(chunk, 100), source.read_tables(chunk, 100)):
        batch = next(batches)
        assert len(batch) == 50
        assert pool.checkedout() == 0
        rows = [dict(zip(batch.names, row, strict=False)) for row in batch.rows]
        sink.prepare(rows, source.schema)
        with sink.transaction(PassRef("test", 1, "x"), chunk) as transaction:
            transaction.write(rows)
            assert pool.checkedout() == 1
        assert next(batches, None) is None


@pytest.mark.usefixtures("server")
@of_kinds("mariadb")
def test_a_reconciliation_goes_through_an_ended_session(table, job, tmp_path):
    source, sink = Table(table.url, "src", key="id"), Table(table.url, "dst", key="id")
    process_records(job, source, dict, sink, dead_letters=str(tmp_path / "letters"))
    killer = Killer(table, {0, 2})
    try:
        found = reconcile(job)
    finally:
        killer.stop()
    assert (found.status, found.source_keys) == ("agrees", 50)


@of_kinds("postgresql")
def test_a_name_with_a_schema_hints_at_schema(table):
    for opened in (
        open_source(Table(table.url, "public.src", key="id")),
        open_sink(Table(table.url, "public.dst", key="id")),
    ):
        with pytest.raises((BadSource, BadSink), match=r"Table\(…, '(src|dst)', schema='public'\)"):
            opened.check(*([] if hasattr(opened, "read") else [pa.schema([])]))


NAMES = [
    *("a\nb", "a`b", 'a"b', "a'b", "a%b", "a%sb", "a:b", ":b", "a;b--", "a$$b", "a\\b", "(a)", "a.b", "batch_0", " a"),
    *("?a", "{a}", "Select", "__record__", "é" * 31, "x" * 62),
]


def quoted(name, database):
    mark = "`" if database.kind == "mariadb" else '"'
    return mark + name.replace(mark, mark * 2) + mark


def plain(database, *statements):
    """Run statements without parameters, in which a percent sign is one."""
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        for statement in statements:
            driver.cursor().execute(statement)
        driver.commit()


# SQLAlchemy cannot read a line break in a name of MariaDB.
@pytest.mark.filterwarnings("ignore:Unknown:sqlalchemy.exc.SAWarning")
def test_any_name_works_or_is_refused_by_name(database):
    for name in NAMES:
        source, sink, key, column = (quoted(one, database) for one in (name, f"{name}2", name, f"{name}v"))
        plain(
            database,
            f"CREATE TABLE {source} ({key} INTEGER PRIMARY KEY, {column} INTEGER CHECK ({column} < 100))",
            f"CREATE TABLE {sink} ({key} INTEGER PRIMARY KEY, {column} INTEGER CHECK ({column} < 100))",
            *(f"INSERT INTO {source} VALUES ({n}, {n})" for n in range(20)),
        )
        try:
            opened = open_source(Table(database.url, name, key=name))
            opened.check()
        except BadSource as error:
            assert (database.kind, name) == ("mariadb", "a\nb")
            assert "rename" in str(error)  # noqa: PT017 - all other names go on
        else:
            read_and_written(database, opened, name)
        plain(database, f"DROP TABLE {source}", f"DROP TABLE {sink}")


def read_and_written(database, source, name):
    chunk = ChunkRange(None, source.last_key())
    (batch,) = source.read(chunk, 100)
    rows = [dict(zip(batch.names, row, strict=False)) for row in batch.rows]
    assert rows == [{name: n, f"{name}v": n} for n in range(20)]
    assert [len(batch) for batch in source.read_tables(chunk, 100)] == [20]
    rows[7][f"{name}v"] = 1000
    for mode in ("insert", "upsert", "upsert", "update"):
        sink = open_sink(Table(database.url, f"{name}2", key=name, write=mode))
        sink.check(source.schema)
        sink.prepare(rows, source.schema)
        offered = [row for row in rows if mode != "update" or row[name] != 7]
        with sink.transaction(PassRef("test", 1, "x"), chunk) as transaction:
            refused = isolate(transaction, ItemRows([*range(len(offered))], offered))
            transaction.commit()
        assert len(refused) == (mode != "update"), (name, mode, refused)


def test_a_made_table_has_the_names_that_were_asked_for_or_is_refused(database):
    for names in (["x" * 64], ["é" * 40], ["id", "ID"], ["x" * 70 + "a", "x" * 70 + "b"]):
        row = dict.fromkeys(names, 1)
        sink = open_sink(Table(database.url, "made", key=names[0], create=True))
        try:
            sink.prepare([row], pa.schema([]))
        except BadSink as error:
            assert any(name[:20] in str(error) for name in names), str(error)  # noqa: PT017
        else:
            with sink.transaction(PassRef("test", 1, "x"), ChunkRange(None, (1,))) as transaction:
                assert isolate(transaction, ItemRows([0], [row])) == []
                transaction.commit()
            plain(database, "DROP TABLE made")
