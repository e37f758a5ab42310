"""Removes letters that were resolved long ago, by writing their files again without them."""

from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from prefect_batch.blocks.letters.bury import GROUP_ROWS
from prefect_batch.blocks.letters.read import all_ids, find_letter_files
from prefect_batch.blocks.letters.status import Statuses, read_statuses, remove_decisions
from prefect_batch.blocks.stores.store import Store


def purge_letters(place: Store, job: str, before: datetime) -> int:
    """Remove the job's letters that were resolved before this moment, in all their generations.

    After a crash, the decisions on letters that are gone may remain, and the next purge removes them. A decision is
    never removed before its letter.

    Returns:
        The number of letters removed.
    """
    statuses = read_statuses(place, job)
    removed: set[str] = set()
    for file in find_letter_files(place, job):
        removed |= _purge_file(place, file.path, statuses, before)
    remove_decisions(place, job, all_ids(place, job))
    return len(removed)


def _purge_file(place: Store, path: str, statuses: Statuses, before: datetime) -> set[str]:
    """Write the file again without the letters to purge, or remove it if none is left.

    Returns:
        The ids of the purged letters.
    """
    with place.open(path) as opened:
        ids = pq.read_table(opened, columns=["id"])["id"].to_pylist()
    purged = {letter for letter in ids if _is_old(statuses, letter, before)}
    if not purged:
        return purged
    if len(purged) == len(ids):
        place.remove([path])
        return purged
    with (
        place.new(path) as new,
        place.open(path) as opened,
        pq.ParquetFile(opened) as parquet,
        pq.ParquetWriter(new, parquet.schema_arrow, compression="zstd") as writer,
    ):
        for batch in parquet.iter_batches(GROUP_ROWS):
            kept = pa.array([letter not in purged for letter in batch.column("id").to_pylist()])
            writer.write_table(pa.Table.from_batches([batch]).filter(kept))
    return purged


def _is_old(statuses: Statuses, letter: str, before: datetime) -> bool:
    decision = statuses.of(letter)
    return decision.status == "resolved" and datetime.fromisoformat(decision.at) < before
