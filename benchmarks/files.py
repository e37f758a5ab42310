"""Races jobs that read or write files against the scripts that one would write by hand with pyarrow, pandas and polars,
and against dlt.

As in run.py every case is a process of its own, rounds are interleaved, ratios are taken within a round, and what was
written is compared: a case that lost a row fails. All of them do the same: read five columns, make a total and an upper
case, and write four columns.

    python benchmarks/files.py [--rows 5000000] [--rounds 3] [--pairs csv-parquet …] [--cases pyarrow …] [--memory]
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.json as pajson
import pyarrow.parquet as pq
from measure import prefect_server, timed

WHERE = Path(os.environ.get("PREFECT_BATCH_BENCH", tempfile.gettempdir())) / "prefect-batch-files"
POSTGRESQL = os.environ.get("PREFECT_BATCH_TEST_POSTGRESQL", "postgresql://root@127.0.0.1/test")
TYPES = {"id": "int64", "customer": "int64", "price": "double", "placed": "date32", "remark": "string"}
SCHEMA = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in TYPES.items()])
OUT = pa.schema([("id", pa.int64()), ("total", pa.float64()), ("placed", pa.date32()), ("remark", pa.string())])
COLUMNS = "id BIGINT PRIMARY KEY, total DOUBLE PRECISION, placed DATE, remark TEXT"
PIECE = 500_000


def build(form, rows):
    """The orders as CSV, JSON Lines or Parquet; made once, and kept for the next run."""
    path = WHERE / f"orders-{rows}.{form}"
    if path.exists():
        return path
    WHERE.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with WRITERS[form](partial) as write:
        for first in range(0, rows, PIECE):
            write(orders(first, min(rows, first + PIECE)))
    return partial.replace(path)


def orders(first, stop):
    """The orders with these numbers."""
    n = pa.array(range(first, stop))
    days = pa.array([date(2024, 1, 1) + timedelta(days=n) for n in range(365)], pa.date32())

    def part(of):
        return pc.subtract(n, pc.multiply(pc.divide(n, of), of))

    remark = pc.binary_join_element_wise("remark on order ", pc.cast(n, pa.string()), "")
    price = pc.divide(pc.cast(part(100_000), pa.float64()), 100.0)
    return pa.table([n, part(9973), price, days.take(part(365)), remark], schema=SCHEMA)


@contextlib.contextmanager
def csv_writer(path):
    with pacsv.CSVWriter(path, SCHEMA, write_options=pacsv.WriteOptions(quoting_style="needed")) as file:
        yield file.write_table


@contextlib.contextmanager
def parquet_writer(path):
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as file:
        yield lambda table: file.write_table(table, row_group_size=122_880)


@contextlib.contextmanager
def lines_writer(path):
    with path.open("wb") as file:
        yield lambda table: write_lines(file, table)


WRITERS = {"csv": csv_writer, "parquet": parquet_writer, "jsonl": lines_writer}


def write_lines(file, table):
    import orjson

    columns = [column.to_pylist() for column in table.columns]
    for row in zip(*columns, strict=True):
        file.write(orjson.dumps(dict(zip(table.column_names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE))


def clean(order):
    """The function of the record cases."""
    total = round(order["price"] * 1.19, 2)
    return {"id": order["id"], "total": total, "placed": order["placed"], "remark": order["remark"].upper()}


def clean_columns(table):
    """The same in columns."""
    total = pc.round(pc.multiply(table["price"], 1.19), 2)
    columns = {"id": table["id"], "total": total, "placed": table["placed"], "remark": pc.utf8_upper(table["remark"])}
    return pa.table(columns)


def clean_polars(frame):
    import polars as pl

    total = (pl.col("price") * 1.19).round(2).alias("total")
    return frame.select("id", total, "placed", pl.col("remark").str.to_uppercase())


def clean_pandas(frame):
    frame = frame[["id", "price", "placed", "remark"]].rename(columns={"price": "total"})
    return frame.assign(total=(frame["total"] * 1.19).round(2), remark=frame["remark"].str.upper())


# What one would write by hand: streamed, in the library's own fast way.


def batches_of(path):
    if path.endswith(".csv"):
        return pacsv.open_csv(path, convert_options=pacsv.ConvertOptions(column_types=SCHEMA))
    if path.endswith(".jsonl"):
        # pyarrow reads no dates from JSON.
        texts = SCHEMA.set(SCHEMA.get_field_index("placed"), pa.field("placed", pa.string()))
        parse, read = pajson.ParseOptions(explicit_schema=texts), pajson.ReadOptions(block_size=8 * 2**20)
        return (pa.table(batch).cast(SCHEMA) for batch in pajson.open_json(path, read, parse))
    return pq.ParquetFile(path).iter_batches(batch_size=122_880)


def pyarrow_into_parquet(path, out):
    with pq.ParquetWriter(f"{out}.parquet", OUT, compression="zstd") as writer:
        for batch in batches_of(path):
            writer.write_table(clean_columns(pa.table(batch)))


def polars_into_parquet(path, out):
    import polars as pl

    frame = pl.scan_csv(path, schema=polars_types()) if path.endswith(".csv") else pl.scan_parquet(path)
    clean_polars(frame).sink_parquet(f"{out}.parquet", compression="zstd")


def polars_types():
    import polars as pl

    return {"id": pl.Int64, "customer": pl.Int64, "price": pl.Float64, "placed": pl.Date, "remark": pl.String}


def pandas_into_parquet(path, out):
    import pandas as pd

    if path.endswith(".csv"):
        frames = pd.read_csv(path, chunksize=500_000, parse_dates=["placed"])
    else:
        frames = (pa.table(batch).to_pandas() for batch in pq.ParquetFile(path).iter_batches(batch_size=500_000))
    Path(out).mkdir()
    for number, frame in enumerate(frames):
        clean_pandas(frame).to_parquet(f"{out}/{number:05d}.parquet", compression="zstd")


def pyarrow_into_postgresql(path, out):
    """COPY into a temporary table, and one upsert a batch."""
    import psycopg

    del out
    update = "total = excluded.total, placed = excluded.placed, remark = excluded.remark"
    with psycopg.connect(POSTGRESQL) as connection, connection.cursor() as cursor:
        for batch in batches_of(path):
            cursor.execute("CREATE TEMP TABLE IF NOT EXISTS staged (LIKE bench_sink) ON COMMIT DROP")
            content = pa.BufferOutputStream()
            options = pacsv.WriteOptions(include_header=False)
            pacsv.write_csv(clean_columns(pa.table(batch)), content, options)
            with cursor.copy("COPY staged FROM STDIN (FORMAT csv)") as copy:
                copy.write(content.getvalue().to_pybytes())
            cursor.execute(f"INSERT INTO bench_sink SELECT * FROM staged ON CONFLICT (id) DO UPDATE SET {update}")
            connection.commit()


def script_into_sqlite(path, out):
    """json.loads and executemany, 5,000 lines at a time."""
    import itertools
    import sqlite3

    insert = (
        "INSERT INTO bench_sink VALUES (?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET total = excluded.total, placed = excluded.placed, remark = excluded.remark"
    )
    with contextlib.closing(sqlite3.connect(f"{out}.db")) as connection, Path(path).open(encoding="utf-8") as lines:
        while piece := list(itertools.islice(lines, 5_000)):
            connection.executemany(insert, [tuple(clean(json.loads(line)).values()) for line in piece])
            connection.commit()


def polars_into_sqlite(path, out):
    """All lines in memory, and executemany."""
    import sqlite3

    import polars as pl

    frame = clean_polars(pl.read_ndjson(path, schema=polars_types()))
    with contextlib.closing(sqlite3.connect(f"{out}.db")) as connection:
        connection.executemany("INSERT INTO bench_sink VALUES (?, ?, ?, ?)", frame.iter_rows())
        connection.commit()


def pandas_into_sqlite(path, out):
    """Append only."""
    import pandas as pd
    import sqlalchemy as sa

    sink = sa.create_engine(f"sqlite:///{out}.db")
    for frame in pd.read_json(path, lines=True, chunksize=100_000):
        frame["placed"] = pd.to_datetime(frame["placed"]).dt.date
        clean_pandas(frame).to_sql("bench_sink", sink, if_exists="append", index=False)


def polars_into_postgresql(path, out):
    """All rows in memory, and ADBC's binary COPY; append only."""
    import polars as pl

    del out
    frame = clean_polars(pl.scan_parquet(path)).collect(engine="streaming")
    frame.write_database("bench_sink", POSTGRESQL, engine="adbc", if_table_exists="append")


