"""The suite for sinks, which tests every promise of `prefect_batch.blocks.contracts.Sink` and its transactions."""

import contextlib
import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from prefect_batch.blocks.blame import blame_of
from prefect_batch.blocks.capabilities import TakesTables, WritesOneByOne
from prefect_batch.blocks.chunks import ChunkRange, Split
from prefect_batch.blocks.contracts import Sink, SinkTransaction
from prefect_batch.blocks.errors import WriteAgain
from prefect_batch.blocks.jobs import PassRef
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.tasks.work.isolate import isolate
from prefect_batch.tasks.work.outputs import Item, places
from prefect_batch.testing.cases import SinkCase, promised, same_rows, shown

PASS = PassRef("exercise", 1, "ab12cd34")
# Adjacent ranges, as in a pass: each begins where another ends.
CHUNKS = [ChunkRange(None if n == 0 else (10 * n,), (10 * n + 10,)) for n in range(8)]
ROWS, THREADS = 10, 4
# Enough to test the ways to write if many records are refused.
MANY_ROWS = 50
REFUSED = (set[int](), {0}, {MANY_ROWS - 1}, {7, 8, 9}, set(range(0, MANY_ROWS, 7)), set(range(MANY_ROWS)))


def exercise_sink(make: Callable[[], SinkCase]) -> None:
    """Test whether a sink keeps everything that its contract promises.

    Args:
        make: Returns a new, empty sink. Sinks that it returned before are no longer used.

    Raises:
        AssertionError: A promise is broken. The message says which, and how.
    """
    for tries in _TRIES:
        tries(make())
    for bad in REFUSED:
        _finds_what_is_refused(make(), bad)


def _opened(case: SinkCase) -> Sink:
    """Return a sink at the beginning of a pass."""
    sink = case.open()
    warnings = sink.check(_schema(_records(case, 0)))
    promised(
        isinstance(warnings, list) and all(isinstance(one, str) for one in warnings),
        f"{sink.name}: check gave {warnings!r}; it returns a list of sentences",
    )
    sink.begin_pass(PASS)
    return sink


def _records(case: SinkCase, place: int, version: int = 0, count: int = ROWS) -> list[Record]:
    """Return records of the chunk at this place."""
    return [case.record(ROWS * place + n, version) for n in range(count)]


def _schema(records: Sequence[Record]) -> pa.Schema:
    return pa.Table.from_pylist(list(records)).schema


def _put(sink: Sink, place: int, records: list[Record]) -> None:
    """Write a chunk as a run does: not again if its result is found, and otherwise as a whole."""
    result = {"chunk": place, "rows": len(records)}
    if sink.needs_ledger:
        with sink.transaction(PASS, CHUNKS[place]) as transaction:
            if transaction.find() is not None:
                return
    if records:
        sink.prepare(records, _schema(records))
    with sink.transaction(PASS, CHUNKS[place]) as transaction:
        _write(transaction, records)
        _end(sink, transaction, result)


def _write(transaction: SinkTransaction, records: list[Record]) -> None:
    """Write as a chunk does: in a savepoint, and once more if the sink raises WriteAgain."""
    with contextlib.suppress(WriteAgain):
        with transaction.savepoint():
            transaction.write(records)
        return
    with transaction.savepoint():
        transaction.write(records)


def _end(sink: Sink, transaction: SinkTransaction, result: dict[str, Any]) -> None:
    if sink.needs_ledger:
        transaction.record(result)
    transaction.commit()


def _has(case: SinkCase, wanted: Sequence[Record], how: str) -> None:
    """Raise AssertionError unless the sink has these rows when its pass has ended."""
    sink = case.open()
    sink.end_pass(PASS)
    found = list(case.rows())
    promised(
        same_rows(found, wanted), f"{sink.name}: {how}; it has {shown(found)}, and should have {shown(list(wanted))}"
    )


