"""A record, as functions take and return it."""

from typing import Any

Record = dict[str, Any]
