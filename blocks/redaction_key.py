"""The key of the hashes that stand for redacted values: in a Prefect Secret block, never beside the letters."""

import contextlib
import secrets

__all__ = ["BLOCK", "know_redaction_key", "redaction_key"]

# Whoever wants a key of their own makes this block before the first run.
BLOCK = "prefect-batch-redaction-key"

_known: list[bytes] = []


def know_redaction_key(key: bytes) -> None:
    """Use this key instead of asking Prefect, as in a worker process."""
    _known[:] = [key]


def redaction_key() -> bytes:
    """The key of this Prefect API; made at random when it is first needed."""
    if not _known:
        know_redaction_key(_load().encode())
    return _known[0]


def _load() -> str:
    from prefect.blocks.system import Secret
    from pydantic import SecretStr

    with contextlib.suppress(ValueError):
        return _saved()
    with contextlib.suppress(ValueError):  # Another run may make it just now.
        Secret(value=SecretStr(secrets.token_hex(32))).save(BLOCK, _sync=True)  # type: ignore[call-arg]
    return _saved()


def _saved() -> str:
    from prefect.blocks.system import Secret

    return str(Secret.load(BLOCK, _sync=True).get())  # type: ignore[call-arg,union-attr]
