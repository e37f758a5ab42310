"""The report of a run: values, and the same as text, Markdown and HTML. Pure."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prefect_batch.blocks.chunks import ErrorCount, Tally
from prefect_batch.blocks.errors import FailureRateExceeded
from prefect_batch.blocks.jobs import main_job, of_replay, pass_title
from prefect_batch.blocks.letters.bury import letters_folder
from prefect_batch.blocks.parameters.failure_policy import FailurePolicy
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.blocks.state.samples import Series
from prefect_batch.blocks.state.statuses import MEANINGS
from prefect_batch.tasks.report.picture import draw, image_uri
from prefect_batch.tasks.report.progress import duration_text

TOP_ERRORS = 5


def count_errors(known: tuple[ErrorCount, ...], more: tuple[ErrorCount, ...], most: int = 20) -> tuple[ErrorCount, ...]:
    """Join both lists, with the most frequent error first and the first example of each error."""
    counts: dict[str, ErrorCount] = {}
    for error in (*known, *more):
        first = counts.get(error.error_type, error)
        count = error.count + (first.count if first is not error else 0)
        counts[error.error_type] = ErrorCount(error.error_type, count, first.example_key, first.example_message)
    return tuple(sorted(counts.values(), key=lambda error: (-error.count, error.error_type))[:most])


@dataclass(frozen=True)
class Report:
    """The report of a run. `run` counts this run alone, `whole` its pass with earlier runs, `seconds` is wall time.

    `status` is ``complete``, ``stopped``, ``failed`` or ``dry run``. `errors` are those of this run, the most frequent
    first. `series` is the run over time, and `policy` the failure limits that applied to it.
    """

    job: str
    pass_number: int
    run_id: str
    status: str
    message: str
    run: Tally
    whole: Tally
    seconds: float
    errors: tuple[ErrorCount, ...]
    dead_letters: str
    started_at: str
    resources: dict[str, Any]
    series: Series = field(default_factory=Series)
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Records read per second of wall time."""
        return self.run.read / self.seconds if self.seconds else 0.0

    def _facts(self) -> list[tuple[str, str]]:
        run, whole = self.run, self.whole
        fan_out = f" ({run.rows_written:,} rows)" if run.rows_written != run.written else ""
        facts = [
            ("read", f"{run.read:,} in {duration_text(self.seconds)} ({self.rate:,.0f}/s, {run.chunks:,} chunks)"),
            ("written", f"{run.written:,}{fan_out}"),
            ("filtered", f"{run.filtered:,}"),
            ("failed", f"{run.failed:,} ({run.failure_rate:.2%})"),
        ]
        if whole.read != run.read:
            facts.append(("whole pass", f"{whole.read:,} read, {whole.written:,} written, {whole.failed:,} failed"))
        if run.retries:
            facts.append(("chunk retries", f"{run.retries:,}"))
        if peak := self.resources.get("peak_rss_bytes"):
            facts.append(("memory", f"{peak / 2**20:,.0f} MB at most"))
        if cpu := self.resources.get("cpu_seconds"):
            facts.append(("CPU", f"{duration_text(cpu)}"))
        if connections := self.resources.get("connections"):
            facts.append(("connections", f"{connections:,} to databases"))
        if free := self.resources.get("free_bytes"):
            facts.append(("free disk", ", ".join(f"{size / 2**30:,.1f} GB for {name}" for name, size in free.items())))
        if (waited := self.resources.get("waited_seconds", 0)) >= 1:
            facts.append(("waited", f"{duration_text(waited)} for health checks"))
        return facts

    @property
    def letters_place(self) -> str:
        """The place of the pass's dead letters."""
        return f"{self.dead_letters}/{letters_folder(self.job, self.pass_number)}"

    @property
    def has_letters(self) -> bool:
        """Whether this run buried a record."""
        return self.run.failed > 0 and self.status != "dry run"

    @property
    def title(self) -> str:
        """The job, the pass, and how the run ended."""
        return f"{pass_title(self.job, self.pass_number)} {self.status}"

    @property
    def next_steps(self) -> list[tuple[str, str]]:
        """What a person may want to do now, and how."""
        steps, job = [], main_job(self.job)
        if self.status not in ("complete", "dry run"):
            steps.append(("go on where it stopped", "run it again with the same parameters"))
        if self.status == "complete" and not of_replay(self.job):
            steps.append(("start the next pass", "run it again"))
        if self.whole.failed and self.status != "dry run":
            steps.append(("look at the failed records", f"prefect-batch failures {job}"))
        steps.append(("see where the job stands", f"prefect-batch status {self.job}"))
        return steps

    def __str__(self) -> str:
        lines = [self.title + (f": {self.message}" if self.message else "")]
        lines += [f"  {name:<14}{value}" for name, value in self._facts()]
        if self.errors:
            lines.append("  top errors")
            lines += [
                f"    {error.count:>9,}  {error.error_type}: {error.example_message} (key {error.example_key})"
                for error in self.errors[:TOP_ERRORS]
            ]
        if self.has_letters:
            lines.append(f"  dead letters  {self.letters_place}")
        lines += [f"  {what}: {how}" for what, how in self.next_steps]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def markdown(self, links: Mapping[str, str] | None = None) -> str:
        """Return the report as Markdown for an artifact, with links to the pages that belong to it, by their names."""
        return _as_markdown(self, links or {})

    def _repr_html_(self) -> str:
        return _as_html(self)


