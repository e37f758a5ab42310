"""Files with the list of those that a pass reads: what a chunk gets as its source."""

from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.parameters.files import Files

__all__ = ["PinnedFiles"]


class PinnedFiles:
    """A `Files` parameter and the files of the pass.

    Not a dataclass: Prefect would walk through all of them at every task run.
    """

    def __init__(self, spec: Files, files: FileList) -> None:
        self.spec, self.files = spec, files

    def open_source(self) -> Source:
        """These files, and no others, as a source."""
        return self.spec.open_source(self.files)
