"""Reads dead letters, each in its newest generation and with its status, a bounded number at a time."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from prefect_batch.blocks.jobs import main_job, of_replay
from prefect_batch.blocks.letters.bury import SPLIT, letter_schema
from prefect_batch.blocks.letters.ids import LetterSet
from prefect_batch.blocks.letters.joined import joined_type, with_records
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.replay_list import Run
from prefect_batch.blocks.letters.status import LetterStatus, read_statuses
from prefect_batch.blocks.stores.store import Store

if TYPE_CHECKING:
    import pandas as pd

# Matches neither temporary files nor files that others put there.
_FILE = re.compile(r"(?P<folder>.+/(?P<kind>pass|replay)-(?P<number>\d+))/(?P<digest>[^./_][^./]*)\.parquet")
_LIST = re.compile(r".+/_replays/(\d+)\.json")
READ_ROWS = 1_000
# The columns of a letter's status, which the files do not have.
STATUS = ("status", "decided_at", "decided_by", "reason")


class LetterFile(NamedTuple):
    """A file of dead letters, written by a pass or a replay.

    Attributes:
        pass_number: The number of the pass. None if a replay wrote the file.
        generation: 0 if a pass wrote the file, else the number of the replay.
    """

    path: str
    pass_number: int | None
    generation: int


def find_letter_files(place: Store, job: str) -> list[LetterFile]:
    """Return the job's letter files, by generation, pass and path, without those of chunks that were split."""
    found = []
    paths = place.find(main_job(job))
    split = {path.removesuffix(SPLIT) for path in paths if path.endswith(SPLIT)}
    for path in paths:
        if (match := _FILE.fullmatch(path)) and path.removesuffix(".parquet") not in split:
            number = int(match["number"])
            of_pass = match["kind"] == "pass"
            found.append(LetterFile(path, number if of_pass else None, 0 if of_pass else number))
    return sorted(found, key=lambda file: (file.generation, file.pass_number or 0, file.path))


def newest_pass(place: str, name: str) -> int:
    """Return the highest number of a pass of this job, or of its replays, that left something in this place.

    Returns:
        0 if none has.
    """
    opened = open_place(place)
    if not of_replay(name):
        return max((file.pass_number or 0 for file in find_letter_files(opened, name)), default=0)
    lists = [int(match[1]) for path in opened.find(main_job(name)) if (match := _LIST.fullmatch(path))]
    return max([0, *lists, *(file.generation for file in find_letter_files(opened, name))])


def read_rows(place: Store, path: str, runs: Sequence[Run], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield these rows of a letter file, in tables of at most one row group (1,000 rows)."""
    with place.open(path) as opened, pq.ParquetFile(opened) as parquet:
        start = 0
        for group in range(parquet.num_row_groups):
            upto = start + parquet.metadata.row_group(group).num_rows
            rows = [row for first, last in runs for row in range(max(first, start), min(last + 1, upto))]
            if rows:
                table = parquet.read_row_group(group, columns=list(columns))
                yield table if len(rows) == upto - start else table.take(pa.array(rows, pa.int64()) - start)
            start = upto


def _batches(place: Store, file: LetterFile, columns: Sequence[str]) -> Iterator[pa.Table]:
    with place.open(file.path) as opened, pq.ParquetFile(opened) as parquet:
        for batch in parquet.iter_batches(READ_ROWS, columns=list(columns)):
            yield pa.Table.from_batches([batch])


def _generations(place: Store, files: Sequence[LetterFile]) -> dict[str, int]:
    """Return the newest generation of each letter that failed again."""
    newest: dict[str, int] = {}
    for file in files:  # By generation, so that a later one overwrites.
        if file.generation:
            for table in _batches(place, file, ["id"]):
                newest.update(dict.fromkeys(table["id"].to_pylist(), file.generation))
    return newest


class FoundLetters(NamedTuple):
    """Letters that were found in one file.

    Attributes:
        rows: The rows of the letters in the file, counted from 0.
        table: The columns that were asked for, followed by those of the status.
    """

    path: str
    rows: list[int]
    table: pa.Table


def find_letters(
    place: Store, job: str, columns: Sequence[str], pass_number: int | None = None, status: LetterStatus | None = None
) -> Iterator[FoundLetters]:
    """Yield the letters of a pass, or of all passes, each once and as it failed last, at most 1,000 at a time.

    The tables have these `columns`, followed by status, decided_at, decided_by and reason. None as `status` means
    any status.
    """
    files, statuses = find_letter_files(place, job), read_statuses(place, job)
    newest = _generations(place, files)
    needed = list(dict.fromkeys([*columns, "id", "pass"]))
    for file in files:
        if pass_number is not None and file.pass_number not in (None, pass_number):
            continue
        start = 0
        for table in _batches(place, file, needed):
            ids, passes = table["id"].to_pylist(), table["pass"].to_pylist()
            states = [statuses.of(letter) for letter in ids]
            kept = [
                row
                for row, (letter, number, of) in enumerate(zip(ids, passes, states, strict=True))
                if newest.get(letter, 0) == file.generation
                and pass_number in (None, number)
                and status in (None, of.status)
            ]
            if kept:
                shown = table.select(list(columns))
                for name, values in zip(STATUS, zip(*states, strict=True), strict=True):
                    shown = shown.append_column(name, pa.array(values, pa.string()))
                yield FoundLetters(file.path, [start + row for row in kept], shown.take(pa.array(kept)))
            start += table.num_rows


def letter_tables(
    place: Store, job: str, columns: Sequence[str], pass_number: int | None = None, status: LetterStatus | None = None
) -> Iterator[pa.Table]:
    """Yield the tables of `find_letters`."""
    for found in find_letters(place, job, columns, pass_number, status):
        yield found.table


def read_letters(
    place: str, job: str, pass_number: int | None = None, status: LetterStatus | None = None
) -> "pd.DataFrame":
    """Return the letters of a pass, or of all passes, with their status.

    Returns:
        A row for each letter. No rows if there are none.
    """
    opened, schema = open_place(place), letter_schema(pa.schema([]))
    record = record_type(opened, job, pass_number)
    tables = [with_records(table, record) for table in letter_tables(opened, job, schema.names, pass_number, status)]
    if not tables:
        empty = schema.empty_table()
        for name in STATUS:
            empty = empty.append_column(name, pa.array([], pa.string()))
        tables = [empty]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def record_type(place: Store, job: str, pass_number: int | None = None) -> pa.StructType:
    """Return the type of all records in the letters of a pass and of the replays, or of all passes."""
    found = []
    for file in find_letter_files(place, job):
        if pass_number is None or file.pass_number in (None, pass_number):
            with place.open(file.path) as opened:
                found.append(pq.read_schema(opened).field("record").type)
    return joined_type(found)


def count_letters(place: Store, job: str, pass_number: int | None = None) -> dict[LetterStatus, int]:
    """Return how many letters are open, resolved and discarded, which together are all that are stored."""
    counts: dict[LetterStatus, int] = {"open": 0, "resolved": 0, "discarded": 0}
    for table in letter_tables(place, job, ["id"], pass_number):
        for status in table["status"].to_pylist():
            counts[status] += 1
    return counts


def all_ids(place: Store, job: str) -> LetterSet:
    """Return the ids of all stored letters of the job."""
    return LetterSet(letter for table in letter_tables(place, job, ["id"]) for letter in table["id"].to_pylist())
