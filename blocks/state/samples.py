"""The course of a run over time: a bounded series of samples, kept in the cursor and drawn in the report."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

MOST_SAMPLES = 200


class Sample(NamedTuple):
    """A run at one moment.

    Counts and durations are totals since the run's start, so that a rate is the difference of two samples divided by
    that of their `at`.

    Attributes:
        at: Seconds since the run's start.
        read: Records read.
        failed: Records that failed.
        chunks: Chunks finished.
        chunk_seconds: The durations of the chunks' own work, added up.
        cpu_seconds: The CPU time of all processes of the run.
        rss_bytes: The memory of all processes of the run at this moment.
        free_bytes: The free space on the fullest of its disks at this moment. None if it is not known.
        connections: The open database connections at this moment. None if they are not known.
        waited_seconds: How long a health check held the run back.
    """

    at: float
    read: int = 0
    failed: int = 0
    chunks: int = 0
    chunk_seconds: float = 0.0
    cpu_seconds: float = 0.0
    rss_bytes: int = 0
    free_bytes: int | None = None
    connections: int | None = None
    waited_seconds: float = 0.0


@dataclass(frozen=True)
class Series:
    """Samples in order of time, at least `every_seconds` apart, and never more than `MOST_SAMPLES`.

    When the series is full, every second sample is dropped and the distance doubles.
    """

    every_seconds: float = 2.0
    samples: tuple[Sample, ...] = ()

    def add(self, sample: Sample, *, final: bool = False) -> "Series":
        """Return the series with this sample, unless it is too close to the last one. A final one replaces that."""
        samples = self.samples
        if samples and sample.at - samples[-1].at < self.every_seconds:
            if not final:
                return self
            samples = samples[:-1]
        if len(samples) < MOST_SAMPLES:
            return replace(self, samples=(*samples, sample))
        return Series(2 * self.every_seconds, (*samples[::2], sample))

    def encode(self) -> dict[str, Any]:
        """Return the series as JSON: the names of the fields once, and a list for each sample."""
        return {
            "every_seconds": self.every_seconds,
            "fields": list(Sample._fields),
            "samples": [list(sample) for sample in self.samples],
        }

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "Series":
        """Return the series that `encode` wrote. One of another version may have more fields, or fewer."""
        fields: list[str] = encoded["fields"]
        known = set(Sample._fields)
        samples = [
            Sample(**{name: value for name, value in zip(fields, values, strict=True) if name in known})
            for values in encoded["samples"]
        ]
        return cls(encoded["every_seconds"], tuple(samples))
