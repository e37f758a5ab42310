"""The suite for sources, which tests every promise of `prefect_batch.blocks.contracts.Source`."""

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.capabilities import (
    ComparesKeys,
    CutsExactly,
    FindsRecords,
    GivesTables,
    OfFiles,
    Replays,
    ShowsStatements,
)
from prefect_batch.blocks.chunks import ChunkRange
from prefect_batch.blocks.contracts import Source
from prefect_batch.blocks.errors import BadParameter
from prefect_batch.blocks.file_list import FileList
from prefect_batch.blocks.key_sum import are_integers, sum_of_keys
from prefect_batch.blocks.keys import Key
from prefect_batch.blocks.kinds.record import Record
from prefect_batch.testing.cases import SourceCase, promised, shown
from prefect_batch.testing.walk import Walk, ranges_of, read_range, saved, walk

# Enough for several ranges of several batches each.
MANY = 13
THREADS = 4
BATCH_ROWS = 3


def exercise_source(make: Callable[[int], SourceCase]) -> None:
    """Test whether a source keeps everything that its contract promises.

    Args:
        make: Returns a source with this many records. It is called with 0, 1 and 13. Sources that it returned before
            are no longer used.

    Raises:
        AssertionError: A promise is broken. The message says which, and how.
    """
    for count in (0, 1, MANY):
        case = make(count)
        promised(len(case.records) == count, f"make({count}) gave a case of {len(case.records)} records")
        for tries in _ALWAYS:
            tries(case)
        for tries in _WITH_RECORDS if count else ():
            tries(case)
        _forgets_what_is_gone(case)


def _describes_itself(case: SourceCase) -> None:
    source = case.open()
    warnings = source.check()
    promised(
        isinstance(warnings, list) and all(isinstance(one, str) for one in warnings),
        f"{source.name}: check gave {warnings!r}; it returns a list of sentences",
    )
    promised(source.key and all(source.key), f"{source.name}: its key {source.key!r} names no column")
    names, schema = tuple(source.names), source.schema
    promised(
        tuple(schema.names) == names, f"{source.name}: names are {names}, and the schema has {tuple(schema.names)}"
    )


def _covers_all_once(case: SourceCase) -> None:
    """Test ranges of every size, planned one by one or several at a time."""
    source, count = case.open(), len(case.records)
    for rows in range(1, count + 2):
        for most in (1, 3):
            found = walk(source, rows, BATCH_ROWS, most)
            _same_records(source, case.records, found, f"ranges of {rows} planned {most} at a time")
            _about_as_many(source, case, rows)


def _same_records(source: Source, wanted: Sequence[Record], found: Walk, how: str) -> None:
    if found.records == list(wanted) and not found.unreadable:
        return
    missing = [record for record in wanted if record not in found.records]
    twice = [record for place, record in enumerate(found.records) if record in found.records[:place]]
    others = [record for record in found.records if record not in wanted]
    order = "" if missing or twice or others else "; they are the right ones, in the wrong order"
    promised(
        False,
        f"{source.name}: {how} do not give every record once and in order; missing: {shown(missing)}; twice: "
        f"{shown(twice)}; unknown: {shown(others)}; unreadable: {shown(found.unreadable)}{order}",
    )


def _about_as_many(source: Source, case: SourceCase, rows: int) -> None:
    if not case.divides:
        return
    for chunk in ranges_of(source, rows):
        here = len(read_range(source, chunk, MANY).records)
        promised(
            here <= 2 * rows + 2, f"{source.name}: edges were to be {rows} records apart, and {chunk.text} has {here}"
        )


def _cuts_at_any_record(case: SourceCase) -> None:
    """Test that ranges can be split down to single keys, exactly where the source says that it cuts so."""
    source = case.open()
    for chunk in ranges_of(source, MANY):
        whole = read_range(source, chunk, MANY)
        for rows in range(1, len(whole.records) + 2):
            exact = isinstance(source, CutsExactly)
            key = (
                source.cut(chunk, rows)
                if isinstance(source, CutsExactly)
                else source.edges(chunk.after, chunk.upto, rows, 1)[0]
            )
            first = read_range(source, ChunkRange(chunk.after, key), MANY).records
            rest = [] if key == chunk.upto else read_range(source, ChunkRange(key, chunk.upto), MANY).records
            promised(
                first + rest == whole.records
                and (len(first) == min(rows, len(whole.records)) or (rows > 1 and not exact)),
                f"{source.name}: {chunk.text} was cut after {rows} records, and has {len(first)} and {len(rest)}",
            )
            promised(
                rows < len(whole.records) or key == chunk.upto or not exact,
                f"{source.name}: {chunk.text} has {len(whole.records)} records, and was cut behind the last at {key!r}",
            )


