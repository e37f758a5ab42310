"""Laws of dead letters under random sequences of run, fail, replay, discard, purge and crash."""

import json
import tempfile
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.dead_letter import DeadLetter
from prefect_batch.blocks.letters.bury import DeadLetters
from prefect_batch.blocks.letters.ids import LetterSet
from prefect_batch.blocks.letters.place import open_place
from prefect_batch.blocks.letters.purge import purge_letters
from prefect_batch.blocks.letters.read import count_letters, read_letters
from prefect_batch.blocks.letters.replay_list import list_path, write_replay_list
from prefect_batch.blocks.letters.status import Decision, save_decision
from prefect_batch.blocks.opening import open_source
from prefect_batch.blocks.parameters.letters import Letters
from prefect_batch.tasks.letters.choose import Selection, Unfinished, choose

SCHEMA = pa.schema([("id", pa.int64())])
NOW = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 12
STEPS = ("before bury", "after bury", "after commit", "after settle", "never")


def letter(key, attempts=1, origin=None):
    return DeadLetter((key,), "process", "E", "m", "t", attempts, NOW, {"id": key}, origin=origin)


class World:
    """A job's place, and what a sink with a ledger would hold: the keys written, and the chunks committed."""

    def __init__(self, root):
        self.root, self.place = root, open_place(root)
        self.buried, self.purged = 0, 0
        self.sink: list[int] = []
        self.ledger: set[tuple[int, str]] = set()
        self.replays = 0
        self.passes = 0

    def run(self, failing, times):
        """A pass of two chunks, each of which may be repeated before it counts."""
        self.passes += 1
        for low in (0, ROWS // 2):
            chunk = ChunkRange((low,), (low + ROWS // 2,))
            for attempt in range(times):
                last = attempt == times - 1  # Before that, all of them fail.
                failed = [key for key in range(low + 1, low + ROWS // 2 + 1) if key in failing or not last]
                with DeadLetters(self.root, "job", self.passes, SCHEMA).open(chunk, "run") as burial:
                    burial.add([letter(key) for key in failed])
                    burial.finish()
            self.buried += len(failed)

    def replay(self, failing, keys, size, crash):
        """A replay that dies at this step of its second chunk, if there is one, and is then called again."""
        chosen = choose(self.place, "job", Selection(key=tuple(map(str, keys))), Unfinished()).replay_list
        self.replays += 1
        write_replay_list(self.place, list_path("job", self.replays), chosen)
        spec = Letters(self.root, "job", self.replays, (self.root, list_path("job", self.replays)), "letter", None, {})
        for number, after in enumerate(range(0, chosen.count, size)):
            chunk = ChunkRange((after,) if after else None, (min(after + size, chosen.count),))
            if number == 1:
                self._work(spec, chunk, failing, crash)
                self.check()
            self._work(spec, chunk, failing, "never")

    def _work(self, spec, chunk, failing, crash):
        source = open_source(spec)
        if (spec.replay, chunk.digest) in self.ledger:
            source.settle(chunk, "run")
            return
        if crash == "before bury":
            return
        rows = [row for batch in source.read(chunk, 3) for row in batch.rows]
        with DeadLetters(self.root, "job--replay", spec.replay, SCHEMA).open(chunk, "run") as burial:
            failed = [row for row in rows if row[0] in failing]
            origins = [source.origin_of(row) for row in failed]
            burial.add([letter(r[0], o.attempts + 1, o) for r, o in zip(failed, origins, strict=True)])
            burial.finish()
        if crash == "after bury":
            return
        self.ledger.add((spec.replay, chunk.digest))
        self.sink += [row[0] for row in rows if row[0] not in failing]
        if crash == "after commit":
            return
        source.settle(chunk, "run")

    def discard(self, keys, number):
        choice = choose(self.place, "job", Selection(key=tuple(map(str, keys))), Unfinished())
        if choice.ids:
            decision = Decision("discarded", LetterSet(choice.ids), "ada", NOW.isoformat(), "x")
            save_decision(self.place, "job", f"discard-{number}", decision)

    def purge(self):
        resolved = count_letters(self.place, "job")["resolved"]
        assert purge_letters(self.place, "job", datetime.now(UTC) + timedelta(days=1)) == resolved
        self.purged += resolved
        assert count_letters(self.place, "job")["resolved"] == 0

    def check(self):
        counts = count_letters(self.place, "job")
        assert sum(counts.values()) == self.buried - self.purged
        frame = read_letters(self.root, "job")
        assert len(frame) == len(set(frame["id"])) == sum(counts.values())
        return counts, frame


KEYS = st.sets(st.integers(1, ROWS))
OPERATION = st.one_of(
    st.tuples(st.just("run"), KEYS, st.integers(1, 2)),
    st.tuples(st.just("replay"), KEYS, KEYS, st.integers(1, 4), st.sampled_from(STEPS)),
    st.tuples(st.just("discard"), KEYS),
    st.tuples(st.just("purge")),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(OPERATION, max_size=8), KEYS)
def test_open_resolved_and_discarded_are_what_was_buried_always(operations, failing):
    with tempfile.TemporaryDirectory() as root:
        world = World(root)
        world.run(failing, 1)
        for number, (name, *arguments) in enumerate(operations):
            if name == "discard":
                arguments.append(number)
            getattr(world, name)(*arguments)
            counts, frame = world.check()
            # What is resolved is in the sink, once for each letter; what is open or discarded is not.
            assert len(world.sink) == counts["resolved"] + world.purged
            resolved = [json.loads(key)[0] for key in frame[frame["status"] == "resolved"]["key"]]
            left = list(world.sink)
            for key in resolved:
                left.remove(key)
            assert len(left) == world.purged
            assert all(frame["attempts"] >= 1 + (frame["generation"] > 0))