def _keeps_what_is_committed(case: SinkCase) -> None:
    """Test a sink whose pass began twice, and one that was opened after another had begun."""
    sink = _opened(case)
    sink.begin_pass(PASS)
    promised(
        sink.fills is None or sink.fills.is_absolute(), f"{sink.name}: fills is {sink.fills}, which is not absolute"
    )
    rows = _records(case, 0)
    held = copy.deepcopy(rows)
    _put(sink, 0, rows)
    promised(rows == held, f"{sink.name}: write changed the records that it was given")
    _put(case.open(), 1, _records(case, 1))
    _has(case, _records(case, 0) + _records(case, 1), "two chunks were committed, the second by a sink opened anew")


def _leaves_nothing_without_commit(case: SinkCase) -> None:
    sink = _opened(case)
    _put(sink, 0, _records(case, 0))
    with sink.transaction(PASS, CHUNKS[1]) as transaction:
        _write(transaction, _records(case, 1))
        if sink.needs_ledger:
            transaction.record({"chunk": 1})
    if sink.needs_ledger:
        with sink.transaction(PASS, CHUNKS[1]) as transaction:
            promised(transaction.find() is None, f"{sink.name}: find knows a chunk that was not committed")
    _put(sink, 1, [])
    _has(case, _records(case, 0), "a chunk was written and not committed, and then repeated without rows")


class _Stop(Exception):
    """The error that leaves a block."""


def _leaves_nothing_after_an_error(case: SinkCase) -> None:
    sink = _opened(case)
    sink.prepare(_records(case, 0), _schema(_records(case, 0)))
    went_on = False
    try:
        with sink.transaction(PASS, CHUNKS[0]) as transaction:
            _write(transaction, _records(case, 0))
            raise _Stop  # noqa: TRY301 - as a chunk does
    except _Stop:
        went_on = True
    promised(went_on, f"{sink.name}: an error in the transaction's block did not go on")
    _put(sink, 0, [])
    _has(case, [], "a transaction was left by an error, and its chunk repeated without rows")


def _writes_many_batches_in_one_transaction(case: SinkCase) -> None:
    sink, rows = _opened(case), _records(case, 0, count=MANY_ROWS)
    sink.prepare(rows, _schema(rows))
    with sink.transaction(PASS, CHUNKS[0]) as transaction:
        for first in range(0, MANY_ROWS, 5):
            _write(transaction, rows[first : first + 5])
            transaction.write([])
        _end(sink, transaction, {})
    _has(case, rows, f"{MANY_ROWS} records were committed in batches of 5")


def _undoes_a_block_only(case: SinkCase) -> None:
    """Test that what was written before and after a savepoint stays."""
    if case.refused is None:
        return
    sink, before, after = _opened(case), _records(case, 0), _records(case, 2)
    sink.prepare(before, _schema(before))
    with sink.transaction(PASS, CHUNKS[0]) as transaction:
        _write(transaction, before)
        for _ in range(2):
            _refuses(sink, transaction, [*_records(case, 1), case.refused(2 * ROWS - 1)])
        _write(transaction, after)
        _end(sink, transaction, {})
    _has(case, before + after, "a write between two others was refused, and its savepoint left by that")


def _refuses(sink: Sink, transaction: SinkTransaction, records: list[Record]) -> None:
    try:
        with transaction.savepoint():
            transaction.write(records)
    except Exception as error:  # noqa: BLE001 - whatever the sink raises
        promised(
            not blame_of(error).fails_chunk, f"{sink.name}: {error!r} fails the chunk, where one record is to blame"
        )
    else:
        promised(False, f"{sink.name}: {records[-1]} should be refused, and was written")


