"""The files of a job's passes as a Prefect block. The cursor is saved after every chunk and must stay small."""

from prefect.blocks.core import Block
from prefect.exceptions import ObjectNotFound
from pydantic import Field

from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.prefect_api import call_api

_BLOCK_TYPE = "batch-job-files"


class JobFiles(Block):
    """The files that the latest passes of a job read, written when a pass begins.

    Example:
        ```python
        from prefect_batch.blocks.state.job_files import JobFiles

        files = JobFiles.load("clean-orders")
        ```
    """

    _block_type_name = "Batch Job Files"
    _block_type_slug = _BLOCK_TYPE
    _documentation_url = None

    job: str = Field(default="", description="The job's name.")
    lists: dict[str, str] = Field(default_factory=dict, description="The files of each pass, by its number, packed.")


def load_files(job: str, pass_number: int) -> FileList | None:
    """Return the files of this pass.

    Returns:
        None if they are not known.
    """
    encoded = _lists(job).get(str(pass_number))
    return None if encoded is None else FileList.decode(encoded)


def save_files(job: str, pass_number: int, files: FileList, former: int | None) -> None:
    """Save the files of a pass.

    Of earlier passes, only the files of `former` are kept, which the cursor may still name.
    """
    kept = {number: encoded for number, encoded in _lists(job).items() if number == str(former)}
    block = JobFiles(job=job, lists={**kept, str(pass_number): files.encode()})
    block.save(job, overwrite=True, _sync=True)  # type: ignore[call-arg]


def _lists(job: str) -> dict[str, str]:
    try:
        document = call_api(lambda client: client.read_block_document_by_name(job, _BLOCK_TYPE))
    except ObjectNotFound:
        return {}
    lists: dict[str, str] = document.data.get("lists", {})
    return lists
