"""The suites of `prefect_batch.testing` find what is broken: each end here breaks one promise, and only that."""

import contextlib
import threading
import traceback
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from prefect_batch.blocks.batches import Batch
from prefect_batch.blocks.errors import BadOutput, BadSink, ChunkIsDone
from prefect_batch.blocks.key_sum import KeySum, sum_of_keys
from prefect_batch.testing import SinkCase, SourceCase, exercise_sink, exercise_source, sinks, sources


class Numbers:
    """A source of the numbers in a list, as small as one can be."""

    name, key, names = "the numbers", ("n",), ("n", "square")
    schema = pa.schema([("n", pa.int64()), ("square", pa.int64())])
    connections, one_thread, only_here = (), False, False

    def __init__(self, held):
        self.held = held

    def check(self):
        return []

    def within(self, after, upto):
        return [n for n in self.held if (after is None or n > after[0]) and n <= upto[0]]

    def last_key(self, after=None):
        found = [n for n in self.held if after is None or n > after[0]]
        return (found[-1],) if found else None

    def back(self, upto, rows):
        before = self.within(None, upto)
        return (before[-rows - 1],) if len(before) > rows else None

    def edges(self, after, upto, rows, most):
        found = [(n,) for n in self.within(after, upto)[rows - 1 :: rows]][:most]
        return found if len(found) == most or upto in found else [*found, upto]

    def estimate(self, after, upto):
        return len(self.within(after, upto))

    def read(self, chunk, batch_rows):
        rows = [(n, n * n) for n in self.within(chunk.after, chunk.upto)]
        for start in range(0, len(rows), batch_rows):
            yield Batch(self.names, rows[start : start + batch_rows])

    def key_of(self, row):
        return row[:1]

    def read_tables(self, chunk, batch_rows):
        for batch in self.read(chunk, batch_rows):
            columns = zip(self.names, zip(*batch.rows, strict=True), strict=True)
            yield Batch(self.names, table=pa.table(dict(columns), schema=self.schema))

    def find(self, keys):
        if found := [(n, n * n) for n in self.held if (n,) in keys]:
            yield Batch(self.names, found)

    def key_side(self, key):
        assert key == self.key
        return Keys(self)

    def statement_text(self, chunk):
        return f"the numbers of {chunk.text}"

    def explain(self, chunk):
        del chunk
        return "they are in a list", ("look at each",)


class Keys:
    """The keys of the numbers by themselves."""

    def __init__(self, source):
        self.source, self.edges = source, source.edges

    def sum(self, chunk):
        return sum_of_keys(self.keys(chunk))

    def keys(self, chunk):
        return [(n,) for n in self.source.within(chunk.after, chunk.upto)]

    def beyond(self, upto):
        return sum(n > upto[0] for n in self.source.held)

    def has(self, keys, after, upto):
        del upto
        return {key for key in keys if key[0] in self.source.held and (after is None or key > after)}

    def comparable(self, key):
        return key


def numbers(kind, count):
    held = [2 * n for n in range(count)]
    return SourceCase(partial(kind, held), [{"n": n, "square": n * n} for n in held], clear=held.clear)


def in_memory(kind):
    """Not to be pickled: what is removed has to be removed of every opening."""
    return type(kind.__name__, (kind,), {"only_here": True})


class DropsTheEdge(Numbers):
    def read(self, chunk, batch_rows):
        for batch in super().read(chunk, batch_rows):
            if rows := [row for row in batch.rows if row[:1] != chunk.upto]:
                yield Batch(self.names, rows)


class RepeatsTheEdge(Numbers):
    def within(self, after, upto):
        return [n for n in self.held if (after is None or n >= after[0]) and n <= upto[0]]

    def edges(self, after, upto, rows, most):
        return super().edges(after and (after[0] + 1,), upto, rows, most)


class ReadsBackwards(Numbers):
    def read(self, chunk, batch_rows):
        for batch in super().read(chunk, batch_rows):
            yield Batch(self.names, batch.rows[::-1])


class ReadsAllAtOnce(Numbers):
    def read(self, chunk, batch_rows):
        del batch_rows
        return super().read(chunk, 1000)


class GivesEmptyBatches(Numbers):
    def read(self, chunk, batch_rows):
        yield from super().read(chunk, batch_rows)
        yield Batch(self.names, [])


class ReadsOnce(Numbers):
    def __init__(self, held):
        super().__init__(held)
        self.seen = set()

    def read(self, chunk, batch_rows):
        if chunk.upto not in self.seen:
            yield from super().read(chunk, batch_rows)
        self.seen.add(chunk.upto)


