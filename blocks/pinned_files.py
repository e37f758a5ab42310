"""Files with the list of those that a pass reads: what a chunk gets as its source."""

from typing import cast

from prefect_batch.blocks.contracts import OfFiles, Source
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.blocks.parameters.specs import SourceSpec

__all__ = ["PinnedFiles"]


class PinnedFiles:
    """The parameter of a source of files, and the files of the pass.

    Not a dataclass: Prefect would walk through all of them at every task run.
    """

    def __init__(self, spec: SourceSpec | Letters, files: FileList) -> None:
        self.spec, self.files = spec, files

    def open_source(self) -> Source:
        """These files, and no others, as a source."""
        # Not isinstance: that would look at the files that are there now, before Python 3.12.
        return cast("OfFiles", self.spec.open_source()).with_files(self.files)
