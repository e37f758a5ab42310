"""Passwords and other keys in texts, which are never shown: neither in errors nor in logs, letters or states."""

import re

# Greedy up to the last @: a password may itself contain one, and hiding too much does no harm.
_IN_URL = re.compile(r"(://[^:/@\s]*):[^\s]+@")
_TOKEN_IN_URL = re.compile(r"(?i)(\bhttps?://)[^:/@\s]+@")
_NAME = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|secret|account|private)_?key|signature|credentials?"
    r"|\b(?:(?:ssl)?pass|sig))"
)
_PARAMETER = re.compile(rf"(?i)({_NAME})=(?:'[^']*'|\"[^\"]*\"|[^&\s]+)")
_FIELD = re.compile(rf"""(?i)({_NAME}['"]:\s*)(?:'[^']*'|"[^"]*")""")
_HEADER = re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:\w+\s+)?|\bbearer\s+)(?!\w+\s+\*)[\w.~+/=-]{4,}")
# Both have such a name, which is found faster; and it has one of these, which are found at once.
_SIGNS = ("pass", "pwd", "secret", "token", "key", "sig", "credential")
_NAMED = re.compile(r"\b(\w++)(?:=|['\"]:)")
_SECRET = re.compile(rf"(?i){_NAME}$")
# Of a URL's query, "key" gives access, too; elsewhere it is a word like others.
_IN_QUERY = re.compile(rf"(?i)(?:{_NAME}|\bkey)=.")
_LOGIN = re.compile(r"""://[^:/@\s'"]*:[^/@\s'"]+@""")
_LITERAL = re.compile(r"'(?:[^']|'')*'")


def hide_passwords(text: str) -> str:
    """Return the text with passwords, tokens and keys replaced by ``***``: in URLs, settings, JSON and headers."""
    # Called for the message and the traceback of every letter. Most contain no password, and the searches are slow.
    if "://" in text:
        text = _TOKEN_IN_URL.sub(r"\1***@", _IN_URL.sub(r"\1:***@", text))
    low = text.casefold()
    if any(sign in low for sign in _SIGNS) and any(map(_SECRET.search, _NAMED.findall(text))):
        text = _FIELD.sub(r"\1'***'", _PARAMETER.sub(r"\1=***", text))
    return _HEADER.sub(r"\1***", text) if "authorization" in low or "bearer" in low else text


def gives_access(url: str) -> bool:
    """Return whether a path or URL holds a password or a key."""
    place, _, query = url.partition("?")
    return bool(_IN_URL.search(url) or _TOKEN_IN_URL.search(url) or ("://" in place and _IN_QUERY.search(query)))


def names_secret(name: str) -> bool:
    """Return whether this is what a password or a key is called."""
    return _SECRET.search(name) is not None


def holds_login(text: str) -> bool:
    """Return whether a text, such as a statement of SQL, holds a URL with a password, or a password for another place.

    The latter is in a literal: ``dblink('host=shop password=…')``.
    """
    return bool(_LOGIN.search(text) or any(_PARAMETER.search(literal) for literal in _LITERAL.findall(text)))
