"""The studies: which cases are compared, on which rows, and what is asked of them."""

import sys
import tempfile
from dataclasses import dataclass, field

from data import WORKS, fresh_sink, load, url_of
from measure import FOREIGN_CORES, run_case


@dataclass(frozen=True)
class Case:
    """A named case: a function of `rivals` or `ours`, with its arguments."""

    name: str
    function: str
    processes: int = 1
    arguments: dict = field(default_factory=dict)
    sink: str = "sink"
    extra: str = ""


def _ours(form, processes, **arguments):
    workers = f"{processes} worker processes" if processes > 1 else "1 at once"
    name = {"record": "records", "frame": "DataFrames", "table": "Arrow tables"}[form]
    return Case(f"prefect-batch, {name}, {workers}", "ours", processes, {"form": form, **arguments})


SCRIPT_2 = Case("the best script by hand, 2 processes", "script", 2)
CHUNKS_2 = Case("INSERT … SELECT in chunks, 2 connections", "insert_select_in_chunks", 2)
RIVALS = [Case("the loop that one writes first", "naive"), Case("pandas (append only)", "with_pandas")]
SCRIPT_1 = Case("the best script by hand, 1 process", "script")
SLOW = [*RIVALS, Case("dlt (Arrow, merge)", "with_dlt", sink="bench_dlt.sink"), _ours("record", 2)]
THROUGHPUT = [
    SCRIPT_1,
    SCRIPT_2,
    Case("the same without upsert, 2 processes", "script_append", 2),
    *(_ours(form, processes) for form in ("record", "frame", "table") for processes in (1, 2)),
    Case("INSERT … SELECT in chunks, 1 connection", "insert_select_in_chunks"),
    CHUNKS_2,
    Case("one INSERT … SELECT", "insert_select"),
]
SQLITE = [
    *RIVALS,
    *(_ours("record", processes) for processes in (1, 2)),
    _ours("frame", 2),
    _ours("table", 2),
    Case("one INSERT … SELECT", "insert_select"),
]
PROTECTION = [
    Case("nothing but the worker processes", "bare", 2),
    Case("all protections", "ours", 2),
    Case("without the cursor", "without", 2, {"part": "cursor"}),
    Case("without the cache", "without", 2, {"part": "cache"}),
    Case("plain inserts, with the ledger", "ours", 2, {"write": "insert"}),
    Case("with a time limit for records", "ours", 2, {"record_timeout": 10}),
]
REFUSE = ", CHECK (total >= 0)"
ISOLATION = [
    Case(
        f"{per_mille / 10:g} % fail in the {where}",
        "isolating",
        2,
        {"per_mille": per_mille, "where": where},
        extra=REFUSE,
    )
    for per_mille, where in ((0, "process"), *((n, w) for w in ("process", "write") for n in (1, 10, 50)))
]
# study: (database, table, share of the scale, cases, whether the sinks must be equal)
STUDIES = {
    "postgresql": ("postgresql", "orders", 1, THROUGHPUT, True),
    "lineitem": ("postgresql", "lineitem", 1, [SCRIPT_2, _ours("record", 2), _ours("table", 2), CHUNKS_2], True),
    "slow": ("postgresql", "orders", 2, SLOW, True),
    "sqlite": ("sqlite", "orders", 2 / 3, SQLITE, True),
    "protection": ("postgresql", "lineitem", 1, PROTECTION, True),
    "protection_long": ("postgresql", "lineitem", 4, PROTECTION[:2], True),
    "isolation": ("postgresql", "orders", 1, ISOLATION, False),
}


def run_study(name, scale, rounds):
    """The results by case: {case: [result of each round]}, the rows, and whether each was measured in quiet."""
    database, table, share, cases, same = STUDIES[name]
    work, scale = WORKS[table], scale * share
    source, rows = load(database, work, scale)
    results = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases:
            result = _measured(database, work, scale, source, case)
            results[case.name].append(vars(result))
            _say(f"{name} {number + 1}/{rounds} {case.name}", results[case.name][-1])
    if same:
        _check_sums(results)
    return {"study": name, "rows": rows, "results": results}


