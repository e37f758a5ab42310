"""A record, as functions take and return it."""

from typing import Any

__all__ = ["Record"]

Record = dict[str, Any]
