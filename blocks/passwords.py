"""Passwords in texts, which are never shown: neither in errors nor in logs, letters or states."""

import re

# Greedy up to the last @: a password may itself contain one, and hiding too much does no harm.
_IN_URL = re.compile(r"(://[^:/@\s]*):[^\s]+@")
_PARAMETER = re.compile(r"(?i)\b((?:ssl)?pass(?:word|wd|phrase)?|pwd)=[^&\s]+")


def hide_passwords(text: str) -> str:
    """Return the text with every password in a URL replaced by ``***``."""
    # Called for the message and the traceback of every letter. Most contain no password, and the search is slow.
    if "://" in text:
        text = _IN_URL.sub(r"\1:***@", text)
    if "=" in text and any(word in text.casefold() for word in ("pass", "pwd")):
        text = _PARAMETER.sub(r"\1=***", text)
    return text
