"""One chunk of a job, and the replay of its letters, in this process: without Prefect, whatever the ends."""

import itertools

import pandas as pd
import pyarrow as pa

from prefect_batch import processor
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.read import read_rows
from prefect_batch.blocks.letters.record_json import decode_record
from prefect_batch.blocks.letters.replay_list import ReplayList, write_replay_list
from prefect_batch.blocks.opening import open_source
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.tasks.work.work_chunk import ChunkJob, forget, work_chunk

COLUMNS = ["id", "key", "stage", "error_type", "error_message", "record_json"]
_numbers = itertools.count()


def same(record):
    return record


async def same_async(record):
    return record


@processor(vectorized=True)
def same_frame(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


@processor(vectorized=True)
def same_table(table: pa.Table) -> pa.Table:
    return table


FORMS = {"record": same, "async": same_async, "frame": same_frame, "table": same_table}


class OneChunk:
    """A job from `source` to `sink` that reads all in one chunk, with its letters in `place`."""

    def __init__(self, place, source, sink, **options):
        self.place, self.source, self.sink, self.options = str(place), source, sink, options

    def run(self, process):
        """Return the tally of the pass, once it is written and its letters buried."""
        return self._work(f"job{next(_numbers)}", self.source, process)

    def _work(self, name, source, process):
        job = ChunkJob(name, 1, "id", name, source, self.sink, process, self.place, **self.options)
        last = open_source(source).last_key()
        try:
            result = work_chunk(job, ChunkRange(None, last))
        finally:
            forget(name)
        self.buried = result.letters and result.letters.removeprefix(self.place).lstrip("/")
        return result.tally

    def letters(self):
        """Return the letters that the last run buried, each with its record."""
        if not self.buried:
            return []
        letters = [
            row for t in read_rows(open_place(self.place), self.buried, [(0, 2**40)], COLUMNS) for row in t.to_pylist()
        ]
        return [{**letter, "decoded": decode_record(letter["record_json"])} for letter in letters]

    def replay(self, process, records="letter"):
        """Replay all letters of the last run, and return the tally."""
        count = len(self.letters())
        path = f"list{next(_numbers)}.json"
        write_replay_list(open_place(self.place), path, ReplayList(((self.buried, ((0, count - 1),)),)))
        origin = self.source if records == "source" else None
        letters = Letters(self.place, "job", 1, (self.place, path), records, origin, {})
        return self._work(f"job{next(_numbers)}", letters, process)