def _say(case, result):
    print(f"{case}: {result['seconds']:.1f} s, {result['peak_mb']:.0f} MB", file=sys.stderr, flush=True)


def _measured(database, work, scale, source, case, tries=3, **spec):
    """The case's result; measured again while others keep the machine busy, and the quietest is taken."""
    url, found = url_of(database, scale), []
    while len(found) < tries:
        _clean(url, work, case)
        spec = {"url": url, "work": work.table, "table": source, "processes": case.processes, "sink": case.sink, **spec}
        found.append(run_case({**spec, "function": case.function, "arguments": case.arguments}))
        if found[-1].foreign_cores <= FOREIGN_CORES:
            break
    return min(found, key=lambda result: result.foreign_cores)


def _clean(url, work, case):
    from prefect_batch.blocks.databases.connections import open_engine

    fresh_sink(url, work, case.extra)
    if case.function == "with_dlt":
        with open_engine(url).begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA IF EXISTS bench_dlt CASCADE")
            connection.exec_driver_sql("DROP SCHEMA IF EXISTS bench_dlt_staging CASCADE")
    if url.startswith("postgresql"):
        with open_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("CHECKPOINT")  # What a former case wrote is not to be paid for by this one.


def _check_sums(results):
    """Every case wrote the same rows; sums of rounded floats may differ from those of decimals by a cent in places."""
    first = next(iter(results.values()))[0]["sums"]
    for name, found in results.items():
        for one, other in zip(found[0]["sums"], first, strict=True):
            if abs(one - other) > max(1e-6 * abs(other), 0.5):
                sys.exit(f"{name} wrote something else: {found[0]['sums']} and not {first}")


def run_growth(scale, rounds):
    """The same job on 1× and 10× rows of either database: seconds per million rows, and memory."""
    found = []
    for database, name in (("postgresql", "PostgreSQL"), ("sqlite", "SQLite")):
        for times in (1, 10):
            source, rows = load(database, WORKS["orders"], scale * times)
            case = Case(f"{name}, {times}×", "ours", 2)
            results = []
            for number in range(rounds):
                results.append(vars(_measured(database, WORKS["orders"], scale * times, source, case)))
                _say(f"growth {number + 1}/{rounds} {case.name}", results[-1])
            found.append({"name": name, "rows": rows, "results": results})
    return {"growth": found}


def run_resume(scale, rounds):
    """Seconds until a chunk is at work again after SIGKILL, with this share of 1× and 10× rows done."""
    found = {}
    for times in (1, 10):
        source, rows = load("postgresql", WORKS["orders"], scale * times)
        for share in (0.1, 0.5, 0.9):
            seconds = []
            for number in range(rounds):
                job, place = f"bench-{times}-{int(share * 100)}-{number}", tempfile.mkdtemp()
                fixed = ("postgresql", WORKS["orders"], scale * times, source)
                dying = Case("", "killed", 2, {"job": job, "share": share, "rows": rows, "dead_letters": place})
                _measured(*fixed, dying, tries=1)
                spec = {
                    "url": url_of("postgresql", 1),
                    "work": "orders",
                    "table": source,
                    "processes": 2,
                    "sink": "sink",
                }
                arguments = {"job": job, "dead_letters": place}
                result = run_case({**spec, "function": "resumed", "arguments": arguments})
                if result.sums[0] != rows:
                    sys.exit(f"after a kill at {share:.0%} the sink has {result.sums[0]} of {rows} rows")
                seconds.append(result.more["resumed_after"])
            found[f"{times}×, {share:.0%} done"] = seconds
            print(f"resume {times}×, {share:.0%} done: {seconds}", file=sys.stderr, flush=True)
    return {"resume": found}
