"""The bar of progress: at the bottom of a terminal, or below the cell of a notebook."""

import contextlib
import html
import importlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

# How many records are done, and the rest of the line.
Draw = Callable[[int, str], None]

NOTEBOOK_SECONDS = 0.2


@contextlib.contextmanager
def open_bar(total: int | None) -> Iterator[Draw | None]:
    """Yield what draws the bar, or None where nobody sees it: a file, a worker's pipe."""
    console = _log_console()
    if _in_notebook():
        with _notebook_bar(total) as draw:
            yield draw
    elif console.is_terminal:
        with _terminal_bar(console, total) as draw:
            yield draw
    else:
        yield None


def _log_console() -> Console:
    """Return the console that Prefect logs to, so that log lines go above the bar and not through it."""
    for handler in [*logging.getLogger("prefect").handlers, *logging.getLogger().handlers]:
        if isinstance(handler, PrefectConsoleHandler):
            return handler.console
    return Console(stderr=True)


@contextlib.contextmanager
def _terminal_bar(console: Console, total: int | None) -> Iterator[Draw]:
    # Colours, not names of styles: Prefect's console has a theme of its own, without rich's.
    bar_column = BarColumn(30, "bright_black", "magenta", "green", "magenta")
    columns = (bar_column, TextColumn("{task.description}"))
    with Bar(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda done, text: bar.update(task, completed=done, description=text)


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, and not IPython in a terminal."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and shell.__class__.__name__ == "ZMQInteractiveShell"


@contextlib.contextmanager
def _notebook_bar(total: int | None) -> Iterator[Draw]:
    # Rich's own bar would need ipywidgets; a display that is drawn anew needs nothing.
    ipython: Any = importlib.import_module("IPython.display")
    shown = ipython.display(ipython.HTML(_bar_html(0, total, "starting")), display_id=True)
    drawn_at = 0.0
    last = (0, "starting")

    def draw(done: int, text: str) -> None:
        nonlocal drawn_at, last
        last = (done, text)
        if time.monotonic() - drawn_at >= NOTEBOOK_SECONDS:
            drawn_at = time.monotonic()
            shown.update(ipython.HTML(_bar_html(done, total, text)))

    try:
        yield draw
    finally:
        shown.update(ipython.HTML(_bar_html(last[0], total, last[1])))


def _bar_html(done: int, total: int | None, text: str) -> str:
    share = f' value="{min(done, total)}" max="{total}"' if total else ""
    return f'<progress style="width:18em"{share}></progress> <code>{html.escape(text)}</code>'
