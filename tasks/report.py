"""The report of a run: values, and the same as text, Markdown and HTML. Pure."""

import html
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect_batch.blocks.cursor import Cursor
from prefect_batch.blocks.values import ErrorCount, Tally
from prefect_batch.tasks.progress import duration_text

__all__ = ["Report", "count_errors", "explain", "report_of"]

TOP_ERRORS = 5


def count_errors(known: tuple[ErrorCount, ...], more: tuple[ErrorCount, ...], most: int = 20) -> tuple[ErrorCount, ...]:
    """Both lists as one, the most frequent first; the example of a kind is the first one seen."""
    counts: dict[str, ErrorCount] = {}
    for error in (*known, *more):
        first = counts.get(error.error_type, error)
        count = error.count + (first.count if first is not error else 0)
        counts[error.error_type] = ErrorCount(error.error_type, count, first.example_key, first.example_message)
    return tuple(sorted(counts.values(), key=lambda error: (-error.count, error.error_type))[:most])


@dataclass(frozen=True)
class Report:
    """What a run did. `run` counts this run alone, `whole` its pass with earlier runs; `seconds` is wall time.

    `status` is ``complete``, ``stopped``, ``failed`` or ``dry run``; `errors` are of this run, most frequent first.
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
        return facts

    def _letters(self) -> str:
        return f"{self.dead_letters}/{self.job}/pass-{self.pass_number:06d}"

    def _next_steps(self) -> list[tuple[str, str]]:
        steps = []
        if self.status not in ("complete", "dry run"):
            steps.append(("go on where it stopped", "call the flow again with the same parameters"))
        if self.whole.failed and self.status != "dry run":
            steps.append(("look at the failed records", f'prefect_batch.dead_letters("{self.job}")'))
        steps.append(("see where the job stands", f"prefect-batch status {self.job}"))
        return steps

    def __str__(self) -> str:
        lines = [f"{self.job}: pass {self.pass_number} {self.status}" + (f": {self.message}" if self.message else "")]
        lines += [f"  {name:<14}{value}" for name, value in self._facts()]
        if self.errors:
            lines.append("  top errors")
            lines += [
                f"    {error.count:>9,}  {error.error_type}: {error.example_message} (key {error.example_key})"
                for error in self.errors[:TOP_ERRORS]
            ]
        if self.run.failed and self.status != "dry run":
            lines.append(f"  dead letters  {self._letters()}")
        lines += [f"  {what}: {how}" for what, how in self._next_steps()]
        return "\n".join(lines)

    def markdown(self) -> str:
        """The report as Markdown, for an artifact."""
        lines = [f"## {self.job}: pass {self.pass_number} {self.status}", ""]
        if self.message:
            lines += [_escape(self.message), ""]
        lines += ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in self._facts()), ""]
        if self.errors:
            lines += ["### Top errors", "", "| records | error | example | its key |", "| ---: | --- | --- | --- |"]
            lines += [
                f"| {e.count:,} | {_escape(e.error_type)} | {_escape(e.example_message)} | {_escape(e.example_key)} |"
                for e in self.errors[:TOP_ERRORS]
            ]
            lines.append("")
        if self.run.failed and self.status != "dry run":
            lines += [f"Dead letters: `{self._letters()}`", ""]
        lines += ["### Next", "", *(f"- {what}: `{how}`" for what, how in self._next_steps())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        facts = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in self._facts())
        errors = "".join(
            f"<tr><td>{e.count:,}</td><td>{html.escape(e.error_type)}</td><td>{html.escape(e.example_message)}</td>"
            f"<td>{html.escape(e.example_key)}</td></tr>"
            for e in self.errors[:TOP_ERRORS]
        )
        table = f"<table><tr><th>records</th><th>error</th><th>example</th><th>key</th></tr>{errors}</table>"
        steps = "".join(f"<li>{what}: <code>{html.escape(how)}</code></li>" for what, how in self._next_steps())
        head = f"<b>{html.escape(self.job)}</b>: pass {self.pass_number} {html.escape(self.status)}"
        message = f"<p>{html.escape(self.message)}</p>" if self.message else ""
        return f"{head}{message}<table>{facts}</table>{table if errors else ''}<ul>{steps}</ul>"


def _escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def report_of(cursor: Cursor) -> Report:
    """The report of the latest run of a job, from its saved cursor."""
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
    )


def explain(cursor: Cursor, reason: str, *, dry_run: bool) -> str:
    """Why the threshold stopped a run, with the most frequent errors, the letters' place and the way on."""
    errors = "".join(
        f"\n  {error.count:,} × {error.error_type}: {error.example_message} (key {error.example_key})"
        for error in cursor.run.errors[:3]
    )
    letters = "" if dry_run else f"\nThe failed records are in {cursor.dead_letters}/{cursor.job}."
    return (
        f"{cursor.job}: {reason}.{errors}{letters}\nMend the cause, or allow more with max_failure_rate, and call the "
        "job again: it goes on where it stopped."
    )