def _has_bounds(case: SourceCase) -> None:
    source = case.open()
    last = source.last_key()
    promised(last is not None or not case.records, f"{source.name}: no last_key, and {len(case.records)} records")
    if last is None:
        return
    promised(source.last_key(last) is None, f"{source.name}: there is a key beyond its last one, {last!r}")
    whole = source.estimate(None, last)
    promised(
        isinstance(whole, int) and whole >= min(1, len(case.records)),
        f"{source.name}: estimated to have {whole!r} of {len(case.records)}",
    )
    first = source.edges(None, last, 1, 1)[0]
    if first != last:
        promised(source.last_key(first) == last, f"{source.name}: last_key({first!r}) is not {last!r}")
        rest = source.estimate(first, last)
        promised(0 <= rest <= whole, f"{source.name}: a part is estimated at {rest:,} records, and all at {whole:,}")


def _counts_back(case: SourceCase) -> None:
    source, last = case.open(), case.open().last_key()
    if last is None:
        return
    for rows in range(1, len(case.records) + 2):
        try:
            after = source.back(last, rows)
        except BadParameter:  # The source cannot count backwards, and says so.
            return
        here = [] if after == last else read_range(source, ChunkRange(after, last), MANY).records
        promised(
            here == list(case.records[-rows:]) and (after is None) == (rows >= len(case.records)),
            f"{source.name}: back({last!r}, {rows}) is {after!r}, and {len(here)} records lie behind it",
        )


def _reads_the_same_again(case: SourceCase) -> None:
    """Test the same source and a new one, with other batch sizes, and after a reading that was left early."""
    source, other = case.open(), case.open()
    for chunk in ranges_of(source, 5):
        wanted = read_range(source, chunk, BATCH_ROWS)
        for reading in (iter(source.read(chunk, 1)), iter(other.read(chunk, 1))):
            next(reading, None)
            _leave(reading)
        for again, rows in ((source, BATCH_ROWS), (source, 1), (other, MANY)):
            found = read_range(again, chunk, rows)
            promised(
                found == wanted,
                f"{source.name}: {chunk.text} was read again and gave {shown(found.records)}, and before "
                f"{shown(wanted.records)}",
            )


def _leave(reading: object) -> None:
    if close := getattr(reading, "close", None):
        close()


def _reads_in_threads(case: SourceCase) -> None:
    source = case.open()
    ranges = ranges_of(source, 2)
    wanted = [read_range(case.open(), chunk, BATCH_ROWS) for chunk in ranges]

    def work(place: int) -> tuple[list[ChunkRange], Walk]:
        return ranges_of(source, 2), read_range(source, ranges[place % len(ranges)], BATCH_ROWS)

    with ThreadPoolExecutor(THREADS) as threads:
        for place, (planned, found) in enumerate(threads.map(work, range(THREADS * len(ranges)))):
            promised(planned == ranges, f"{source.name}: planned in several threads at once it gave other ranges")
            promised(
                found == wanted[place % len(ranges)],
                f"{source.name}: {found.ranges[0].text} gave other records while other threads were reading",
            )


def _is_sent_to_processes(case: SourceCase) -> None:
    if case.open().only_here:
        return
    try:
        sent = pickle.loads(pickle.dumps(case.open))  # noqa: S301 - written here
    except Exception as error:
        raise AssertionError(
            f"{case.open().name}: what opens it cannot be sent to worker processes: {error}"
        ) from error
    _same_records(sent(), case.records, walk(sent(), 5), "ranges of a source that was sent to another process")


def _names_records_by_keys(case: SourceCase) -> None:
    source = case.open()
    if isinstance(source, Replays):
        return  # There it is the key that the record has in the job's source.
    found = walk(source, 4)
    repeated = [key for place, key in enumerate(found.keys) if key in found.keys[:place]]
    promised(not repeated, f"{source.name}: key_of gave {shown(repeated)} for several records")
    befores = [None, *found.keys]
    for after, key, record in zip(befores, map(saved, found.keys), found.records, strict=False):
        here = read_range(source, ChunkRange(after, key), MANY).records
        promised(
            here == [record], f"{source.name}: between the keys {after!r} and {key!r} lies {shown(here)}, not {record}"
        )


def _fits_its_schema(case: SourceCase) -> None:
    source = case.open()
    for field in source.schema:
        values = [record.get(field.name) for record in walk(source, MANY).records]
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            continue  # Text is also used for types that Arrow does not have.
        try:
            pa.array(values, field.type)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise AssertionError(
                f"{source.name}: column {field.name} is {field.type} in the schema, and has {shown(values, 3)}: {error}"
            ) from error


def _gives_the_same_as_tables(case: SourceCase) -> None:
    source = case.open()
    if not isinstance(source, GivesTables):
        return
    for chunk in ranges_of(source, 5):
        rows = read_range(source, chunk, BATCH_ROWS)
        tables = read_range(source, chunk, BATCH_ROWS, read=source.read_tables)
        promised(
            (tables.records, tables.keys) == (rows.records, rows.keys),
            f"{source.name}: {chunk.text} has {shown(tables.records)} as tables, and {shown(rows.records)} as rows",
        )
        for batch in source.read_tables(chunk, BATCH_ROWS):
            schema = source.schema if batch.table is None else batch.table.schema
            promised(
                schema.equals(source.schema), f"{source.name}: a table has another schema than the source: {schema}"
            )