def _finds_what_is_refused(case: SinkCase, bad: set[int]) -> None:
    """Test that only bad records are refused, wherever they are, and that all others are written."""
    if case.refused is None:
        return
    sink, good = _opened(case), _records(case, 0, count=MANY_ROWS)
    rows = [case.refused(n) if n in bad else row for n, row in enumerate(good)]
    sink.prepare(good, _schema(good))
    with sink.transaction(PASS, CHUNKS[0]) as transaction:
        items = [Item(place, [row]) for place, row in enumerate(rows)]
        refused = [place for part, _ in isolate(transaction, items) for place in places(part)]
        promised(refused == sorted(bad), f"{sink.name}: of {sorted(bad)} the records {refused} were refused")
        _end(sink, transaction, {})
    _has(case, [row for n, row in enumerate(good) if n not in bad], f"the records {sorted(bad)} were refused")


def _writes_rows_apart(case: SinkCase) -> None:
    """Test that only bad rows are refused, or that nothing is written if the sink cannot write one by one."""
    if case.refused is None:
        return
    sink, good = _opened(case), _records(case, 0, count=MANY_ROWS)
    rows = [case.refused(n) if n % 3 == 0 else row for n, row in enumerate(good)]
    sink.prepare(good, _schema(good))
    with sink.transaction(PASS, CHUNKS[0]) as transaction:
        if not isinstance(transaction, WritesOneByOne):
            return
        errors, said = None, f"{sink.name}: write_one_by_one"
        try:
            with transaction.savepoint():
                errors = transaction.write_one_by_one(rows)
        except Exception as error:  # noqa: BLE001 - whatever the sink raises
            promised(not blame_of(error).fails_chunk, f"{said}: {error!r} fails the chunk, where records are to blame")
        wrong = [place for place, error in (errors or {}).items() if place % 3 and error is not None]
        promised(not wrong, f"{said} refused the records {wrong}, which are as they should be")
        taken = [place for place in range(0, MANY_ROWS, 3) if errors is not None and place not in errors]
        promised(not taken, f"{said} took the records {taken}, which should be refused")
        _end(sink, transaction, {})
    left = [] if errors is None else [row for place, row in enumerate(good) if place not in errors]
    _has(case, left, "records were written one by one, where that can be done")


def _writes_tables(case: SinkCase) -> None:
    """Test tables in any number of Arrow chunks, and without rows."""
    sink, rows = _opened(case), _records(case, 0, count=MANY_ROWS)
    sink.prepare(rows, _schema(rows))
    with sink.transaction(PASS, CHUNKS[0]) as transaction:
        if not isinstance(transaction, TakesTables):
            return
        table = pa.Table.from_pylist(rows)
        for part in (table.slice(0, 10), table.slice(0, 0), pa.concat_tables([table.slice(10, 15), table.slice(25)])):
            with transaction.savepoint():
                transaction.write_table(part)
        _end(sink, transaction, {})
    _has(case, rows, f"{MANY_ROWS} records were committed as tables")


def _repeats_a_chunk_once(case: SinkCase) -> None:
    """Test that chunks that this sink and a new one repeat are there once."""
    sink = _opened(case)
    for place in range(3):
        _put(sink, place, _records(case, place))
    version = 0 if sink.needs_ledger else 1  # A chunk whose result is found is not written again.
    for again in (sink, case.open()):
        for place in range(3):
            _put(again, place, _records(case, place, version=1))
    _has(
        case, [row for place in range(3) for row in _records(case, place, version)], "all chunks were done three times"
    )


def _finds_the_result(case: SinkCase) -> None:
    sink = _opened(case)
    if not sink.needs_ledger:
        return
    for place in range(2):
        _put(sink, place, _records(case, place) if place else [])
    for opened in (sink, case.open()):
        for place, wanted in enumerate([{"chunk": 0, "rows": 0}, {"chunk": 1, "rows": ROWS}, None]):
            with opened.transaction(PASS, CHUNKS[place]) as transaction:
                found = transaction.find()
            promised(found == wanted, f"{sink.name}: find gave {found!r}, where {wanted!r} was recorded")
    _has(case, _records(case, 1), "a chunk without rows and one with some were committed")


