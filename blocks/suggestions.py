"""Suggests what may have been meant by a name that does not exist."""

import difflib
from collections.abc import Iterable


def near(name: str, names: Iterable[str]) -> str:
    """Return the second half of "there is no …": what may have been meant."""
    names = sorted(names)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=3)
    found = [n for n in names if n.lower() in close] or names[:20]
    if not found:
        return "there is none at all"
    return ("did you mean " if close else "there are ") + ", ".join(found) + ("?" if close else "")
