"""The command ``secret``, which stores a text that nobody may read as a Secret block of Prefect."""

import getpass
import sys

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.flows.command_line.output import Yes, announce_server, confirm, say


def secret(name: str, *, yes: Yes = False) -> None:
    """Store a connection's URL, or other secret text, in Prefect. It is asked for, and not shown while you type.

    Jobs name it as secret/NAME. In a pipe, the first line of the standard input is stored.

    Parameters
    ----------
    name:
        The name to give it: lowercase letters, digits and dashes.
    """
    announce_server()
    from prefect.blocks.system import Secret
    from pydantic import SecretStr

    name = name.removeprefix("secret/")
    if not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise BadParameter(f"the name {name!r} must consist of lowercase letters, digits and dashes")
    if not yes and _exists(name):
        confirm(f"secret/{name} exists. Replace it?")
    text = _ask(name)
    if not text:
        raise BadParameter(
            "nothing was entered, so nothing was stored: run the command again, or pipe the text into it"
        )
    Secret(value=SecretStr(text)).save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]
    say(f"stored: write secret/{name} where a connection or storage options are asked for")


def _exists(name: str) -> bool:
    from prefect.blocks.system import Secret

    try:
        Secret.load(name, _sync=True)  # type: ignore[call-arg]
    except ValueError:
        return False
    return True


def _ask(name: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"Text of secret/{name}, such as postgresql://user:password@host/shop: ").strip()
    return sys.stdin.readline().strip()
