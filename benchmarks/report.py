"""The results as Markdown tables, and the comparison as a picture."""

import statistics
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
# What lies between these lines of docs/performance.md is written here.
BEGIN, END = "<!-- written by benchmarks/run.py: -->", "<!-- end -->"
COLOURS = {"prefect-batch": "#7c3aed", "the best script": "#475569", "INSERT": "#94a3b8"}
# Against what a study's ratios are.
BASES = {
    "postgresql": "the best script by hand, 2 processes",
    "lineitem": "the best script by hand, 2 processes",
    "slow": "prefect-batch, records, 2 worker processes",
    "sqlite": "the loop that one writes first",
    "protection": "nothing but the worker processes",
    "protection_long": "nothing but the worker processes",
    "isolation": "0 % fail in the process",
}


TITLES = {
    "postgresql": "PostgreSQL to PostgreSQL, TPC-H orders",
    "lineitem": "PostgreSQL to PostgreSQL, TPC-H lineitem, a key of two columns",
    "slow": "The loop, pandas and dlt, TPC-H orders",
    "sqlite": "SQLite to SQLite, TPC-H orders",
    "protection": "The price of protection, TPC-H lineitem",
    "protection_long": "The price of protection in a longer run, TPC-H lineitem",
    "isolation": "Bad records, TPC-H orders",
    "growth": "As the table grows, TPC-H orders, 2 worker processes",
    "resume": "Going on after SIGKILL",
}


def write_report(found):
    """Write the tables of these studies, {study: its results}, and the picture; those of others stay. Their text."""
    page = DOCS / "performance.md"
    before, begin, rest = page.read_text().partition(BEGIN)
    former, end, after = rest.partition(END)
    tables = {_study(text): text for text in former.strip().split("\n\n### ") if text}
    tables |= {study: _text(study, results) for study, results in found.items()}
    text = "\n\n".join("### " + tables[study].removeprefix("### ") for study in TITLES if study in tables)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    if "postgresql" in found:
        (DOCS / "performance.svg").write_text(_picture(found["postgresql"]))
    return text


def _study(text):
    """The study whose table this is, by its title."""
    return max((study for study in TITLES if TITLES[study] in text), key=lambda study: len(TITLES[study]))


def _text(study, results):
    if study == "growth":
        return _growth(results["growth"])
    return _resume(results["resume"]) if study == "resume" else _table(results, BASES[study])


def _median(found, name):
    return statistics.median(one[name] for one in found)


def _table(study, base):
    rows, results = study["rows"], study["results"]
    lines = [
        f"### {TITLES[study['study']]}: {rows:,} rows, median of {len(results[base])}",
        "",
        f"| case | s | rows/s | × {base} | min–max | CPU µs a row: client, database, Prefect's server | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        ratios = [b["seconds"] / one["seconds"] for b, one in zip(results[base], found, strict=True)]
        seconds = _median(found, "seconds")
        cpu = ", ".join(
            f"{_median(found, part) / rows * 1e6:.1f}" for part in ("client_cpu", "database_cpu", "prefect_cpu")
        )
        noisy = " *" if max(one["foreign_cores"] for one in found) > 0.25 else ""
        lines.append(
            f"| {name}{noisy} | {seconds:.1f} | {rows / seconds:,.0f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f}–{max(ratios):.2f} | {cpu} | {_median(found, 'peak_mb'):.0f} |"
        )
    return "\n".join(lines)


def _growth(growth):
    lines = [
        f"### {TITLES['growth']}",
        "",
        "| from and to | rows | s per million rows | peak MB | median of |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in growth:
        found, rows = one["results"], one["rows"]
        seconds, peak = _median(found, "seconds"), _median(found, "peak_mb")
        lines.append(f"| {one['name']} | {rows:,} | {seconds / rows * 1e6:.2f} | {peak:.0f} | {len(found)} |")
    return "\n".join(lines)


def _resume(resume):
    lines = [
        f"### {TITLES['resume']}",
        "",
        "| killed at | s until a chunk is at work again, median | min–max | runs |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, seconds in resume.items():
        spread = f"{min(seconds):.2f}–{max(seconds):.2f}"
        lines.append(f"| {name} | {statistics.median(seconds):.2f} | {spread} | {len(seconds)} |")
    return "\n".join(lines)


def _picture(study):
    """Bars of rows a second, the fastest on top."""
    rows = study["rows"]
    paces = {name: rows / _median(found, "seconds") for name, found in study["results"].items()}
    bars = sorted(paces.items(), key=lambda bar: -bar[1])
    width, left, height = 900, 330, 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {len(bars) * height + 40}" font-size="13">',
        "<style>text { font-family: sans-serif }</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-weight="bold">Rows a second, PostgreSQL to PostgreSQL, {rows:,} rows</text>',
    ]
    for place, (name, pace) in enumerate(bars):
        y = 34 + place * height
        colour = next((c for start, c in COLOURS.items() if name.startswith(start)), "#cbd5e1")
        length = pace / bars[0][1] * (width - left - 90)
        parts += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="19" fill="{colour}"/>',
            f'<text x="{left + length + 6:.1f}" y="{y + 14}">{pace:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
