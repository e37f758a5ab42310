"""A run with a limit ends when it has read about so many records, and no earlier, whatever a killed run had planned."""

from hypothesis import given
from hypothesis import strategies as st

from prefect_batch.blocks.chunks import Tally
from prefect_batch.blocks.state.position import Position
from prefect_batch.tasks.plan.chunk_size import ChunkSizer
from prefect_batch.tasks.plan.planner import Planner


class Rows:
    """The numbers up to `count`, as a source to plan over."""

    def __init__(self, count):
        self.count = count

    def edges(self, after, upto, rows, most):
        first = after[0] if after else 0
        return [(min(first + rows * (i + 1), upto[0]),) for i in range(most) if first + rows * i < upto[0]]


@given(
    count=st.integers(1, 400),
    former=st.lists(st.integers(1, 60), max_size=6),
    gone=st.sets(st.integers(1, 400)),
    size=st.integers(1, 70),
    at_once=st.integers(1, 4),
    limit=st.integers(1, 500),
    random=st.randoms(use_true_random=False),
)
def test_a_limit_is_reached_and_hardly_passed(count, former, gone, size, at_once, limit, random):
    """`former` are the sizes of the planned chunks; `gone` are records that were deleted since."""
    source, position = Rows(count), Position(None, (count,), None)
    for rows in former:
        if not position.fully_planned:
            position = position.plan(source.edges(position.planned_upto, position.upper, rows, 1))
    planner, busy, read, largest = Planner(source, ChunkSizer(size, 0), limit=limit, canary=None), set(), 0, 0
    while True:
        while (more := planner.plan(position, busy, at_once - len(busy))) != position:
            position = more
        busy.update(planner.take(position, busy, at_once - len(busy)))
        if not busy:
            break
        chunk = random.choice(sorted(busy, key=lambda one: one.upto))
        there = sum(n not in gone for n in range((chunk.after or (0,))[0] + 1, chunk.upto[0] + 1))
        read, largest = read + there, max(largest, there)
        busy.discard(chunk)
        position = position.finish(chunk)
        planner.learn(chunk, Tally(read=there, written=there))
    assert position.complete or read >= limit
    assert read <= limit + at_once * max([largest, *former] if former else [0])


def test_the_chunks_of_a_killed_run_do_not_end_the_next_one_early():
    """As seen: 29,000 records left, a limit of 30,000, and the run ended after 19,000."""
    position = Position(None, (30_000,), (1_000,)).plan([(11_000,), (21_000,)])
    planner = Planner(Rows(30_000), ChunkSizer(10_000, 29_000, 2, 10_000), limit=30_000, canary=None)
    wanted = 1
    for _ in range(6):
        while (more := planner.plan(position, set(), wanted)) != position:
            position = more
        for chunk in planner.take(position, set(), wanted):
            position = position.finish(chunk)
        wanted = 2
    assert position.complete