def with_dlt(path, out):
    """A resource of Arrow tables, as dlt is fastest with; into files or, replacing, into a database."""
    import dlt

    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    table = dlt.resource((clean_columns(pa.table(batch)) for batch in batches_of(path)), name="bench_sink")
    if "postgresql" in out:
        user, at, place = POSTGRESQL.partition("@")
        if user.count(":") < 2:
            user += ":trusted"  # It wants a password, also where the server wants none.
        target, form = dlt.destinations.postgres(user + at + place), "csv"
    elif "sqlite" in out:
        target, form = dlt.destinations.sqlalchemy(f"sqlite:///{out}.db"), "parquet"
    else:
        target, form = dlt.destinations.filesystem(f"file://{out}"), "parquet"
    pipeline = dlt.pipeline(
        f"bench_{os.getpid()}", destination=target, dataset_name="bench_dlt", pipelines_dir=f"{out}-dlt"
    )
    pipeline.run(table, write_disposition="replace", loader_file_format=form)


# Ours.


def ours(path, out, process=clean, **parameters):
    from prefect_batch import Files, Table, process_records

    if "sqlite" in out:
        sink = Table(f"sqlite:///{out}.db", "bench_sink", key="id")
    elif "postgresql" in out:
        sink = Table(POSTGRESQL, "bench_sink", key="id")
    else:
        sink = Files(out, "parquet")
    process_records(
        job=f"bench-{os.getpid()}",
        source=Files(path, schema=None if path.endswith(".parquet") else TYPES),
        process=process,
        sink=sink,
        dead_letters=f"{out}-letters",
        **parameters,
    )