class ReadsOnWhereItWasLeft(Numbers):
    def __init__(self, held):
        super().__init__(held)
        self.left = {}

    def read(self, chunk, batch_rows):
        batches = self.left.pop(chunk, None) or list(super().read(chunk, batch_rows))
        for place, batch in enumerate(batches):
            self.left[chunk] = batches[place + 1 :]
            yield batch


class ReadsIntoOnePlace(Numbers):
    """What a thread reads is overwritten by another one that reads as well."""

    def __init__(self, held):
        super().__init__(held)
        self.meeting = threading.Barrier(2)

    def read(self, chunk, batch_rows):
        self.batches = list(super().read(chunk, batch_rows))
        if threading.current_thread() is not threading.main_thread():
            with contextlib.suppress(threading.BrokenBarrierError):
                self.meeting.wait(5)
        yield from self.batches


class IgnoresTheSize(Numbers):
    def edges(self, after, upto, rows, most):
        del after, rows, most
        return [upto]


class GivesTooManyEdges(Numbers):
    def edges(self, after, upto, rows, most):
        return super().edges(after, upto, rows, most + 1)


class BeginsWithTheFormerEdge(Numbers):
    def edges(self, after, upto, rows, most):
        return (
            [after, *super().edges(after, upto, rows, most)][:most] if after else super().edges(after, upto, rows, most)
        )


class ForgetsTheEnd(Numbers):
    """Where the record of `upto` is gone, it gives no edge."""

    def edges(self, after, upto, rows, most):
        found = super().edges(after, upto, rows, most)
        return found if upto[0] in self.held else found[:-1]


class CutsOneTooLate(Numbers):
    def cut(self, chunk, rows):
        return super().edges(chunk.after, chunk.upto, rows + 1, 1)[0]


class HasAlwaysALastKey(Numbers):
    def last_key(self, after=None):
        del after
        return super().last_key()


class CountsOneTooFew(Numbers):
    def back(self, upto, rows):
        return super().back(upto, rows - 1) if rows > 1 else upto


class EstimatesNothing(Numbers):
    def estimate(self, after, upto):
        del after, upto
        return 0


class NamesByTheSquare(Numbers):
    def key_of(self, row):
        return row[1:]


class NamesColumnsOtherwise(Numbers):
    schema = pa.schema([("n", pa.int64()), ("area", pa.int64())])


class HasOtherTypes(Numbers):
    schema = pa.schema([("n", pa.int64()), ("square", pa.bool_())])
    read_tables = None


class HasOtherTables(Numbers):
    def read_tables(self, chunk, batch_rows):
        for batch in super().read_tables(chunk, batch_rows):
            yield Batch(self.names, table=batch.table.set_column(1, "square", batch.table["n"]))


class HasTablesOfOtherTypes(Numbers):
    def read_tables(self, chunk, batch_rows):
        for batch in super().read_tables(chunk, batch_rows):
            yield Batch(self.names, table=batch.table.cast(pa.schema([("n", pa.int32()), ("square", pa.int64())])))


class FindsTheFirst(Numbers):
    def find(self, keys):
        return super().find(keys[:1])


def with_keys(**methods):
    """The numbers, whose keys by themselves have these methods instead."""
    kind = type("Keys", (Keys,), methods)
    return type("+".join(methods), (Numbers,), {"key_side": lambda self, _: kind(self)})


def one_too_few(self, chunk):
    return Keys.keys(self, chunk)[1:]


def some_of_them(self, keys, after, upto):
    return Keys.has(self, list(keys)[1:], after, upto)


def one_more(self, upto):
    return Keys.beyond(self, upto) + 1


class HasNoStatement(Numbers):
    def statement_text(self, chunk):
        del chunk
        return ""


class ExplainsInSteps(Numbers):
    def explain(self, chunk):
        del chunk
        return "", ("look at each",)


class RemembersWhatIsGone(Numbers):
    kept: tuple[int, ...] = ()

    def within(self, after, upto):
        self.kept = self.kept or tuple(self.held)
        return [n for n in self.kept if (after is None or n > after[0]) and n <= upto[0]]


