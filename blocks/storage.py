"""The options of a file system, which a Secret block holds: keys do not belong in parameters."""

import ast
import json
from typing import Any

from prefect_batch.blocks.databases.connections import url_of
from prefect_batch.blocks.errors import BadParameter

__all__ = ["storage_options"]


def storage_options(storage: str | None) -> dict[str, Any]:
    """The options for fsspec in this Secret block; none if there is none.

    Raises:
        BadParameter: the block does not exist, or holds no JSON object.
    """
    if storage is None:
        return {}
    text = url_of(storage)
    try:
        # Prefect gives an object that was typed as JSON back as one, which `url_of` makes a text of.
        options = json.loads(text) if text.lstrip().startswith('{"') else ast.literal_eval(text)
        return dict(options)
    except (ValueError, SyntaxError, TypeError):
        # Not chained: the cause would show the secret.
        raise BadParameter(
            f'{storage} must hold the options of the storage as a JSON object, such as {{"key": "…", "secret": "…"}}'
        ) from None
