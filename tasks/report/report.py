"""The report of a run: values, and the same as text, Markdown and HTML. Pure."""

from collections.abc import Mapping
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
from prefect_batch.tasks.report.page import TOP_ERRORS, Page, as_html, as_markdown
from prefect_batch.tasks.report.progress import duration_text


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
        return as_markdown(self._page(), links or {})

    def _repr_html_(self) -> str:
        return as_html(self._page())

    def _page(self) -> Page:
        return Page(
            title=self.title,
            meaning=MEANINGS[self.status],
            message=self.message,
            run=self.run,
            whole=self.whole,
            seconds=self.seconds,
            rate=self.rate,
            max_failure_rate=self.policy.get("max_failure_rate"),
            resources=self.resources,
            samples=self.series.samples,
            errors=self.errors,
            letters_place=self.letters_place if self.has_letters else "",
            next_steps=self.next_steps,
        )


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
