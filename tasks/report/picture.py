"""The picture of a run: throughput, chunk durations, failures and resources over time, as an SVG of a few kilobytes."""

import base64
import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from prefect_batch.blocks.state.samples import Sample
from prefect_batch.tasks.report.progress import duration_text

WIDTH, PANEL_WIDTH, PANEL_HEIGHT, GAP = 640, 312, 128, 16
LEAST_SAMPLES, MOST_POINTS = 3, 50
_INK, _FAINT, _GRID = "#1f2937", "#6b7280", "#e5e7eb"


@dataclass(frozen=True)
class _Panel:
    """One small chart: its title, what sums it up, its colour, and its points in time."""

    title: str
    summary: str
    colour: str
    points: list[tuple[float, float]]
    bars: bool = False


def draw(samples: Sequence[Sample]) -> str:
    """Draw the run over time as an SVG.

    Returns:
        The SVG, or an empty string with too few samples to show anything.
    """
    if len(samples) < LEAST_SAMPLES:
        return ""
    samples = [Sample(0.0), *_thin(samples)]
    panels = _panels(samples)
    rows = -(-len(panels) // 2)
    height = rows * PANEL_HEIGHT + (rows - 1) * GAP
    drawn = ""
    for n, panel in enumerate(panels):
        alone = n % 2 == 0 and n == len(panels) - 1
        at = (n % 2 * (PANEL_WIDTH + GAP), n // 2 * (PANEL_HEIGHT + GAP))
        drawn += _draw_panel(panel, at, WIDTH if alone else PANEL_WIDTH, samples[-1].at)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui,sans-serif" font-size="11">{drawn}</svg>'
    )


def image_uri(svg: str) -> str:
    """Return the SVG as a data URI, for places that take images by their address."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _thin(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return at most `MOST_POINTS` of the samples, evenly spaced, including the last one."""
    step = max(1, math.ceil(len(samples) / MOST_POINTS))
    return samples[::-step][::-1]


def _panels(samples: Sequence[Sample]) -> list[_Panel]:
    pairs = [(a, b) for a, b in itertools.pairwise(samples) if b.at > a.at]
    rate = [(b.at, (b.read - a.read) / (b.at - a.at)) for a, b in pairs]
    chunk = [
        (b.at, (b.chunk_seconds - a.chunk_seconds) / (b.chunks - a.chunks)) for a, b in pairs if b.chunks > a.chunks
    ]
    failed = [(b.at, float(b.failed - a.failed)) for a, b in pairs]
    cores = [(b.at, (b.cpu_seconds - a.cpu_seconds) / (b.at - a.at)) for a, b in pairs]
    memory = [(sample.at, sample.rss_bytes / 2**20) for sample in samples if sample.rss_bytes]
    disk = [(sample.at, sample.free_bytes / 2**30) for sample in samples if sample.free_bytes is not None]
    last = samples[-1]
    found = [
        _Panel("records per second", f"average {_short(last.read / last.at)}", "#2563eb", rate),
        _Panel("failed records", f"{_short(last.failed)} in all", "#dc2626", failed, bars=True),
        _Panel("seconds per chunk", f"average {_short(last.chunk_seconds / max(1, last.chunks))}", "#7c3aed", chunk),
        _Panel("busy cores", f"average {_short(last.cpu_seconds / last.at)}", "#d97706", cores),
        _Panel("memory, MB", f"at most {_short(max((v for _, v in memory), default=0))}", "#059669", memory),
        _Panel("free disk, GB", f"at least {_short(min((v for _, v in disk), default=0))}", "#0891b2", disk),
    ]
    return [panel for panel in found if panel.points]


def _draw_panel(panel: _Panel, corner: tuple[float, float], width: float, end: float) -> str:
    left, right, top, bottom = 44.0, width - 8.0, 28.0, PANEL_HEIGHT - 20.0
    highest = _ceiling(max(value for _, value in panel.points))

    def at(seconds: float, value: float) -> tuple[float, float]:
        return left + seconds / end * (right - left), bottom - value / highest * (bottom - top)

    places = [at(*point) for point in panel.points]
    shape = _bars(places, bottom, panel.colour) if panel.bars else _line(places, bottom, panel.colour)
    return (
        f'<g transform="translate({corner[0]:g} {corner[1]:g})">'
        f'<rect width="{width}" height="{PANEL_HEIGHT}" rx="6" fill="#fff" stroke="{_GRID}"/>'
        + _text(10, 18, panel.title, "start", _INK, bold=True)
        + _text(right, 18, panel.summary, "end", _FAINT)
        + "".join(f'<path d="M{left:g} {h:g}H{right:g}" stroke="{_GRID}"/>' for h in (top, (top + bottom) / 2, bottom))
        + _text(left - 5, top + 4, _short(highest), "end", _FAINT)
        + _text(left - 5, bottom + 3, "0", "end", _FAINT)
        + _text(left, PANEL_HEIGHT - 6, "start", "start", _FAINT)
        + _text(right, PANEL_HEIGHT - 6, duration_text(end), "end", _FAINT)
        + shape
        + "</g>"
    )


def _line(places: list[tuple[float, float]], bottom: float, colour: str) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    area = f"M{places[0][0]:.1f} {bottom:g}L{path}V{bottom:g}Z"
    dot = f'<circle cx="{places[-1][0]:.1f}" cy="{places[-1][1]:.1f}" r="2.5" fill="{colour}"/>'
    return (
        f'<path d="{area}" fill="{colour}" opacity=".12"/>'
        f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>{dot}'
    )


def _bars(places: list[tuple[float, float]], bottom: float, colour: str) -> str:
    path = "".join(f"M{x:.1f} {bottom:g}V{y:.1f}" for x, y in places if y < bottom)
    return f'<path d="{path}" stroke="{colour}" stroke-width="4"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}"{weight}>{html.escape(text)}</text>'


def _ceiling(value: float) -> float:
    """Return a round number that is no smaller, for the end of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 6, 8, 10) if step * power >= value * 0.999)


def _short(value: float) -> str:
    """Return a number in few characters: ``950``, ``27k``, ``1.4M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
