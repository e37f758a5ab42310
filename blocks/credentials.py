"""Connections and storage options as users name them, and the secrets behind them, which are never shown."""

import ast
import contextlib
import json
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.passwords import hide_passwords

_BLOCKS = ("secret/", "sqlalchemy-connector/")


_urls: dict[str, str] = {}


def check_url(url: str) -> None:
    """Raise BadParameter unless the URL is safe in a flow parameter, which everybody can read.

    Raises:
        BadParameter: it contains a password, or is not a connection.
    """
    if url.startswith(_BLOCKS):
        return
    if hide_passwords(url) != url or parse_url(url).password:
        raise BadParameter(
            "the connection carries a password, and flow parameters can be read by everybody: store the URL in a "
            "Secret block and write secret/<name>"
        )


def parse_url(url: str) -> URL:
    """Return the parts of an SQLAlchemy URL, or raise BadParameter without showing what was typed."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: the cause would show what was typed, which may hold a password.
        raise BadParameter(
            "the connection cannot be read; write an SQLAlchemy URL such as sqlite:///shop.db or "
            "postgresql://user@host/shop, or secret/<name>, or sqlalchemy-connector/<name>"
        ) from None


def url_of(connection: str) -> str:
    """Return the URL of a connection, with its password if it has one.

    The result must never be shown, logged or saved.
    """
    if connection in _urls:
        return _urls[connection]
    return str(load_block(connection).get()) if connection.startswith("secret/") else connection


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
    """Return the fsspec options in this Secret block.

    Returns:
        The options, empty if no block is named.

    Raises:
        BadParameter: the block does not exist, or does not contain a JSON object.
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
