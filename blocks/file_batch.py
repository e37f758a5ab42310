"""Records of a file in memory at once, each with its key."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.values import Batch, Unreadable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FileBatch"]


class FileBatch(Batch):
    """A batch whose rows do not hold their key: `key_at` tells it, and `row` has it behind the values."""

    def __init__(
        self,
        names: tuple[str, ...],
        rows: list[tuple[Any, ...]] | None = None,
        row_bytes: int = 0,
        *,
        table: "pa.Table | None" = None,
        key_at: Callable[[int], Key],
        unreadable: Sequence[Unreadable] = (),
    ) -> None:
        super().__init__(names, rows, row_bytes, table=table)
        self._key_at = key_at
        self.unreadable = unreadable

    def row(self, index: int) -> tuple[Any, ...]:
        """The row's values in the order of the names, and then its key's."""
        return (*super().row(index), *self._key_at(index))
