"""Connections and storage options as users name them, and the secrets behind them, which are never shown."""

import ast
import contextlib
import json
import os
from typing import Annotated, Any

from pydantic import AfterValidator
from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.passwords import gives_access, hide_passwords

# What stands for a text that nobody may read: a Secret block, and an environment variable.
SECRETS = ("secret/", "env/")
_NAMED = (*SECRETS, "sqlalchemy-connector/")
HOW_TO_NAME = (
    "keep it where only the run reads it, and write its name instead:\n"
    "  prefect-batch secret shop   asks for it and stores it in Prefect; write secret/shop\n"
    "  export SHOP_URL=…           in the run's environment; write env/SHOP_URL\n"
    "  sqlalchemy-connector/shop   a block that you made in Prefect"
)

_urls: dict[str, str] = {}


def check_url(url: str) -> None:
    """Raise BadParameter unless the URL is safe in a flow parameter, which everybody can read.

    Raises:
        BadParameter: it contains a password, or is not a connection.
    """
    if url.startswith(_NAMED):
        return
    if hide_passwords(url) != url or gives_access(url) or parse_url(url).password:
        raise BadParameter(
            f"the connection carries a password, and flow parameters can be read by everybody: {HOW_TO_NAME}"
        )


def _without_password(connection: str) -> str:
    check_url(connection)
    return connection


# A connection as a parameter: without a password, because everybody can read flow parameters.
Connection = Annotated[str, AfterValidator(_without_password)]


def parse_url(url: str) -> URL:
    """Return the parts of an SQLAlchemy URL, or raise BadParameter without showing what was typed."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: the cause would show what was typed, which may hold a password.
        raise BadParameter(
            "the connection cannot be read; write an SQLAlchemy URL such as sqlite:///shop.db or "
            "postgresql://user@host/shop, or secret/NAME, env/NAME or sqlalchemy-connector/NAME"
        ) from None


def url_of(connection: str) -> str:
    """Return the URL of a connection, with its password if it has one.

    The result must never be shown, logged or saved.

    Raises:
        BadParameter: there is no such block, or the environment variable is not set.
    """
    if connection in _urls:
        return _urls[connection]
    if connection.startswith("env/"):
        return _from_environment(connection.removeprefix("env/"))
    return str(load_block(connection).get()) if connection.startswith("secret/") else connection


def _from_environment(variable: str) -> str:
    if not os.environ.get(variable):
        raise BadParameter(
            f"the environment variable {variable} is not set where this runs: set it there (for a deployment, in the "
            "environment of its worker), or correct the name"
        )
    return os.environ[variable]


def know_url(connection: str, url: str) -> None:
    """Use this URL for the connection instead of asking Prefect, as in a worker process."""
    _urls[connection] = url


def load_block(slug: str) -> Any:
    """Return the Prefect block of this name, or raise BadParameter if there is none."""
    from prefect.blocks.core import Block

    if slug.startswith("sqlalchemy-connector/"):
        # Importing it registers the block's type.
        with contextlib.suppress(ImportError):
            import prefect_sqlalchemy  # noqa: F401
    try:
        return Block.load(slug, _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        raise BadParameter(f"there is no block {slug}; create it in Prefect, or correct the name") from error


def storage_options(storage: str | None) -> dict[str, Any]:
    """Return the fsspec options behind ``secret/NAME`` or ``env/NAME``.

    Returns:
        The options, empty if none are named.

    Raises:
        BadParameter: there is no such block or variable, or it does not contain a JSON object.
    """
    if storage is None:
        return {}
    text = url_of(storage)
    try:
        # Prefect returns a secret that was typed as JSON as an object, which `url_of` turns into text.
        options = json.loads(text) if text.lstrip().startswith('{"') else ast.literal_eval(text)
        return dict(options)
    except (ValueError, SyntaxError, TypeError):
        # Not chained: the cause would show the secret.
        raise BadParameter(
            f'{storage} must hold the options of the storage as a JSON object, such as {{"key": "…", "secret": "…"}}'
        ) from None