BROKEN_SOURCES = {
    DropsTheEdge: "missing: {'n': ",
    RepeatsTheEdge: "do not give every record once",
    ReadsBackwards: "in the wrong order",
    ReadsAllAtOnce: r"a batch of .* has 4 records; 3 were allowed",
    GivesEmptyBatches: "an empty range gives no batch",
    ReadsOnce: "do not give every record once",
    ReadsOnWhereItWasLeft: "was read again and gave",
    ReadsIntoOnePlace: "while other threads were reading",
    IgnoresTheSize: r"edges were to be 1 records apart, and .* has 13",
    GivesTooManyEdges: "at most 1 were asked for",
    BeginsWithTheFormerEdge: "came before, so that the pass would never end",
    ForgetsTheEnd: "is gone|nothing is left up to",
    CutsOneTooLate: r"was cut after 1 records, and has 2",
    HasAlwaysALastKey: "there is a key beyond its last one",
    CountsOneTooFew: r"back\(\(0,\), 1\) is",
    EstimatesNothing: "estimated to have 0 of 1",
    NamesByTheSquare: "lies",
    NamesColumnsOtherwise: "names are",
    HasOtherTypes: "column square is bool",
    HasOtherTables: "as tables, and",
    HasTablesOfOtherTypes: "another schema than the source",
    FindsTheFirst: "find gave",
    with_keys(keys=one_too_few): "its keys by themselves are",
    with_keys(has=some_of_them): "beyond None it has",
    with_keys(beyond=one_more): "keys lie beyond",
    with_keys(sum=lambda *_: KeySum()): "the sum of keys",
    HasNoStatement: "is empty",
    ExplainsInSteps: "explained as ''",
    RemembersWhatIsGone: "is empty now, and gave",
}


def test_a_source_that_keeps_its_promises_passes():
    exercise_source(partial(numbers, in_memory(Numbers)))


@pytest.mark.parametrize(("kind", "message"), BROKEN_SOURCES.items(), ids=[one.__name__ for one in BROKEN_SOURCES])
def test_a_source_that_breaks_a_promise_is_caught(kind, message):
    with pytest.raises(AssertionError, match=message):
        exercise_source(partial(numbers, in_memory(kind)))


def test_a_source_that_cannot_be_sent_to_workers_is_caught():
    def make(count):
        held = [2 * n for n in range(count)]
        return SourceCase(lambda: Numbers(held), [{"n": n, "square": n * n} for n in held])

    with pytest.raises(AssertionError, match="cannot be sent to worker processes"):
        exercise_source(make)


class Shelf:
    """A sink that keeps rows in memory, as small as one can be; a record with a text for a number is refused."""

    name, connections, one_thread, only_here = "the shelf", (), False, True
    needs_ledger, held_rows, fills = True, 0, None

    def __init__(self, store):
        self.store = store

    def check(self, source_schema):
        del source_schema
        return []

    def begin_pass(self, pass_):
        del pass_

    def prepare(self, records, source_schema):
        del records, source_schema

    @contextlib.contextmanager
    def transaction(self, pass_, chunk):
        del pass_
        yield self.Transaction(self, chunk)

    def end_pass(self, pass_):
        del pass_

    class Transaction:
        def __init__(self, sink, chunk):
            self.store, self.chunk = sink.store, chunk
            self.rows, self.result = [], None

        def write(self, records):
            for record in records:
                self.put(record)

        def put(self, record):
            if not isinstance(record["qty"], int):
                raise BadOutput(f"{record} is refused")
            self.rows.append(dict(record))

        @contextlib.contextmanager
        def savepoint(self):
            before = len(self.rows)
            try:
                yield
            except Exception:
                del self.rows[before:]
                raise

        def find(self):
            return self.store["results"].get(self.chunk)

        def record(self, result):
            if self.find() is not None:
                raise ChunkIsDone("it is there")
            self.result = result

        def commit(self):
            self.store["rows"] += self.rows
            self.store["results"][self.chunk] = self.result

        def write_table(self, table):
            self.write(table.to_pylist())

        def write_one_by_one(self, rows):
            refused = {}
            for place, row in enumerate(rows):
                try:
                    self.put(row)
                except BadOutput as error:
                    refused[place] = error
            return refused


def shelf(kind):
    store = {"rows": [], "results": {}}
    return SinkCase(partial(kind, store), lambda: list(store["rows"]), refused=lambda n: {"id": n, "qty": "no number"})


def transaction_of(**methods):
    """A shelf whose transactions have these methods instead."""
    return type("Shelf", (Shelf,), {"Transaction": type("Transaction", (Shelf.Transaction,), methods)})


base = Shelf.Transaction


def commit_early(self, records):
    base.write(self, records)
    self.store["rows"] += self.rows
    self.rows = []


