"""The cursor of a job as a value: the truth about what is finished."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from prefect_batch.blocks.chunks import ErrorCount, Tally
from prefect_batch.blocks.errors import BadCursor
from prefect_batch.blocks.jobs import PassRef, of_replay
from prefect_batch.blocks.state.position import Position
from prefect_batch.blocks.state.samples import Series
from prefect_batch.blocks.state.statuses import STATUSES, PastStatus, Status, check_change

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RunState:
    """The latest run of a job, with the counts and the most frequent errors of this run alone.

    Attributes:
        rate: Records per second. None while it is not known.
        policy: The failure limits, so that a hook in another process can check the run again.
        series: The course of the run over time.
        waiting: Why no further chunk is started now. Empty if nothing holds the run back.
        redact: The columns that are redacted.
        limits: The current `concurrency` and `max_rate`.
    """

    run_id: str
    started_at: str
    tally: Tally = Tally()
    errors: tuple[ErrorCount, ...] = ()
    rate: float | None = None
    finished_at: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    series: Series = field(default_factory=Series)
    waiting: str = ""
    redact: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {
            **vars(self),
            "tally": self.tally.encode(),
            "errors": [vars(error) for error in self.errors],
            "series": self.series.encode(),
        }

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "RunState":
        """Return the state that `encode` wrote."""
        errors = tuple(ErrorCount(**error) for error in encoded["errors"])
        redact = tuple(encoded.get("redact", ()))
        series = Series.decode(encoded["series"]) if "series" in encoded else Series()
        return cls(
            **{**encoded, "tally": Tally.decode(encoded["tally"]), "errors": errors, "series": series, "redact": redact}
        )


class PastRun(NamedTuple):
    """A past run, or the latest one, with the counts of this run alone and its times in UTC.

    `status` is how it ended: ``complete``, ``stopped``, ``failed``, or ``died`` if it could not save its end. It is
    ``running`` for a run that has not ended, and ``reset`` for one whose pass was abandoned since.
    """

    run_id: str
    pass_number: int
    status: PastStatus
    message: str
    started_at: str
    ended_at: str
    read: int
    written: int
    filtered: int
    failed: int


@dataclass(frozen=True)
class Cursor:
    """A job's saved state: its definition, its current pass and the position in it, and its latest run."""

    job: str
    pass_number: int
    pass_id: str
    mode: Literal["full", "incremental"]
    definition: dict[str, Any]
    position: Position
    estimate: int
    dead_letters: str
    run: RunState
    tally: Tally = Tally()
    status: Status = "running"
    message: str = ""
    updated_at: str = ""
    history: tuple[PastRun, ...] = ()

    @property
    def pass_ref(self) -> PassRef:
        """The current pass."""
        return PassRef(
            self.job, self.pass_number, self.pass_id, adds=self.position.start is not None or of_replay(self.job)
        )

    def become(self, status: Status, message: str) -> "Cursor":
        """Return the cursor with another status, and the reason for it.

        Raises:
            ValueError: a job cannot change from its status to that one.
        """
        check_change(self.status, status)
        return replace(self, status=status, message=message)

    def encode(self) -> dict[str, Any]:
        """Return the fields of `JobCursor`."""
        return {
            **vars(self),
            "schema_version": SCHEMA_VERSION,
            "position": self.position.encode(),
            "tally": self.tally.encode(),
            "run": self.run.encode(),
            "history": [list(past) for past in self.history],
        }

    @classmethod
    def decode(cls, fields: dict[str, Any]) -> "Cursor":
        """Return the cursor in the fields of a `JobCursor`.

        Raises:
            BadCursor: another version wrote it, or it is damaged.
        """
        job, version = fields.get("job"), fields.get("schema_version")
        if version != SCHEMA_VERSION:
            raise BadCursor(
                str(job),
                f"has version {version}, and this prefect-batch reads version {SCHEMA_VERSION}: use the version that "
                "wrote it",
            )
        try:
            decoded = {
                **{name: fields[name] for name in cls.__dataclass_fields__ if name != "history"},
                "position": Position.decode(fields["position"]),
                "tally": Tally.decode(fields["tally"]),
                "run": RunState.decode(fields["run"]),
                "history": tuple(PastRun(*values) for values in fields.get("history") or ()),
            }
            _ = fields["pass_number"] + 1, fields["pass_id"][0]  # Fails if the pass has no number or no id.
            _ = STATUSES.index(fields["status"])
            return cls(**decoded)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise BadCursor(str(job), f"cannot be read ({error!r})") from error


MOST_RUNS = 50


MESSAGE_CHARACTERS = 120


def past_run(cursor: Cursor, *, over: bool) -> PastRun:
    """Return the cursor's latest run. It is `over` if another one has followed, or if no process runs the job."""
    run, tally = cursor.run, cursor.run.tally
    status: PastStatus = "died" if over and cursor.status == "running" else cursor.status
    message = cursor.message.partition("\n")[0][:MESSAGE_CHARACTERS]
    ended_at = run.finished_at or cursor.updated_at
    counts = (tally.read, tally.written, tally.filtered, tally.failed)
    return PastRun(run.run_id, cursor.pass_number, status, message, run.started_at, ended_at, *counts)


def remember(saved: Cursor | None) -> tuple[PastRun, ...]:
    """Return the history for the cursor of the next run: the saved cursor's history and its latest run."""
    return () if saved is None else (*saved.history, past_run(saved, over=True))[-MOST_RUNS:]
