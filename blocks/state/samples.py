"""How a run went, over time: a bounded series of samples, kept in the cursor and drawn in the report."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

__all__ = ["Sample", "Series"]

MOST_SAMPLES = 200


class Sample(NamedTuple):
    """A run at one moment, `at` seconds after its start.

    Counted from the run's start, so that a rate is the difference of two samples over that of their `at`: records
    `read` and `failed`, `chunks` finished, `chunk_seconds` of their own work together, `cpu_seconds` of all its
    processes together, and `waited_seconds` in which a health check held it back. Of the moment: `rss_bytes` of all its
    processes, `free_bytes` on the fullest of its disks, and open database `connections`. None: not known.
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
    """Samples in the order of time, at least `every_seconds` apart; never more than `MOST_SAMPLES`.

    When it is full, every second one goes, and the distance doubles.
    """

    every_seconds: float = 2.0
    samples: tuple[Sample, ...] = ()

    def add(self, sample: Sample, *, final: bool = False) -> "Series":
        """The series with this sample too, if it is far enough from the last one; the final one always is."""
        samples = self.samples
        if samples and sample.at - samples[-1].at < self.every_seconds:
            if not final:
                return self
            samples = samples[:-1]
        if len(samples) < MOST_SAMPLES:
            return replace(self, samples=(*samples, sample))
        return Series(2 * self.every_seconds, (*samples[::2], sample))

    def encode(self) -> dict[str, Any]:
        """The series as JSON: the names of the fields once, and a list for each sample."""
        return {
            "every_seconds": self.every_seconds,
            "fields": list(Sample._fields),
            "samples": [list(sample) for sample in self.samples],
        }

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "Series":
        """The series that `encode` wrote; one of another version may have more fields, or fewer."""
        fields: list[str] = encoded["fields"]
        known = set(Sample._fields)
        samples = [
            Sample(**{name: value for name, value in zip(fields, values, strict=True) if name in known})
            for values in encoded["samples"]
        ]
        return cls(encoded["every_seconds"], tuple(samples))