@contextlib.contextmanager
def undo_all(self):
    try:
        yield
    except Exception:
        self.rows.clear()
        raise


@contextlib.contextmanager
def undo_nothing(self):
    del self
    yield


@contextlib.contextmanager
def undo_always(self):
    """What was written before an error in a later block is lost."""
    before = len(self.rows)
    try:
        yield
    except Exception:
        del self.rows[before - 1 :]
        raise


@contextlib.contextmanager
def swallow(self):
    before = len(self.rows)
    try:
        yield
    except BadOutput:
        del self.rows[before:]


def record_at_once(self, result):
    base.record(self, result)
    self.store["results"][self.chunk] = result


def never_done(self, result):
    self.result = result


def take_what_was_split(self, result):
    if (found := self.find()) is not None and "split" not in found:
        raise ChunkIsDone("it is there")
    self.result = result


def drop_what_is_refused(self, records):
    base.write(self, [record for record in records if isinstance(record["qty"], int)])


def change_what_is_given(self, records):
    base.write(self, records)
    for record in records:
        record["id"] = None


def blame_the_sink(self, records):
    try:
        base.write(self, records)
    except BadOutput as error:
        raise BadSink("it does not take this") from error


def keep_the_latest(self, records):
    self.rows = []
    base.write(self, records)


def lose_a_row(self, records):
    base.write(self, records[:-1] if len(records) > 1 else records)


def take_one_chunk(self, table):
    self.write(pa.Table.from_batches(table.to_batches()[:1], table.schema).to_pylist())


def refuse_their_neighbours(self, rows):
    refused = base.write_one_by_one(self, rows)
    return refused | {place + 1: error for place, error in refused.items() if place + 1 < len(rows)}


def refuse_nothing(self, rows):
    base.write_one_by_one(self, rows)
    return {}


def write_in_vain(self, rows):
    base.write_one_by_one(self, rows)


class ShowsItsTransactions(Shelf):
    """All transactions of an opening are one."""

    @contextlib.contextmanager
    def transaction(self, pass_, chunk):
        with super().transaction(pass_, chunk) as transaction:
            transaction.rows = self.__dict__.setdefault("rows", [])
            yield transaction
            transaction.rows.clear()


class SwallowsErrors(Shelf):
    @contextlib.contextmanager
    def transaction(self, pass_, chunk):
        with contextlib.suppress(Exception), super().transaction(pass_, chunk) as transaction:
            yield transaction


class CommitsAtTheEnd(Shelf):
    @contextlib.contextmanager
    def transaction(self, pass_, chunk):
        with super().transaction(pass_, chunk) as transaction:
            yield transaction
            if transaction.rows and chunk not in self.store["results"]:
                transaction.commit()


class EmptiesAtTheEnd(Shelf):
    """The end of a pass publishes what this opening has, and not what is there already."""

    def end_pass(self, pass_):
        del pass_
        if self.store.setdefault("ended", False):
            self.store["rows"].clear()
        self.store["ended"] = True


class KeepsResultsToItself(Shelf):
    """What was committed is known to the opening that has committed it."""

    def __init__(self, store):
        super().__init__({"rows": store["rows"], "results": {}})


class NeedsALedger(Shelf):
    """A repeated chunk would be written twice, and it does not say so."""

    needs_ledger = False

    class Transaction(Shelf.Transaction):
        def commit(self):
            self.store["rows"] += self.rows


class HasARelativePlace(Shelf):
    fills = Path("out")


class WarnsWithAText(Shelf):
    def check(self, source_schema):
        del source_schema
        return "take care"


class IsMadeTwice(Shelf):
    """Two threads find that it is missing, and the second fails to make it."""

    def __init__(self, store):
        super().__init__(store)
        self.meeting, self.lock = threading.Barrier(2), threading.Lock()

    def prepare(self, records, source_schema):
        del records, source_schema
        if self.store.get("made"):
            return
        if threading.current_thread() is not threading.main_thread():
            with contextlib.suppress(threading.BrokenBarrierError):
                self.meeting.wait(5)
        with self.lock:
            if self.store.get("made"):
                raise BadSink("there is a shelf already")
            self.store["made"] = True