def _as_markdown(report: Report, links: Mapping[str, str]) -> str:
    """Return the report for an artifact. `links` are related pages by their names."""
    lines = [f"## {report.title}", "", MEANINGS[report.status], ""]
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


def _as_html(report: Report) -> str:
    """Return the report for a notebook."""
    svg = draw(report.series.samples)
    picture = f'<img src="{image_uri(svg)}" alt="How the run went over time" style="max-width:100%">' if svg else ""
    message = f"<pre>{html.escape(report.message)}</pre>" if report.message else ""
    place = f"<p>Failed records: <code>{html.escape(report.letters_place)}</code></p>" if report.has_letters else ""
    steps = "".join(f"<li>{what}: <code>{html.escape(how)}</code></li>" for what, how in report.next_steps)
    errors = _table(("records", "error", "example", "its key"), _errors(report)) if report.errors else ""
    rows = _table((), _rows(report))
    return f"<b>{html.escape(report.title)}</b>{message}{rows}{picture}{errors}{place}<ul>{steps}</ul>"


def _rows(report: Report) -> list[tuple[str, str, str]]:
    """Return what the run did, as rows of a word, a number and its meaning."""
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


def _resources(report: Report) -> list[tuple[str, str, str]]:
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


def _errors(report: Report) -> list[tuple[str, str, str, str]]:
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


def report_of(cursor: Cursor) -> Report:
    """Return the report of the latest run of a job, from its saved cursor."""
    run = cursor.run
    end = run.finished_at or cursor.updated_at
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(run.started_at)).total_seconds() if end else 0.0
    return Report(
        job=cursor.job,
        pass_number=cursor.pass_number,
        run_id=run.run_id,
        status=cursor.status,
        message=cursor.message,
        run=run.tally,
        whole=cursor.tally,
        seconds=seconds,
        errors=run.errors,
        dead_letters=cursor.dead_letters,
        started_at=run.started_at,
        resources=run.resources,
        series=run.series,
        policy=run.policy,
    )


def failures_exceeded(
    cursor: Cursor, policy: FailurePolicy, *, dry_run: bool, final: bool
) -> FailureRateExceeded | None:
    """Return why the policy stops the cursor's latest run, with its most frequent errors, or None if it may continue.

    `final` is as in `FailurePolicy.exceeded`.
    """
    run = cursor.run
    reason = policy.exceeded(run.tally, final=final)
    if reason is None:
        return None
    letters = None if dry_run else f"{cursor.dead_letters}/{main_job(cursor.job)}"
    again = {"way_on": "replay again: all letters that are open then are replayed"} if of_replay(cursor.job) else {}
    return FailureRateExceeded(cursor.job, reason, run.tally, policy, run.errors, letters, **again)
