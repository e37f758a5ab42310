"""What one would write or take instead. Each case is a function of a `Setting`, and does all of the work."""

import itertools
import multiprocessing
import tempfile
from typing import NamedTuple

from data import Work
from functions import RECORD


class Setting(NamedTuple):
    """Where the work is: the table and its sink are in the database `url`; `processes` is how many do it."""

    url: str
    work: Work
    table: str
    processes: int = 1

    @property
    def clean(self):
        return RECORD[self.work.table]

    @property
    def upsert(self):
        key, names = ", ".join(self.work.key), self.work.names
        updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in self.work.key)
        return f"ON CONFLICT ({key}) DO UPDATE SET {updates}"

    def engine(self):
        from prefect_batch.blocks.databases.connections import open_engine

        return open_engine(self.url)


def naive(setting):
    """SQLAlchemy rows in keyset pages of 5,000, one upsert of many parameters and one commit a page."""
    from sqlalchemy import MetaData, Table, select, tuple_
    from sqlalchemy.dialects import postgresql, sqlite

    engine, metadata = setting.engine(), MetaData()
    source = Table(setting.table, metadata, autoload_with=engine)
    sink = Table("sink", metadata, autoload_with=engine)
    insert = (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(sink)
    key = [source.c[name] for name in setting.work.key]
    others = [name for name in setting.work.names if name not in setting.work.key]
    upsert = insert.on_conflict_do_update(
        index_elements=setting.work.key, set_={name: insert.excluded[name] for name in others}
    )
    last = (0,) * len(key)
    while True:
        with engine.begin() as connection:
            page = connection.execute(select(source).where(tuple_(*key) > tuple_(*last)).order_by(*key).limit(5000))
            rows = page.mappings().all()
            if not rows:
                return
            connection.execute(upsert, [setting.clean(row) for row in rows])
            last = tuple(rows[-1][name] for name in setting.work.key)


def with_pandas(setting):
    """read_sql in pieces, and to_sql, which can only append."""
    import pandas as pd

    engine = setting.engine()
    with engine.connect().execution_options(stream_results=True) as connection:
        for frame in pd.read_sql(f"SELECT * FROM {setting.table}", connection, chunksize=5000):
            columns = ["o_orderkey", "o_custkey", "o_totalprice", "o_orderdate", "o_comment"]
            kept = frame[columns].rename(columns={"o_totalprice": "total", "o_comment": "remark"})
            kept = kept.assign(total=(kept["total"].astype(float) * 1.19).round(2), remark=kept["remark"].str.upper())
            kept.to_sql("sink", engine, if_exists="append", index=False)


def with_dlt(setting):
    """`sql_database` on its Arrow backend, a function over the tables, merge into PostgreSQL by CSV."""
    import dlt
    from dlt.sources.sql_database import sql_table
    from functions import clean_order_table

    def clean(table):
        numbered = table.append_column("__record__", [list(range(table.num_rows))])
        return clean_order_table(numbered).drop_columns("__record__")

    user, at, place = setting.url.partition("@")
    if user.count(":") < 2:
        user += ":trusted"  # It wants a password, also where the server wants none.
    source = sql_table(
        setting.url.replace("://", "+psycopg://", 1), setting.table, backend="pyarrow", chunk_size=50_000
    )
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.postgres(user + at + place),
        dataset_name="bench_dlt",
        pipelines_dir=tempfile.mkdtemp(),
    )
    pipeline.run(
        source.add_map(clean),
        table_name="sink",
        write_disposition="merge",
        primary_key=list(setting.work.key),
        loader_file_format="csv",
    )


def _bounds(setting):
    """The ranges of the first key column that the processes get."""
    with setting.engine().connect() as connection:
        last = connection.exec_driver_sql(f"SELECT max({setting.work.key[0]}) FROM {setting.table}").scalar()
    edges = [last * part // setting.processes for part in range(setting.processes)] + [last]
    return list(itertools.pairwise(edges))


def _shared_out(work_on, setting):
    """Do each range in a process of its own."""
    ranges = _bounds(setting)
    setting.engine().dispose()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work_on, args=(setting, *ends)) for ends in ranges]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process ended with {process.exitcode}")


def script(setting):
    """The best by hand for PostgreSQL: a server-side cursor, COPY to a temporary table, and one merge a page."""
    _shared_out(_script, setting)


def script_append(setting):
    """The same with COPY straight into the sink, which cannot be repeated."""
    _shared_out(_script_append, setting)


def _script(setting, low, high):
    def write(cursor, page):
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS staged (LIKE sink) ON COMMIT DROP")
        _copy(cursor, "staged", page)
        cursor.execute(f"INSERT INTO sink SELECT * FROM staged {setting.upsert}")

    _pages(setting, low, high, write)


def _script_append(setting, low, high):
    _pages(setting, low, high, lambda cursor, page: _copy(cursor, "sink", page))


def _copy(cursor, into, records):
    with cursor.copy(f"COPY {into} FROM STDIN") as copy:
        for record in records:
            copy.write_row(list(record.values()))


def _pages(setting, low, high, write):
    import psycopg

    clean, first = setting.clean, setting.work.key[0]
    with psycopg.connect(setting.url) as reading, psycopg.connect(setting.url) as writing:
        rows = reading.cursor(name="page")
        condition = f"{first} > {low} AND {first} <= {high}"
        rows.execute(f"SELECT * FROM {setting.table} WHERE {condition} ORDER BY {', '.join(setting.work.key)}")
        names = None
        while page := rows.fetchmany(5000):
            names = names or [column.name for column in rows.description]
            write(writing.cursor(), [clean(dict(zip(names, row))) for row in page])  # noqa: B905 - strict= costs time
            writing.commit()


def insert_select(setting):
    """One statement in the database, with the same upsert."""
    with setting.engine().begin() as connection:
        # PostgreSQL's FROM … WHERE true keeps SQLite from taking ON CONFLICT for a join's condition.
        select = setting.work.select.format(table=setting.table)
        connection.exec_driver_sql(f"INSERT INTO sink {select} WHERE true {setting.upsert}")


def insert_select_in_chunks(setting):
    """The same in chunks of 50,000 rows by key, each a transaction with a row of its checkpoint."""
    with setting.engine().begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS checkpoint (low BIGINT PRIMARY KEY, upto BIGINT)")
        connection.exec_driver_sql("DELETE FROM checkpoint")
    _shared_out(_insert_chunks, setting)


def _insert_chunks(setting, low, high):
    key, select = setting.work.key[0], setting.work.select.format(table=setting.table)
    with setting.engine().connect() as connection:
        run = connection.exec_driver_sql
        after = low
        while after < high:
            edge = f"SELECT {key} FROM {setting.table} WHERE {key} > {after} AND {key} <= {high} ORDER BY {key}"
            upto = run(f"{edge} LIMIT 1 OFFSET 49999").scalar() or high
            run(f"INSERT INTO sink {select} WHERE {key} > {after} AND {key} <= {upto} {setting.upsert}")
            run(f"INSERT INTO checkpoint VALUES ({low}, {upto}) ON CONFLICT (low) DO UPDATE SET upto = excluded.upto")
            connection.commit()
            after = upto