BROKEN_SINKS = {
    "commits early": (transaction_of(write=commit_early), "not committed|left by an error"),
    "commits at the end of the block": (CommitsAtTheEnd, "not committed"),
    "forgets find": (transaction_of(find=lambda _: None, record=never_done), "find gave None|three times"),
    "finds what was not committed": (
        transaction_of(record=record_at_once),
        "find knows a chunk that was not committed",
    ),
    "keeps results to itself": (KeepsResultsToItself, "three times|find gave None"),
    "does not say that it needs a ledger": (NeedsALedger, "three times"),
    "does not see that a chunk is done": (transaction_of(record=never_done), "two runs have committed the same chunk"),
    "takes a chunk that was split": (transaction_of(record=take_what_was_split), "has a second outcome"),
    "undoes all": (transaction_of(savepoint=undo_all), "a write between two others was refused"),
    "undoes one row too many": (transaction_of(savepoint=undo_always), "a write between two others was refused"),
    "undoes nothing": (transaction_of(savepoint=undo_nothing), "a write between two others was refused"),
    "swallows errors in a savepoint": (transaction_of(savepoint=swallow), "should be refused, and was written"),
    "swallows errors in a transaction": (SwallowsErrors, "an error in the transaction's block did not go on"),
    "drops what it does not take": (transaction_of(write=drop_what_is_refused), "should be refused, and was written"),
    "keeps the latest batch": (transaction_of(write=keep_the_latest), "committed in batches of 5"),
    "gives another result": (
        transaction_of(find=lambda self: base.find(self) and {}),
        "where {'chunk': 0, 'rows': 0} was",
    ),
    "loses a row": (transaction_of(write=lose_a_row), "two chunks were committed"),
    "changes what it is given": (transaction_of(write=change_what_is_given), "changed the records that it was given"),
    "blames itself for a record": (
        transaction_of(write=blame_the_sink),
        "fails the chunk, where one record is to blame",
    ),
    "takes one chunk of a table": (transaction_of(write_table=take_one_chunk), "committed as tables"),
    "refuses good rows": (transaction_of(write_one_by_one=refuse_their_neighbours), "as they should be"),
    "refuses nothing": (transaction_of(write_one_by_one=refuse_nothing), "which should be refused"),
    "writes where it says that it cannot": (transaction_of(write_one_by_one=write_in_vain), "one by one"),
    "mixes its transactions": (ShowsItsTransactions, "two transactions at once"),
    "ends a pass once": (EmptiesAtTheEnd, "ended several times|two chunks"),
    "fills a relative place": (HasARelativePlace, "which is not absolute"),
    "warns with a text": (WarnsWithAText, "it returns a list of sentences"),
    "is made twice": (IsMadeTwice, "written by several threads, and one of them failed"),
}


def test_a_sink_that_keeps_its_promises_passes():
    exercise_sink(partial(shelf, Shelf))


def test_a_sink_that_names_its_rows_by_the_chunk_passes():
    """It needs no ledger: a repeated chunk replaces what the former attempt has left."""

    class Drawers(Shelf):
        needs_ledger = False

        class Transaction(Shelf.Transaction):
            def commit(self):
                others = [row for row in self.store["rows"] if row["drawer"] != self.chunk]
                self.store["rows"][:] = [*others, *({**row, "drawer": self.chunk} for row in self.rows)]

    def make():
        store = {"rows": [], "results": {}}
        return SinkCase(
            partial(Drawers, store), lambda: [{k: v for k, v in row.items() if k != "drawer"} for row in store["rows"]]
        )

    exercise_sink(make)


@pytest.mark.parametrize(("kind", "message"), BROKEN_SINKS.values(), ids=BROKEN_SINKS)
def test_a_sink_that_breaks_a_promise_is_caught(kind, message):
    with pytest.raises(AssertionError, match=message):
        exercise_sink(partial(shelf, kind))


def failed_in(exercise, make):
    """The functions in which the suite fails for this end."""
    with pytest.raises(AssertionError) as raised:
        exercise(make)
    return {frame.name for frame in traceback.extract_tb(raised.tb)}


def test_no_check_is_one_that_cannot_fail():
    failed = set().union(
        *(failed_in(exercise_source, partial(numbers, in_memory(kind))) for kind in BROKEN_SOURCES),
        *(failed_in(exercise_sink, partial(shelf, kind)) for kind, _ in BROKEN_SINKS.values()),
    )
    checks = [*sources._ALWAYS, *sources._WITH_RECORDS, *sinks._TRIES]
    # Of files, of letters and of what is sent to processes: see the tests of those.
    others = {"_is_of_the_same_files", "_settles_letters", "_is_sent_to_processes"}
    assert {check.__name__ for check in checks} - failed == others