def _takes_a_chunk_from_one_of_two(case: SinkCase) -> None:
    """Test a chunk that another run, taken for dead, has committed since its result was looked up."""
    sink = _opened(case)
    _put(sink, 0, _records(case, 0))
    with sink.transaction(PASS, CHUNKS[0]) as transaction:
        with contextlib.suppress(Exception):  # Rows with keys may be refused, because they already exist.
            _write(transaction, _records(case, 0))
        try:
            _end(sink, transaction, {"chunk": 0, "rows": ROWS})
        except Exception as error:  # noqa: BLE001 - whatever the sink raises
            promised(
                blame_of(error).passes,
                f"{sink.name}: a chunk that is done already raised {error!r}, and not ChunkIsDone",
            )
    _has(case, _records(case, 0), "two runs have committed the same chunk")


def _takes_a_chunk_or_its_split(case: SinkCase) -> None:
    """Test that the chunk and its split exclude each other, and that the parts come in place of the chunk."""
    sink = _opened(case)
    if not sink.needs_ledger:
        return
    split = Split(ChunkRange(None, CHUNKS[1].upto), (CHUNKS[0].upto,))
    done = CHUNKS[2]
    _put(sink, 2, _records(case, 2))
    for chunk, result in ((done, {"split": []}), (split.range, split.encode()), (split.range, {})):
        try:
            with sink.transaction(PASS, chunk) as transaction:
                if chunk != done and not result:
                    _write(transaction, _records(case, 0, version=1))
                _end(sink, transaction, result)
            taken = True
        except Exception as error:  # noqa: BLE001 - whatever the sink raises
            promised(blame_of(error).passes, f"{sink.name}: a chunk with an outcome raised {error!r}, not ChunkIsDone")
            taken = False
        wanted = result == split.encode()
        promised(taken == wanted, f"{sink.name}: {chunk.text} has {'no' if wanted else 'a second'} outcome, {result}")
    with case.open().transaction(PASS, split.range) as transaction:
        found = transaction.find()
        promised(found == split.encode(), f"{sink.name}: find gave {found!r} for a chunk that was split")
    for place in (1, 0):
        _put(sink, place, _records(case, place))
    _has(case, [row for place in range(3) for row in _records(case, place)], "a chunk was split, and its parts written")


def _writes_chunks_at_once(case: SinkCase) -> None:
    """Test several threads, each of which would create what is missing of the sink."""
    sink, places = _opened(case), range(len(CHUNKS))
    try:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda place: _put(sink, place, _records(case, place)), places))
    except Exception as error:
        raise AssertionError(f"{sink.name}: chunks were written by several threads, and one of them failed") from error
    _has(case, [row for place in places for row in _records(case, place)], "chunks were written by several threads")


def _keeps_transactions_apart(case: SinkCase) -> None:
    """Test two transactions at once, of which one is committed, unless the sink has a single writer."""
    sink = _opened(case)
    if sink.held_rows:
        return
    _put(sink, 0, _records(case, 0))
    with sink.transaction(PASS, CHUNKS[1]) as first:
        _write(first, _records(case, 1))
        with sink.transaction(PASS, CHUNKS[2]) as second:
            _write(second, _records(case, 2))
        _end(sink, first, {})
    _put(sink, 2, [])
    _has(case, _records(case, 0) + _records(case, 1), "of two transactions at once one was committed")


def _ends_a_pass_again(case: SinkCase) -> None:
    sink = _opened(case)
    _put(sink, 0, _records(case, 0))
    for _ in range(2):
        sink.end_pass(PASS)
        case.open().end_pass(PASS)
    _has(case, _records(case, 0), "the pass was ended several times")


_TRIES = (
    _keeps_what_is_committed,
    _leaves_nothing_without_commit,
    _leaves_nothing_after_an_error,
    _writes_many_batches_in_one_transaction,
    _undoes_a_block_only,
    _writes_rows_apart,
    _writes_tables,
    _repeats_a_chunk_once,
    _finds_the_result,
    _takes_a_chunk_from_one_of_two,
    _takes_a_chunk_or_its_split,
    _writes_chunks_at_once,
    _keeps_transactions_apart,
    _ends_a_pass_again,
)