def _finds_by_keys(case: SourceCase) -> None:
    source = case.open()
    if not isinstance(source, FindsRecords):
        return
    everything = walk(source, 4)
    for some in (slice(None), slice(0, 1), slice(None, None, 3)):
        wanted = list(zip(everything.keys[some], everything.records[some], strict=True))
        found = [
            (source.key_of(row), batch.record(row))
            for batch in source.find(everything.keys[some])
            for row in _rows(batch)
        ]
        promised(
            sorted(map(repr, found)) == sorted(map(repr, wanted)),
            f"{source.name}: find gave {shown(found)} instead of {shown(wanted)}",
        )


def _rows(batch: Batch) -> list[tuple[object, ...]]:
    return [batch.row(place) for place in range(len(batch))]


def _gives_its_keys(case: SourceCase) -> None:
    source = case.open()
    if not isinstance(source, ComparesKeys):
        return
    side, found = source.key_side(source.key), walk(source, 4)
    wanted = [side.comparable(key) for key in found.keys]
    keys = [side.comparable(key) for chunk in found.ranges for key in side.keys(chunk)]
    promised(keys == wanted, f"{source.name}: its keys by themselves are {shown(keys)}, and those read {shown(wanted)}")
    first = found.ranges[0]
    here = len(read_range(source, first, MANY).records)
    for after, beyond in ((None, wanted), (first.upto, wanted[here:])):
        there = side.has(found.keys, after, None)
        promised(
            there == set(beyond), f"{source.name}: beyond {after!r} it has {there}, and should have {shown(beyond)}"
        )
    count = side.beyond(first.upto)
    promised(count == len(wanted) - here, f"{source.name}: {count} keys lie beyond {first.upto!r}, of {len(wanted)}")
    if are_integers(first.upto):
        promised(
            side.sum(first) == sum_of_keys(found.keys[:here]),
            f"{source.name}: the sum of keys {side.sum(first)} is wrong",
        )


def _shows_how_it_reads(case: SourceCase) -> None:
    source = case.open()
    if not isinstance(source, ShowsStatements):
        return
    for chunk in ranges_of(source, 5):
        statement, (verdict, steps) = source.statement_text(chunk), source.explain(chunk)
        promised(statement, f"{source.name}: the statement for {chunk.text} is empty")
        promised(bool(verdict) == bool(steps), f"{source.name}: explained as {verdict!r}, with the steps {steps!r}")


def _is_of_the_same_files(case: SourceCase) -> None:
    source = case.open()
    if not isinstance(source, OfFiles):
        return
    again = source.with_files(FileList.decode(source.files.encode()))
    _same_records(again, case.records, walk(again, 5), "ranges of a source with a list of files")


def _settles_letters(case: SourceCase) -> None:
    source = case.open()
    if not isinstance(source, Replays):
        return
    found = walk(source, 5)
    origins = {repr(source.origin_of(row)) for row in found.rows}
    promised(len(origins) == len(found.rows), f"{source.name}: some of its rows are the same letter")
    for row, record in zip(found.rows, found.records, strict=True):
        promised(
            source.missing(row) is not None or source.record_of(row) == record,
            f"{source.name}: record_of gave {source.record_of(row)}, and the row is {record}",
        )
    for _ in range(2):
        for chunk in found.ranges:
            source.settle(chunk, "run")


def _forgets_what_is_gone(case: SourceCase) -> None:
    """Test that planned keys still work when their records are gone."""
    if case.clear is None:
        return
    source, keys = case.open(), walk(case.open(), 3).keys
    ranges, last = ranges_of(source, 3), source.last_key()
    case.clear()
    for chunk in ranges:
        here = read_range(source, chunk, BATCH_ROWS).records
        promised(not here, f"{source.name}: {chunk.text} is empty now, and gave {shown(here)}")
    promised(case.open().last_key() is None, f"{source.name}: it is empty now, and has a last key")
    if last is not None:
        _plans_up_to(source, last, keys)
    if isinstance(source, FindsRecords) and keys:
        found = [row for batch in source.find(keys) for row in _rows(batch)]
        promised(not found, f"{source.name}: find gave {shown(found)}, which are gone")


def _plans_up_to(source: Source, last: Key, keys: list[Key]) -> None:
    for after in (None, *keys[:-1]):
        edges = source.edges(after, last, 2, 3)
        promised(
            edges == [last],
            f"{source.name}: nothing is left up to {last!r}, where the pass ends, and edges gave {shown(edges)}",
        )
        promised(source.estimate(after, last) >= 0, f"{source.name}: the estimate of what is gone is negative")


_ALWAYS = (_describes_itself, _has_bounds, _covers_all_once, _cuts_at_any_record, _counts_back)
_WITH_RECORDS = (
    _reads_the_same_again,
    _reads_in_threads,
    _is_sent_to_processes,
    _names_records_by_keys,
    _fits_its_schema,
    _gives_the_same_as_tables,
    _finds_by_keys,
    _gives_its_keys,
    _shows_how_it_reads,
    _is_of_the_same_files,
    _settles_letters,
)