def ours_in_columns(path, out, **parameters):
    from prefect_batch import processor

    @processor(vectorized=True)
    def clean_table(table: pa.Table):
        return clean_columns(table).append_column("__record__", table["__record__"])

    ours(path, out, clean_table, **parameters)


OURS = {
    "ours, Arrow": ours_in_columns,
    "ours, Arrow, 1 at once": lambda path, out: ours_in_columns(path, out, concurrency=1),
    "ours, records": ours,
}
INTO_PARQUET = {
    "pyarrow": pyarrow_into_parquet,
    **OURS,
    "polars": polars_into_parquet,
    "pandas": pandas_into_parquet,
    "dlt": with_dlt,
}
PAIRS = {
    "csv-parquet": INTO_PARQUET,
    "parquet-parquet": INTO_PARQUET,
    "jsonl-sqlite": {
        "script": script_into_sqlite,
        **OURS,
        "polars": polars_into_sqlite,
        "pandas": pandas_into_sqlite,
        "dlt": with_dlt,
    },
    "parquet-postgresql": {
        "pyarrow": pyarrow_into_postgresql,
        **OURS,
        "polars": polars_into_postgresql,
        "dlt": with_dlt,
    },
}


def prepare(pair, out):
    """Nothing left of an earlier case, and an empty table where one is written."""
    from prefect_batch.blocks.databases.connections import close_engines

    close_engines()  # A connection to a file that is gone would go on with that one.
    for left in out.parent.glob(f"{out.name}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if pair.endswith(("sqlite", "postgresql")):
        with engine(pair, out).begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS bench_sink")
            connection.exec_driver_sql(f"CREATE TABLE bench_sink ({COLUMNS})")
    if pair.endswith("postgresql"):
        with engine(pair, out).begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA IF EXISTS bench_dlt CASCADE")


def engine(pair, out):
    from prefect_batch.blocks.databases.connections import open_engine

    return open_engine(POSTGRESQL if pair.endswith("postgresql") else f"sqlite:///{out}.db")


def sums(pair, out, name):
    """The count and the sums of what was written."""
    if pair.endswith(("sqlite", "postgresql")):
        table = "bench_sink" if name != "dlt" else "bench_dlt.bench_sink"
        query = f"SELECT count(*), sum(total), sum(length(remark)), max(id) FROM {table}"
        with engine(pair, out).connect() as connection:
            if name == "dlt" and pair.endswith("sqlite"):  # It has a file for each dataset.
                connection.exec_driver_sql(f"ATTACH '{out}__bench_dlt.db' AS bench_dlt")
            return [float(value) for value in connection.exec_driver_sql(query).one()]
    files = [path for path in [Path(f"{out}.parquet"), *Path(out).rglob("*.parquet")] if path.exists()]
    table = ds.dataset([str(path) for path in files if "_dlt_" not in str(path)]).to_table()
    length = pc.sum(pc.utf8_length(table["remark"])).as_py()
    return [table.num_rows, pc.sum(table["total"]).as_py(), float(length), float(pc.max(table["id"]).as_py())]


def run_case(pair, name, path, out):
    """In the child: do the work and print what it took."""
    import prefect_batch.flows.process_records  # noqa: F401 - not part of the time

    with contextlib.suppress(ImportError):
        importing = {"polars": "polars", "dlt": "dlt", "pandas": "pandas"}.get(name)
        _ = __import__(importing) if importing else None
    seconds, cpu, peak = timed(lambda: PAIRS[pair][name](path, out))
    print("RESULT", json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak}))


