"""A report as Markdown for Prefect's pages, and as HTML for notebooks, both with the picture of the run. Pure."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prefect_batch.tasks.report.picture import draw, image_uri
from prefect_batch.tasks.report.progress import duration_text

if TYPE_CHECKING:
    from prefect_batch.tasks.report.report import Report

__all__ = ["as_html", "as_markdown"]

TOP_ERRORS = 5
_MEANING = {
    "complete": "The pass is complete: every record is written, filtered, or kept as a dead letter.",
    "stopped": "The run stopped before the end of its pass. What it did is saved.",
    "failed": "The run failed before the end of its pass. What it did before is saved.",
    "dry run": "A dry run: nothing was written, and nothing saved.",
}


def as_markdown(report: "Report", links: Mapping[str, str]) -> str:
    """The report for an artifact; `links` are pages that belong to it, by their names."""
    lines = [f"## {report.title}", "", _MEANING.get(report.status, ""), ""]
    if report.message:
        # A block of code keeps the lines of the message, and shows nothing of it as Markdown.
        lines += ["```", report.message.replace("```", "'''"), "```", ""]
    lines += ["| | | |", "| --- | ---: | --- |", *(f"| {' | '.join(row)} |" for row in _rows(report)), ""]
    if svg := draw(report.series.samples):
        lines += [f"![How the run went over time]({image_uri(svg)})", ""]
    if report.errors:
        lines += ["### Why records failed", "", "| records | error | example | its key |", "| ---: | --- | --- | --- |"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in _errors(report)]
        lines.append("")
    if report.has_letters:
        lines += [f"The failed records are kept whole, with their errors, in `{report.letters_place}`", ""]
    lines += ["### What to do next", "", *(f"- {what}: `{how}`" for what, how in report.next_steps), ""]
    if links:
        lines += [" · ".join(f"[{name}]({url})" for name, url in links.items()), ""]
    return "\n".join(lines)


def as_html(report: "Report") -> str:
    """The report for a notebook."""
    svg = draw(report.series.samples)
    picture = f'<img src="{image_uri(svg)}" alt="How the run went over time" style="max-width:100%">' if svg else ""
    message = f"<pre>{html.escape(report.message)}</pre>" if report.message else ""
    place = f"<p>Failed records: <code>{html.escape(report.letters_place)}</code></p>" if report.has_letters else ""
    steps = "".join(f"<li>{what}: <code>{html.escape(how)}</code></li>" for what, how in report.next_steps)
    errors = _table(("records", "error", "example", "its key"), _errors(report)) if report.errors else ""
    return (
        f"<b>{html.escape(report.title)}</b>{message}"
        f"{_table((), _rows(report))}{picture}{errors}{place}<ul>{steps}</ul>"
    )


def _rows(report: "Report") -> list[tuple[str, str, str]]:
    """What the run did: the word, the number, what it means."""
    run, whole = report.run, report.whole
    limit = report.policy.get("max_failure_rate")
    stops = f"; more than {100 * limit:g}% stop a run" if limit is not None else ""
    rows = [
        ("read", f"{run.read:,}", f"in {duration_text(report.seconds)}, {report.rate:,.0f} per second"),
        ("written", f"{run.written:,}", f"{run.rows_written:,} rows" if run.rows_written != run.written else ""),
        ("filtered", f"{run.filtered:,}", "the function returned None"),
        ("failed", f"{run.failed:,}", f"{run.failure_rate:.2%}{stops}"),
    ]
    if whole.read != run.read:
        counts = f"{whole.written:,} written, {whole.filtered:,} filtered, {whole.failed:,} failed"
        rows.append(("whole pass", f"{whole.read:,}", f"with earlier runs: {counts}"))
    mean = f"{run.seconds / run.chunks:.1f} s of work each" if run.chunks else ""
    retries = f", {run.retries:,} retries" if run.retries else ""
    return [*rows, ("chunks", f"{run.chunks:,}", mean + retries), *_resources(report)]


def _resources(report: "Report") -> list[tuple[str, str, str]]:
    rows, resources = [], report.resources
    if peak := resources.get("peak_rss_bytes"):
        rows.append(("memory", f"{peak / 2**20:,.0f} MB", "at most, worker processes included"))
    if cpu := resources.get("cpu_seconds"):
        cores = f"{cpu / report.seconds:.1f} cores busy on average" if report.seconds else ""
        rows.append(("CPU", duration_text(cpu), cores))
    if connections := resources.get("connections"):
        rows.append(("connections", f"{connections:,}", "to databases, when it ended"))
    if (waited := resources.get("waited_seconds", 0)) >= 1:
        rows.append(("waited", duration_text(waited), "for health checks"))
    for place, free in resources.get("free_bytes", {}).items():
        rows.append(("free disk", f"{free / 2**30:,.1f} GB", f"for {place}"))
    return rows


def _errors(report: "Report") -> list[tuple[str, str, str, str]]:
    return [
        (f"{error.count:,}", error.error_type, error.example_message, error.example_key)
        for error in report.errors[:TOP_ERRORS]
    ]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{top}{body}</table>"
