"""The command line ``prefect-batch``: its commands are in the modules beside this one."""

import os
import sys

from cyclopts import App, CycloptsError

from prefect_batch.blocks.errors import BatchError
from prefect_batch.flows.command_line.control import stop, tune
from prefect_batch.flows.command_line.init import init
from prefect_batch.flows.command_line.jobs import demo, doctor, plan, reconcile, run
from prefect_batch.flows.command_line.letters import discard, failures, purge, replay
from prefect_batch.flows.command_line.output import Ending, ending_of
from prefect_batch.flows.command_line.secret import secret
from prefect_batch.flows.command_line.state import history, reset, status

app = App(name="prefect-batch", help="Run functions over large tables, restartably, on Prefect.")
for command in (
    init,
    doctor,
    plan,
    run,
    status,
    history,
    stop,
    tune,
    failures,
    replay,
    discard,
    purge,
    reconcile,
    reset,
    secret,
    demo,
):
    app.command(command)
app.register_install_completion_command(help="Complete commands and options with the Tab key in this shell.")


def main(arguments: list[str] | None = None) -> None:
    """Run a command. It ends with one of the codes in `Ending`, and a sentence if it could not do what was asked."""
    # Where no server is configured Prefect starts one, slowly and not quietly; a user's own settings come first.
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    try:
        ended = app(arguments, exit_on_error=False, result_action="return_value")
    except CycloptsError:  # It has been printed.
        sys.exit(Ending.USAGE)
    except BatchError as error:
        _end(str(error), ending_of(error))
    except KeyboardInterrupt:
        sys.exit(Ending.INTERRUPTED)
    except Exception as error:
        if not _means_no_server(error):
            raise
        _end(f"the Prefect API does not answer ({error}); check PREFECT_API_URL", Ending.NO_SERVER)
    sys.exit(ended if isinstance(ended, Ending) else Ending.DONE)


def _end(sentence: str, ending: Ending) -> None:
    print(f"prefect-batch: {sentence}", file=sys.stderr)  # noqa: T201 - a program's output
    sys.exit(ending)


def _means_no_server(error: Exception) -> bool:
    import httpx

    return isinstance(error, (httpx.HTTPError, ConnectionError)) or "Failed to reach API" in str(error)