def measure(pair, name, path, out):
    prepare(pair, out)
    command = [sys.executable, __file__, "--child", pair, name, str(path), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        sys.exit(f"{pair}, {name} failed:\n{done.stdout}\n{done.stderr}")
    return {**json.loads(lines[0].removeprefix("RESULT ")), "sums": sums(pair, out, name)}


def check_sums(results):
    """Every case wrote the same rows; sums of rounded floats may differ in the last digits."""
    first = next(iter(results.values()))[0]["sums"]
    for name, found in results.items():
        for one, other in zip(found[0]["sums"], first, strict=True):
            if abs(one - other) > 1e-6 * max(abs(one), 1):
                sys.exit(f"{name} wrote something else: {found[0]['sums']} and not {first}")


def race(pair, rows, rounds, cases):
    path, out = build(pair.partition("-")[0], rows), WHERE / f"out-{pair}"
    names = [name for name in PAIRS[pair] if not cases or name in cases]
    results = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            results[name].append(measure(pair, name, path, out))
    check_sums(results)
    prepare(pair, out)
    base = names[0]
    print(f"\n{pair}, {rows:,} rows, {path.stat().st_size / 2**20:,.0f} MB, {rounds} rounds\n")
    print(f"| case | s | rows/s | × {base} | min–max | CPU s | peak MB |\n| --- |{' ---: |' * 6}")
    for name, found in results.items():
        ratios = [b["seconds"] / one["seconds"] for b, one in zip(results[base], found, strict=True)]
        seconds = statistics.median(one["seconds"] for one in found)
        print(
            f"| {name} | {seconds:.1f} | {rows / seconds:,.0f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f}–{max(ratios):.2f} | {statistics.median(one['cpu'] for one in found):.1f} "
            f"| {max(one['peak_mb'] for one in found):.0f} |",
            flush=True,
        )
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--cases", nargs="+", help="the names of cases; all if left out")
    parser.add_argument("--memory", action="store_true", help="also run ours on ten times the rows")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_case(*arguments.child)
        return
    with prefect_server():
        for pair in arguments.pairs:
            small = race(pair, arguments.rows, arguments.rounds, arguments.cases)
            if arguments.memory:
                large = race(pair, 10 * arguments.rows, 1, ["ours, Arrow"])
                grown = large["ours, Arrow"][0]["peak_mb"] - max(one["peak_mb"] for one in small["ours, Arrow"])
                print(f"\n{pair}: peak memory from 1× to 10× rows: {grown:+.0f} MB")


if __name__ == "__main__":
    main()
