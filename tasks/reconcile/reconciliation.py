"""What a reconciliation found, as a value and as text. Pure."""

import html
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["agrees", "differs", "could not verify"]
MOST_SHOWN = 10


@dataclass(frozen=True)
class RangeDifference:
    """A range in which source and sink do not match.

    `missing` counts keys of the source that are nowhere, `surplus` keys of the sink that the source does not have. Of
    `missing_keys`, which may be cut off, up to `filtered` were filtered on purpose: which ones is not known.
    """

    range: str
    missing: int
    surplus: int
    missing_keys: tuple[str, ...]
    surplus_keys: tuple[str, ...]
    filtered: int = 0

    def __str__(self) -> str:
        parts = []
        if self.missing:
            less = f", among up to {self.filtered:,} filtered ones" if self.filtered else ""
            parts.append(f"{self.missing:,} missing ({_some(self.missing_keys, self.missing)}{less})")
        if self.surplus:
            parts.append(f"{self.surplus:,} too many ({_some(self.surplus_keys, self.surplus)})")
        return f"{self.range}: {', '.join(parts)}"


def _some(keys: tuple[str, ...], count: int) -> str:
    more = ", …" if count > len(keys[:MOST_SHOWN]) else ""
    return f"keys {', '.join(keys[:MOST_SHOWN])}{more}"


@dataclass(frozen=True)
class Reconciliation:
    """Whether each record that a pass has read is in the sink, filtered on purpose, or in a dead letter.

    `status` is ``agrees``, ``differs`` or ``could not verify``, which is neither right nor wrong; `doubts` are
    sentences that say what could not be verified, and why. `source_keys` and `sink_keys` are counted now; `filtered`,
    and the letters by their status, are those of the pass. `repaired` are the ranges that were then done again. Without
    `by_keys` no keys could be compared, and the counts are what the pass has `read` and `written`.
    """

    job: str
    pass_number: int
    ranges: int
    source_keys: int
    sink_keys: int
    filtered: int
    open: int
    discarded: int
    resolved: int
    differences: tuple[RangeDifference, ...] = ()
    doubts: tuple[str, ...] = ()
    repaired: int = 0
    read: int = 0
    written: int = 0
    by_keys: bool = True

    @property
    def status(self) -> Verdict:
        """The verdict: a difference outweighs what could not be verified."""
        return "differs" if self.differences else "could not verify" if self.doubts else "agrees"

    @property
    def missing(self) -> int:
        """Keys of the source that are neither in the sink, nor filtered, nor in an open or discarded letter."""
        return sum(difference.missing for difference in self.differences)

    @property
    def surplus(self) -> int:
        """The number of keys of the sink that the source does not have."""
        return sum(difference.surplus for difference in self.differences)

    def encode(self) -> dict[str, Any]:
        """Return the same as JSON."""
        return {"status": self.status, "missing": self.missing, "surplus": self.surplus, **asdict(self)}

    def _sums(self) -> str:
        letters = f"{self.open:,} in open letters, {self.discarded:,} in discarded ones"
        if not self.by_keys:
            counts = f"{self.read:,} read: {self.written:,} written, {self.filtered:,} filtered"
            return f"{counts}, {letters}, {self.resolved:,} resolved by replays"
        return (
            f"{self.source_keys:,} in the source: {self.sink_keys:,} in the sink, {self.filtered:,} filtered, {letters}"
        )

    def __str__(self) -> str:
        lines = [f"{self.job}: pass {self.pass_number} {self.status}: {self._sums()} ({self.ranges:,} ranges)"]
        if self.repaired:
            lines.append(f"  {self.repaired:,} ranges were done again")
        lines += [f"  {difference}" for difference in self.differences]
        lines += [f"  could not verify: {doubt}" for doubt in self.doubts]
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the same as Markdown, for an artifact."""
        lines = [f"## {self.job}: pass {self.pass_number} {self.status}", "", f"{self._sums()}.", ""]
        if self.repaired:
            lines += [f"{self.repaired:,} ranges were done again.", ""]
        lines += [f"- {html.escape(str(difference))}" for difference in self.differences]
        lines += [f"- could not verify: {html.escape(doubt)}" for doubt in self.doubts]
        return "\n".join(lines)
