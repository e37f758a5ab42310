"""The demo: the flights of New York through a function, then the same with the run killed on its way."""

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from prefect_batch.blocks.errors import BatchError
from prefect_batch.flows.demo.files import compare_files, files_of_flights, unpack_flights
from prefect_batch.flows.demo.flights import build_flights

if TYPE_CHECKING:
    from prefect_batch.tasks.reconcile.reconciliation import Reconciliation

_MARK = ".prefect-batch-demo"
START_SECONDS = 180
KILL_AFTER_RECORDS = 120_000
_QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(START_SECONDS),
    "DO_NOT_TRACK": "1",
}


def _end_with_demo() -> None:
    """In a child: have Linux end it when the demo is gone, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _say(text: str = "") -> None:
    print(text, flush=True)  # noqa: T201 - a program's output


def run_demo(directory: Path) -> None:
    """Run the demo with its files in this directory, replacing those of an earlier demo.

    Raises:
        BatchError: the resumed run did not end as the undisturbed one did.
    """
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, lambda number, _frame: sys.exit(128 + number))  # Ends what was started, too.
    directory = directory.absolute()
    home, database = directory / "prefect", directory / "flights.db"
    _clear(directory)
    started = time.monotonic()
    _say("Building a SQLite database of the flights that left New York in 2013 …")
    _say(f"  {build_flights(database):,} rows in {database}")
    with _server(home) as url:
        # From here on this process and its children talk to that server.
        os.environ.update({**_QUIET, "PREFECT_API_URL": url, "PREFECT_HOME": str(home)})
        from prefect.logging.handlers import APILogHandler

        _undisturbed(database)
        _killed_and_resumed(database)
        _compare(database, directory / "dead-letters")
        _from_csv(database)
        _replay_and_reconcile("flights")
        APILogHandler().flush()  # While there is a server: later it would complain at length.
    _say(f"The demo took {time.monotonic() - started:.0f} s. Look around:")
    for command in _commands(directory, home):
        _say(f"  {command}")


def _clear(directory: Path) -> None:
    """Make the directory, and remove from it what an earlier demo left.

    Raises:
        BatchError: it holds something else.
    """
    if not directory.exists():
        directory.mkdir(parents=True)
        (directory / _MARK).touch()
    if not (directory / _MARK).exists():
        raise BatchError(f"{directory} is not of an earlier demo; name another one with --directory")
    for leftover in ("prefect", "dead-letters", files_of_flights(directory).name):
        shutil.rmtree(directory / leftover, ignore_errors=True)
    for file in directory.glob("flights.*"):
        file.unlink()


def _undisturbed(database: Path) -> None:
    _say("\n1. A function over every flight. It fails on those that never arrived; the others do not suffer.\n")
    with _child(database, "minutes_gained", "flights") as child:
        _expect_success(child)


def _killed_and_resumed(database: Path) -> None:
    from prefect_batch.blocks.errors import UnknownJob
    from prefect_batch.flows.operations.status import status

    _say("\n2. The same job into another table, but its process is killed on the way (kill -9).\n")
    with _child(database, "minutes_gained_again", "flights-killed") as child:
        while child.poll() is None:
            with contextlib.suppress(UnknownJob):
                if status("flights-killed").tally.read >= KILL_AFTER_RECORDS:
                    break
            time.sleep(0.1)
        child.kill()
        child.wait()
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # The bar had hidden the terminal's cursor.
    _say(f"\n   Killed. What it left behind:\n\n{status('flights-killed')}")
    _say("\n3. The same call again: it goes on where it stood.\n")
    with _child(database, "minutes_gained_again", "flights-killed") as child:
        _expect_success(child)


def _compare(database: Path, letters: Path) -> None:
    """Say that both tables, and both sets of dead letters, are the same.

    Raises:
        BatchError: they are not.
    """
    from prefect_batch.blocks.letters.read import read_letters

    first, second = "SELECT * FROM minutes_gained", "SELECT * FROM minutes_gained_again"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        differing = len(connection.execute(f"{first} EXCEPT {second}").fetchall())
        differing += len(connection.execute(f"{second} EXCEPT {first}").fetchall())
        rows = [connection.execute(f"SELECT count(*) FROM ({table})").fetchone()[0] for table in (first, second)]
    failed = [sorted(read_letters(str(letters), job)["key"]) for job in ("flights", "flights-killed")]
    if differing or rows[0] != rows[1] or failed[0] != failed[1]:
        raise BatchError(f"the killed run differs: {differing} rows, {rows} rows, {list(map(len, failed))} letters")
    _say(
        f"\n4. Compared with the undisturbed run: the same {rows[0]:,} rows and the same {len(failed[0]):,} letters.\n"
    )


def _from_csv(database: Path) -> None:
    _say("   The same function once more, straight from the CSV file that the flights came in, into Parquet files.\n")
    unpack_flights(database.parent)
    command = [sys.executable, "-m", "prefect_batch.flows.demo.files", str(database.parent)]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - our own module
        raise BatchError("the run over the CSV file failed; its message stands above")
    _say(f"\n   {compare_files(database, database.parent)}\n")


def _replay_and_reconcile(job: str) -> None:
    """Replay the job's dead letters with the fixed function, and compare source and sink.

    Raises:
        BatchError: a record is neither in the sink nor accounted for.
    """
    from prefect_batch.flows.reconcile import reconcile
    from prefect_batch.flows.replay_dead_letters import replay_dead_letters

    _say("5. The function is mended, and the dead letters are replayed with it.\n")
    report = replay_dead_letters(job, process="prefect_batch.flows.demo.flights:minutes_gained_if_arrived")
    _say(f"\n{report}\n")
    _say("6. Source and sink compared, key by key.\n")
    found = cast("Reconciliation", reconcile(job))
    _say(f"\n   {found}\n")
    if found.status != "agrees" or found.open:
        raise BatchError(f"{job} does not agree with its source")


def _commands(directory: Path, home: Path) -> list[str]:
    program = shlex.quote(str(Path(sys.executable).with_name("prefect-batch")))
    letters = directory / "dead-letters" / "flights"
    look = f'import pandas; print(pandas.read_parquet("{letters}")[["key", "error_type", "error_message"]])'
    return [
        f"{shlex.quote(sys.executable)} -c {shlex.quote(look)}",
        f"PREFECT_HOME={shlex.quote(str(home))} {program} status flights",
        f"{program} demo",
    ]


@contextlib.contextmanager
def _child(database: Path, sink: str, job: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "prefect_batch.flows.demo.flights", str(database), sink, job]
    with subprocess.Popen(  # noqa: S603 - our own module
        command,
        preexec_fn=_end_with_demo,  # noqa: PLW1509 - no other thread runs here
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def _expect_success(child: subprocess.Popen[bytes]) -> None:
    if child.wait() != 0:
        raise BatchError("the run failed; its message stands above")


@contextlib.contextmanager
def _server(home: Path) -> Iterator[str]:
    """Start a Prefect server of the demo's own, quiet, and end it with the block.

    Prefect would start one by itself, but that one outlives a killed run.

    Yields:
        The URL of its API.
    """
    _say("Starting a Prefect server; this can take half a minute …")
    began = time.monotonic()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "prefect_batch.flows.server", "--host", "127.0.0.1", "--port", port]
    url = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, **_QUIET, "PREFECT_HOME": str(home), "PREFECT_SERVER_UI_API_URL": url}
    environment.pop("PREFECT_API_URL", None)
    # In a session of its own: Ctrl-C ends the demo first, which then ends the server.
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_demo,  # noqa: PLW1509 - no other thread runs here
    ) as server:
        try:
            _wait_until_up(server, url)
            _say(f"  up after {time.monotonic() - began:.0f} s")
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=15)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_until_up(server: subprocess.Popen[bytes], url: str) -> None:
    import httpx

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        time.sleep(0.3)
    raise BatchError("the Prefect server did not start; try it by hand: prefect server start")
