"""Where dead letters are stored: a directory for this user only, or any store that fsspec reaches.

Files are named by their path below the place: ``clean-orders/pass-000001/3f2a….parquet``.
"""

import secrets

from prefect_batch.blocks.errors import BadPlace
from prefect_batch.blocks.passwords import gives_access
from prefect_batch.blocks.stores.opening import open_store
from prefect_batch.blocks.stores.store import Store, full_name, local_path, put

# In the job's folder: it shows that the place is there, and not the mount point of a disk that is away.
_MARKER = "_place"
_PROBE = b"\0" * 4096


def full_place(place: str) -> str:
    """Return the place as it is saved: an absolute path, or the URL.

    Raises:
        BadPlace: the URL contains credentials, and everybody can read the cursor.
    """
    if path := local_path(place):
        return str(path.absolute())
    if gives_access(place) or "@" in place.partition("://")[2].partition("/")[0]:
        raise BadPlace(
            "the place of the dead letters carries credentials, and parameters can be read by everybody: leave "
            "them to the environment, where fsspec finds them (for s3:// AWS_ACCESS_KEY_ID, or ~/.aws)"
        )
    return place.rstrip("/")


def open_place(place: str) -> Store:
    """Open the place at this path or URL.

    Raises:
        BadPlace: no installed package reads such URLs.
    """
    try:
        return open_store(place, private=True)
    except (ImportError, ValueError) as error:
        raise BadPlace(f"dead letters cannot be kept at {place}: {error}") from error


def is_marked(place: Store, job: str) -> bool:
    """Return whether the job's marker is in the place."""
    return place.exists(f"{job}/{_MARKER}")


def check_marker(place: Store, job: str) -> None:
    """Raise BadPlace unless the marker of a job that has used this place is there."""
    # A place in memory is gone with its process. One without a marker, but with files, is older than the marker.
    if not (place.only_here or is_marked(place, job) or any(place.find(job))):
        raise BadPlace(
            f"{job} has used {full_name(place, job)}, and its marker {_MARKER} is not there: is a disk not mounted, or "
            f"was it moved? If its letters are gone for good, make the job start anew by prefect-batch reset {job}, or "
            "name another place with dead_letters=…"
        )


def mark_place(place: Store, job: str) -> None:
    """Put the marker of this job into the place."""
    place.put_first(f"{job}/{_MARKER}", b"The dead letters of this job are kept here. Leave this file where it is.\n")


def used_place(url: str, job: str) -> Store:
    """Open the place that a job has used.

    Raises:
        BadPlace: it is away.
    """
    place = open_place(url)
    check_marker(place, job)
    return place


def check_place(place: Store, folder: str) -> None:
    """Raise BadPlace unless files can be written to this folder."""
    probe = f"{folder}/.probe-{secrets.token_hex(4)}.tmp"
    try:
        put(place, probe, _PROBE)
        place.remove([probe])
    except Exception as error:  # Stores have errors of their own.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadPlace(
            f"dead letters cannot be written to {full_name(place, folder)}: {reason}; mend that, or name another place "
            "with dead_letters=…"
        ) from error
