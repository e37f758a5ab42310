"""Reconciling a pass: each record that it has read is in the sink, filtered on purpose, or in a dead letter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from prefect_batch.blocks.capabilities import AbandonsPasses, ComparesKeys, HoldsKeys, InPlace, KeySet, KeySide
from prefect_batch.blocks.chunks import ChunkRange, Tally
from prefect_batch.blocks.contracts import Sink, Source
from prefect_batch.blocks.errors import BadSink, ConnectionLost
from prefect_batch.blocks.key_sum import KeySum, are_integers
from prefect_batch.blocks.keys import Key, key_text
from prefect_batch.blocks.letters.place import open_place, used_place
from prefect_batch.blocks.passwords import hide_passwords
from prefect_batch.blocks.state.accounts import Account, finished, read_accounts
from prefect_batch.blocks.state.cursor import Cursor
from prefect_batch.tasks.error_text import own_error
from prefect_batch.tasks.reconcile.compare import Compared, Comparison, pick_out
from prefect_batch.tasks.reconcile.letter_keys import LetterSums, letter_keys, sum_letters
from prefect_batch.tasks.reconcile.reconciliation import RangeDifference, Reconciliation

NO_ACCOUNT = "the account of this range is missing, so it is not known which of its records were filtered"


class Reconciled(NamedTuple):
    """The reconciliation, the accounts of the finished ranges, and of those in which keys are missing.

    `decided` are the digests of ranges with letters that were resolved or discarded.
    """

    found: Reconciliation
    accounts: list[Account]
    to_repair: list[Account]
    decided: set[str]
    pass_id: str


def reconcile_pass(
    cursor: Cursor, source: Source | None, sink: Sink | None, most: int, in_place: InPlace = "no"
) -> Reconciled:
    """Compare source and sink over the finished ranges of the cursor's pass, naming at most `most` keys of a kind.

    They may be None for a pass that has found no record. `in_place`: whether the sink writes to what the source reads.
    """
    place = used_place(cursor.dead_letters, cursor.job)
    letters = sum_letters(place, cursor.job, cursor.pass_number)
    accounts, doubts = _ranges(cursor)
    found = _of_nothing(cursor, accounts, letters, doubts)
    if cursor.position.upper is None:
        doubt = "the pass has found no record in the source, so there is nothing to compare the sink with"
        return Reconciled(replace(found, doubts=(doubt,)), [], [], set(), cursor.pass_id)
    if not accounts:
        return Reconciled(found, accounts, [], letters.decided, cursor.pass_id)
    assert source is not None
    assert sink is not None
    by_counts = replace(found, by_keys=False)
    if in_place == "yes":
        doubts += _doubts_in_place(cursor, accounts, letters, sink)
        return Reconciled(replace(by_counts, doubts=tuple(doubts)), accounts, [], letters.decided, cursor.pass_id)
    sides = _sides(cursor, source, sink)
    if isinstance(sides, str):
        return Reconciled(replace(by_counts, doubts=(sides, *doubts)), accounts, [], letters.decided, cursor.pass_id)
    whole = ChunkRange(cursor.position.start, cursor.position.upper)
    try:
        return _Pass(cursor, accounts, letters, Comparison(*sides, whole, most)).reconcile(found)
    except (ConnectionLost, SQLAlchemyError, TypeError) as error:
        said = hide_passwords(str(own_error(error))).strip().partition("\n")[0]
        doubt = f"the keys of source and sink could not be compared: {said}"
        return Reconciled(replace(by_counts, doubts=(doubt, *doubts)), accounts, [], letters.decided, cursor.pass_id)


def _doubts_in_place(cursor: Cursor, accounts: Sequence[Account], letters: LetterSums, sink: Sink) -> list[str]:
    """Return what does not match where source and sink are one table, whose keys therefore show nothing.

    Each failed record has a letter until that is purged, and the ledger has the rows of a pass that is not complete.
    """
    known = [account for account in accounts if not account.filtered.is_unknown]
    doubts = [f"{account.range.text}: {NO_ACCOUNT}" for account in accounts if account.filtered.is_unknown]
    failed, buried = sum(account.tally.failed for account in known), sum(letters.by_status.values())
    if buried != failed:
        doubts.append(f"{failed:,} records have failed, and there are {buried:,} letters: were some purged, or lost?")
    if not cursor.position.complete and isinstance(sink, AbandonsPasses):
        rows, noted = sum(account.tally.rows_written for account in known), sink.committed(cursor.pass_ref)
        if noted is not None and noted < rows:
            doubts.append(f"{rows:,} rows were written, and the ledger beside {sink.name} has {noted:,} of them")
    return doubts


def _sides(cursor: Cursor, source: Source, sink: Sink) -> tuple[KeySide, KeySide | KeySet] | str:
    """Return the keys of both ends, or why they cannot be compared at all."""
    if not isinstance(source, ComparesKeys):
        return f"{source.name} cannot be asked for keys without reading it"
    try:
        if isinstance(sink, HoldsKeys):
            if not cursor.position.complete:
                return f"the pass is not complete, and {sink.name} has none of its files before it is"
            return source.key_side(source.key), sink.key_set(source.key)
        if not isinstance(sink, ComparesKeys):
            return f"{sink.name} cannot be asked for keys"
        return source.key_side(source.key), sink.key_side(source.key)
    except BadSink as error:
        return str(error)


def _ranges(cursor: Cursor) -> tuple[list[Account], list[str]]:
    """Return the accounts of the finished ranges, and the doubts about them."""
    position, doubts = cursor.position, []
    accounts = read_accounts(open_place(cursor.dead_letters), cursor.job, cursor.pass_number)
    chain, end = finished(accounts, position.start, position.prefix)
    if end != position.prefix:
        assert position.prefix is not None
        gap = ChunkRange(end, position.prefix)
        chain.append(Account(gap, Tally(), KeySum(kind="unknown")))
    by_range = {account.range: account for account in accounts}
    islands = [chunk for chunk, done in position.ranges() if done]
    chain += [by_range.get(chunk, Account(chunk, Tally(), KeySum(kind="unknown"))) for chunk in islands]
    if not position.complete:
        where = "from the start" if position.prefix is None else f"beyond key {key_text(position.prefix)}"
        doubts.append(f"the pass is not complete; what is not finished {where} was left out")
    return chain, doubts


def _of_nothing(
    cursor: Cursor, accounts: Sequence[Account], letters: LetterSums, doubts: Sequence[str]
) -> Reconciliation:
    by_status = letters.by_status
    return Reconciliation(
        job=cursor.job,
        pass_number=cursor.pass_number,
        ranges=len(accounts),
        source_keys=0,
        sink_keys=0,
        filtered=cursor.tally.filtered,
        open=by_status["open"],
        discarded=by_status["discarded"],
        resolved=by_status["resolved"],
        doubts=tuple(doubts),
        read=sum(account.tally.read for account in accounts),
        written=sum(account.tally.written for account in accounts),
    )


@dataclass(frozen=True)
class _Pass:
    cursor: Cursor
    accounts: Sequence[Account]
    letters: LetterSums
    comparison: Comparison

    def reconcile(self, found: Reconciliation) -> Reconciled:
        """Return the sum of the verdicts on each range, by sums, or key by key where the sums do not match."""
        source_keys = sink_keys = 0
        suspicious = []
        for account in self.accounts:
            sums = self._sums(account)
            if sums is not None and self._matches(account, *sums):
                source_keys, sink_keys = source_keys + sums[0].count, sink_keys + sums[1].count
            else:
                suspicious.append(account)
        known = {account.range.digest: account in suspicious for account in self.accounts}
        keys = letter_keys(open_place(self.cursor.dead_letters), self.cursor.job, self.cursor.pass_number, known)
        differences, doubts, to_repair = [], list(found.doubts), []
        for account in suspicious:
            letters = keys["" if account.filtered.kind == "unknown" else account.range.digest]
            seen = self.comparison.compare(account.range, letters.given_up, letters.resolved)
            source_keys, sink_keys = source_keys + seen.source, sink_keys + seen.sink
            difference, doubt = _judge(account, seen, self.comparison.most)
            doubts += [f"{account.range.text}: {doubt}"] if doubt else []
            differences += [difference] if difference else []
            if difference and difference.missing:
                to_repair.append(account)
        differences += self._beyond()
        if isinstance(sink := self.comparison.sink, KeySet) and sink.doubt:
            doubts.append(sink.doubt)
        if not source_keys and found.read:
            doubts.append(f"the source has none of the {found.read:,} records any more that were read")
            found = replace(found, by_keys=False)
        found = replace(
            found,
            source_keys=source_keys,
            sink_keys=sink_keys,
            differences=tuple(differences),
            doubts=tuple(doubts),
        )
        return Reconciled(found, list(self.accounts), to_repair, self.letters.decided, self.cursor.pass_id)

    def _sums(self, account: Account) -> tuple[KeySum, KeySum] | None:
        sink = self.comparison.sink
        if isinstance(sink, KeySet) or not are_integers(account.range.upto):
            return None
        return self.comparison.source.sum(account.range), sink.sum(account.range)

    def _matches(self, account: Account, source: KeySum, sink: KeySum) -> bool:
        """Return whether the sums show that nothing is missing: all are in the sink, or all but filtered and failed."""
        letters = self.letters.unresolved.get(account.range.digest, KeySum())
        return source.same(sink) or source.same(sink + account.filtered + letters)

    def _beyond(self) -> list[RangeDifference]:
        """Return what the sink has beyond the end of a complete pass over everything."""
        upper = self.cursor.position.upper
        if upper is None or not self.cursor.position.complete or self.cursor.mode != "full":
            return []
        sink = self.comparison.sink
        if isinstance(sink, KeySet):
            count, keys = sink.others(self.comparison.most)
            return [RangeDifference("(start, end]", 0, count, (), tuple(map(key_text, keys)))] if count else []
        beyond = sink.beyond(upper)
        return [RangeDifference(f"({key_text(upper)}, end]", 0, beyond, (), ())] if beyond else []


def _judge(account: Account, seen: Compared, most: int) -> tuple[RangeDifference | None, str | None]:
    """Return the difference of a range, which names at most `most` keys of a kind, and the doubt about it."""
    missing = seen.missing.count
    perhaps = seen.replayed + (0 if account.filtered.is_unknown else account.tally.filtered)
    lost, doubt = 0, None
    if not missing or seen.missing.same(account.filtered):
        pass
    elif account.filtered.is_unknown:
        doubt = f"{missing:,} keys are not in the sink, and {NO_ACCOUNT}"
    elif missing > perhaps:
        lost = missing - perhaps
    else:
        doubt = (
            f"{missing:,} keys are not in the sink; {perhaps:,} were, or may have been, filtered, and whether these "
            "are the same is not known"
        )
    if not lost and not seen.surplus:
        return None, doubt
    named, beside = _named(account, seen, lost, perhaps)
    surplus = tuple(map(key_text, seen.surplus_keys[:most]))
    shown = tuple(map(key_text, named[:most]))
    return RangeDifference(account.range.text, lost, seen.surplus, shown, surplus, beside), doubt


def _named(account: Account, seen: Compared, lost: int, perhaps: int) -> tuple[Sequence[Key], int]:
    """Return the lost keys and 0, or all keys missing in the sink and how many of them may have been filtered."""
    if not lost:
        return [], 0
    if not perhaps:
        return seen.missing_keys, 0
    if not seen.replayed and len(seen.missing_keys) == seen.missing.count:
        picked = pick_out(seen.missing_keys, account.filtered)
        if picked is not None:
            return picked, 0
    return seen.missing_keys, perhaps
