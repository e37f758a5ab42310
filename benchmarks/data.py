"""The tables of the benchmarks: orders and lineitem of TPC-H, made by tpchgen-cli, in PostgreSQL and SQLite."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

HOME = Path(os.environ.get("PREFECT_BATCH_BENCH", str(Path(tempfile.gettempdir()) / "prefect-batch-bench")))
POSTGRESQL = os.environ.get("PREFECT_BATCH_BENCH_POSTGRESQL", "postgresql://root@127.0.0.1/prefect_batch_bench")


@dataclass(frozen=True)
class Work:
    """A table to read, what it becomes, and the same said in SQL; `check` sums up the sink."""

    table: str
    key: tuple[str, ...]
    columns: str
    sink: str
    select: str
    check: str

    @property
    def names(self) -> list[str]:
        """The sink's columns."""
        return [column.split()[0] for column in self.sink.split(", ")]


ORDERS = Work(
    "orders",
    ("o_orderkey",),
    "o_orderkey BIGINT, o_custkey BIGINT, o_orderstatus TEXT, o_totalprice NUMERIC(15,2), o_orderdate DATE, "
    "o_orderpriority TEXT, o_clerk TEXT, o_shippriority INTEGER, o_comment TEXT",
    "o_orderkey BIGINT, o_custkey BIGINT, total NUMERIC(15,2), o_orderdate DATE, remark TEXT",
    "SELECT o_orderkey, o_custkey, round(o_totalprice * 1.19, 2), o_orderdate, upper(o_comment) FROM {table}",
    "SELECT count(*), sum(total), sum(length(remark)), sum(o_custkey), count(DISTINCT o_orderdate) FROM {sink}",
)
LINEITEM = Work(
    "lineitem",
    ("l_orderkey", "l_linenumber"),
    "l_orderkey BIGINT, l_partkey BIGINT, l_suppkey BIGINT, l_linenumber INTEGER, l_quantity NUMERIC(15,2), "
    "l_extendedprice NUMERIC(15,2), l_discount NUMERIC(15,2), l_tax NUMERIC(15,2), l_returnflag TEXT, "
    "l_linestatus TEXT, l_shipdate DATE, l_commitdate DATE, l_receiptdate DATE, l_shipinstruct TEXT, l_shipmode TEXT, "
    "l_comment TEXT",
    "l_orderkey BIGINT, l_linenumber INTEGER, total NUMERIC(15,2), l_shipdate DATE, remark TEXT",
    "SELECT l_orderkey, l_linenumber, round(l_extendedprice * (1 - l_discount) * (1 + l_tax), 2), l_shipdate, "
    "upper(l_comment) FROM {table}",
    "SELECT count(*), sum(total), sum(length(remark)), sum(l_linenumber), count(DISTINCT l_shipdate) FROM {sink}",
)
WORKS = {work.table: work for work in (ORDERS, LINEITEM)}


def parquet(table, scale):
    """The table at this scale factor as a Parquet file."""
    directory = HOME / f"tpch-{scale:g}"
    file = directory / f"{table}.parquet"
    if not file.exists():
        tool = shutil.which("tpchgen-cli", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        if tool is None:
            sys.exit("tpchgen-cli is missing: pip install 'prefect-batch[bench]'")
        command = [tool, "parquet", f"--scale-factor={scale}", f"--tables={table}", f"--output-dir={directory}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return file


def url_of(database, scale):
    """The database with the tables at this scale factor."""
    return POSTGRESQL if database == "postgresql" else f"sqlite:///{HOME}/tpch-{scale:g}.db"


def table_name(work, scale):
    return f"{work.table}_{scale:g}".replace(".", "_")


def load(database, work, scale):
    """Put the table into the database, if it is not there; its name, and its number of rows."""
    from sqlalchemy import create_engine, text

    from prefect_batch.blocks.databases.connections import open_engine

    if database == "postgresql":
        name = POSTGRESQL.rpartition("/")[2]
        server = create_engine(POSTGRESQL.replace("://", "+psycopg://", 1).removesuffix(name) + "postgres")
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :n"), {"n": name}).scalar():
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
    file, name = pq.ParquetFile(parquet(work.table, scale)), table_name(work, scale)
    rows = file.metadata.num_rows
    engine = open_engine(url_of(database, scale))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {name} ({work.columns}, PRIMARY KEY ({', '.join(work.key)}))"
        )
        if connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() == rows:
            return name, rows
        connection.exec_driver_sql(f"DELETE FROM {name}")
        for batch in file.iter_batches(100_000):
            (_to_postgresql if database == "postgresql" else _to_sqlite)(
                connection, name, pa.Table.from_batches([batch])
            )
    if database == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM ANALYZE {name}")
            connection.exec_driver_sql("CHECKPOINT")
    return name, rows


def _to_postgresql(connection, name, table):
    text = pa.BufferOutputStream()
    columns = [c.cast(pa.string()) if c.type == pa.string_view() else c for c in table.columns]
    csv.write_csv(pa.table(columns, names=table.column_names), text, csv.WriteOptions(include_header=False))
    cursor = connection.connection.driver_connection.cursor()
    with cursor, cursor.copy(f"COPY {name} FROM STDIN (FORMAT csv)") as copy:
        copy.write(memoryview(text.getvalue()))


def _to_sqlite(connection, name, table):
    columns = []
    for column in table.columns:
        if pa.types.is_decimal(column.type):
            # Not by Arrow's cast, which misses the nearest float by a digit: it would no longer be the decimal.
            columns.append([float(value) for value in column.to_pylist()])
        else:
            columns.append((column.cast(pa.string()) if pa.types.is_date(column.type) else column).to_pylist())
    places = ", ".join("?" * len(columns))
    connection.exec_driver_sql(f"INSERT INTO {name} VALUES ({places})", list(zip(*columns, strict=True)))


def fresh_sink(url, work, extra=""):
    """An empty table `sink` for what the work makes; the name of the sink."""
    from prefect_batch.blocks.databases.connections import open_engine

    with open_engine(url).begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS sink")
        connection.exec_driver_sql(f"CREATE TABLE sink ({work.sink}, PRIMARY KEY ({', '.join(work.key)}){extra})")
    return "sink"
