"""A report as Markdown for Prefect's pages, and as HTML for notebooks, both with the picture of the run. Pure."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect_batch.blocks.chunks import ErrorCount, Tally
from prefect_batch.blocks.state.samples import Sample
from prefect_batch.tasks.report.picture import draw, image_uri
from prefect_batch.tasks.report.progress import duration_text

TOP_ERRORS = 5


@dataclass(frozen=True)
class Page:
    """What a page shows of a run.

    `meaning` says what its status means, in a sentence. `run` counts this run alone, `whole` its pass; `rate` is in
    records per second, and `max_failure_rate` None where it is not known. `letters_place` is empty where the run
    buried nothing. `next_steps` are what a person may want to do now, each with how.
    """

    title: str
    meaning: str
    message: str
    run: Tally
    whole: Tally
    seconds: float
    rate: float
    max_failure_rate: float | None
    resources: Mapping[str, Any]
    samples: Sequence[Sample]
    errors: Sequence[ErrorCount]
    letters_place: str
    next_steps: Sequence[tuple[str, str]]


def as_markdown(page: Page, links: Mapping[str, str]) -> str:
    """Return the page for an artifact. `links` are related pages by their names."""
    lines = [f"## {page.title}", "", page.meaning, ""]
    if page.message:
        # A block of code keeps the lines of the message, and shows nothing of it as Markdown.
        lines += ["```", page.message.replace("```", "'''"), "```", ""]
    lines += ["| | | |", "| --- | ---: | --- |", *(f"| {' | '.join(row)} |" for row in _rows(page)), ""]
    if svg := draw(page.samples):
        lines += [f"![How the run went over time]({image_uri(svg)})", ""]
    if page.errors:
        lines += ["### Why records failed", "", "| records | error | example | its key |", "| ---: | --- | --- | --- |"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in _errors(page)]
        lines.append("")
    if page.letters_place:
        lines += [f"The failed records are kept whole, with their errors, in `{page.letters_place}`", ""]
    lines += ["### What to do next", "", *(f"- {what}: `{how}`" for what, how in page.next_steps), ""]
    if links:
        lines += [" · ".join(f"[{name}]({url})" for name, url in links.items()), ""]
    return "\n".join(lines)


def as_html(page: Page) -> str:
    """Return the page for a notebook."""
    svg = draw(page.samples)
    picture = f'<img src="{image_uri(svg)}" alt="How the run went over time" style="max-width:100%">' if svg else ""
    message = f"<pre>{html.escape(page.message)}</pre>" if page.message else ""
    place = f"<p>Failed records: <code>{html.escape(page.letters_place)}</code></p>" if page.letters_place else ""
    steps = "".join(f"<li>{what}: <code>{html.escape(how)}</code></li>" for what, how in page.next_steps)
    errors = _table(("records", "error", "example", "its key"), _errors(page)) if page.errors else ""
    return f"<b>{html.escape(page.title)}</b>{message}{_table((), _rows(page))}{picture}{errors}{place}<ul>{steps}</ul>"


def _rows(page: Page) -> list[tuple[str, str, str]]:
    """Return what the run did, as rows of a word, a number and its meaning."""
    run, whole = page.run, page.whole
    limit = page.max_failure_rate
    stops = f"; more than {100 * limit:g}% stop a run" if limit is not None else ""
    rows = [
        ("read", f"{run.read:,}", f"in {duration_text(page.seconds)}, {page.rate:,.0f} per second"),
        ("written", f"{run.written:,}", f"{run.rows_written:,} rows" if run.rows_written != run.written else ""),
        ("filtered", f"{run.filtered:,}", "the function returned None"),
        ("failed", f"{run.failed:,}", f"{run.failure_rate:.2%}{stops}"),
    ]
    if whole.read != run.read:
        counts = f"{whole.written:,} written, {whole.filtered:,} filtered, {whole.failed:,} failed"
        rows.append(("whole pass", f"{whole.read:,}", f"with earlier runs: {counts}"))
    mean = f"{run.seconds / run.chunks:.1f} s of work each" if run.chunks else ""
    retries = f", {run.retries:,} retries" if run.retries else ""
    return [*rows, ("chunks", f"{run.chunks:,}", mean + retries), *_resources(page)]


def _resources(page: Page) -> list[tuple[str, str, str]]:
    rows, resources = [], page.resources
    if peak := resources.get("peak_rss_bytes"):
        rows.append(("memory", f"{peak / 2**20:,.0f} MB", "at most, worker processes included"))
    if cpu := resources.get("cpu_seconds"):
        cores = f"{cpu / page.seconds:.1f} cores busy on average" if page.seconds else ""
        rows.append(("CPU", duration_text(cpu), cores))
    if connections := resources.get("connections"):
        rows.append(("connections", f"{connections:,}", "to databases, when it ended"))
    if (waited := resources.get("waited_seconds", 0)) >= 1:
        rows.append(("waited", duration_text(waited), "for health checks"))
    for place, free in resources.get("free_bytes", {}).items():
        rows.append(("free disk", f"{free / 2**30:,.1f} GB", f"for {place}"))
    return rows


def _errors(page: Page) -> list[tuple[str, str, str, str]]:
    return [
        (f"{error.count:,}", error.error_type, error.example_message, error.example_key)
        for error in page.errors[:TOP_ERRORS]
    ]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{top}{body}</table>"
