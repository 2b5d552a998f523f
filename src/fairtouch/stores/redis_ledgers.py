"""Ledgers on Redis: settling, recording and pruning what decisions have put there."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fairtouch.consent import NOTHING, Said, Scope
from fairtouch.errors import StoreError
from fairtouch.facts import Entry, Stage
from fairtouch.stores.port import Recorded, Settlement
from fairtouch.stores.redis_calls import PRIMARIES, READ, SETTLE, Call, Node, beside, pairs
from fairtouch.stores.redis_customers import OLDER, TOTALS, Customers
from fairtouch.stores.redis_entries import needle, three
from fairtouch.stores.redis_steps import Step, all_of, server_now, until_done
from fairtouch.stores.weighing import recordable, stamped

TOKEN_LENGTH: Final = 8
CONFIRMED: Final = "this touch was confirmed; what its customer said cannot be read and has to be restored"
_PAGE: Final = 500  # documents that one step of a pruning looks at


class Ledgers:
    """The verbs of `port.Ledger` but `decide`, for one store's customers."""

    def __init__(self, customers: Customers) -> None:
        self._customers: Final = customers
        self._names: Final = customers.names

    def confirm(
        self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None
    ) -> Step[Settlement]:
        """`port.Ledger.confirm`."""
        found = yield from self._settle(b"confirm", customer, entry)
        if found is None:
            return (yield from until_done(lambda: self._confirm_anywhere(customer, entry, scopes, now)))
        clock, was_reserved, lease_end, words = found
        try:
            said = yield from self._names.said(words)
        except StoreError as error:
            raise StoreError(CONFIRMED) from error
        return Settlement(
            clock if now is None else now,
            Stage.RESERVED if was_reserved else Stage.CONFIRMED,
            lease_end,
            _at(said, scopes),
        )

    def release(self, customer: bytes, entry: Entry, now: int | None) -> Step[Settlement]:
        """`port.Ledger.release`."""
        found = yield from self._settle(b"release", customer, entry)
        if found is None:
            return (yield from until_done(lambda: self._release_anywhere(customer, entry, now)))
        clock, was_reserved, lease_end, _ = found
        stage = Stage.RESERVED if was_reserved else Stage.CONFIRMED
        return Settlement(clock if now is None else now, stage, lease_end or entry.lease_end, ())

    def _settle(self, verb: bytes, customer: bytes, entry: Entry) -> Step[Sequence[Any] | None]:
        """What the one script found and settled: now, whether it was reserved, end of the lease, words; None when the
        reservation does not stand in the document.
        """
        if len(entry.token) != TOKEN_LENGTH:  # not one of a governor's: an event has its name there, of another length
            return None
        if not self._names.table:
            yield from self._names.learn_table()
        key = self._customers.keys.document(customer)
        is_settled, *found = yield Call(SETTLE, (key,), (self._names.table, verb, needle(entry), os.urandom(4)))
        return found if is_settled else None

    def _confirm_anywhere(
        self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None
    ) -> Step[tuple[int, Settlement]]:
        kept = yield from self._customers.read_for(customer, entry, now)
        found = kept.reservation(entry)
        stage, lease_end = (found.stage if found else None), (found or entry).lease_end
        settlement = Settlement(kept.now, stage, lease_end, _at(kept.said, scopes))
        if found is None:
            yield from self._customers.put(kept, entry._replace(at=kept.now, stage=Stage.CONFIRMED))
        elif found.stage is Stage.RESERVED:
            self._customers.replace(kept, found, found._replace(stage=Stage.CONFIRMED))
        else:
            return 1, settlement
        return (yield from self._customers.change(customer, kept)), settlement

    def _release_anywhere(self, customer: bytes, entry: Entry, now: int | None) -> Step[tuple[int, Settlement]]:
        kept = yield from self._customers.read_for(customer, entry, now)
        found = kept.reservation(entry)
        settlement = Settlement(kept.now, found.stage if found else None, (found or entry).lease_end, ())
        if found is None or found.stage is not Stage.RESERVED:
            return 1, settlement
        self._customers.replace(kept, found, None)
        return (yield from self._customers.change(customer, kept)), settlement

    def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Step[Recorded]:
        """`port.Ledger.record`."""

        def attempt() -> Step[tuple[int, Recorded]]:
            kept = yield from self._customers.read(customer, OLDER, now)
            fact = stamped(entry, kept.now)
            verdict = recordable(fact, kept.same_id(fact), keep, kept.now)
            if isinstance(verdict, Entry):
                self._customers.replace(kept, verdict, verdict._replace(stage=Stage.CONFIRMED))
                return (yield from self._customers.change(customer, kept)), Recorded.KEPT
            if verdict is Recorded.KEPT:
                yield from self._customers.put(kept, fact)
                return (yield from self._customers.change(customer, kept)), Recorded.KEPT
            return 1, verdict

        return (yield from until_done(attempt))

    def history(self, customer: bytes) -> Step[list[Entry]]:
        """`port.Ledger.history`."""
        kept = yield from self._customers.read(customer, OLDER, None)
        return kept.all()

    def oldest_kept(self, keep: int, now: int | None) -> Step[int]:
        """Before which instant facts are pruned: by the longest horizon of any namespace."""
        bound = yield Call(None, (self._customers.keys.namespaces,), (b"HGETALL",))
        keeps = [int(value) for name, value in pairs(bound).items() if name.startswith(b"keep:")]
        clock = (yield from server_now()) if now is None else now
        return clock - max([keep, *keeps])

    def servers(self) -> Step[list[Node | None]]:
        """The servers whose customers are to be pruned."""
        return (yield PRIMARIES) or [None]

    def prune(self, server: Node | None, cursor: int, since: int) -> Step[tuple[int, int]]:
        """Prunes the next customers of a server; where to go on (0: that was all), and how many entries went."""
        asked = (b"SCAN", cursor, b"MATCH", self._customers.keys.documents, b"COUNT", _PAGE)
        found = yield Call(None, (), asked, server=server)
        following, documents = found
        gone = yield from all_of([self._prune(document, since) for document in documents])
        return int(following), sum(gone)

    def _prune(self, document: bytes, since: int) -> Step[int]:

        def attempt() -> Step[tuple[int, int]]:
            clock, seen, *rest = yield Call(READ, beside(document), (OLDER | TOTALS,))
            kept = yield from self._customers.kept(seen, clock, *rest)
            old = [entry for entry in kept.all() if entry.at < since]
            if not old:
                return 1, 0
            yield from self._complete_from(since)
            for kind, number in Counter(entry.kind for entry in old if entry.kind.event is None).items():
                kept.order(b"HINCRBY", 4, three(self._names.kind_ids[kind]), number)
            if kept.older and kept.older[0].at < since:
                kept.older = [entry for entry in kept.older if entry.at >= since]
                self._customers.write_older(kept, {entry.id for entry in old})
            kept.entries = [entry for entry in kept.entries if entry.at >= since]
            self._customers.repack(kept)
            return (yield from self._customers.change_at(document, kept)), len(old)

        return (yield from until_done(attempt))

    def _complete_from(self, since: int) -> Step[None]:
        """Says that nothing before an instant is whole, before the first of it goes; the latest such word stands."""
        yield Call(None, (self._customers.keys.complete_since,), (b"ZADD", b"GT", since, b"since"))

    def complete_since(self) -> Step[int]:
        """`port.Ledger.complete_since`."""
        known = yield Call(None, (self._customers.keys.complete_since,), (b"ZSCORE", b"since"))
        return int(float(known or 0))


def _at(said: Mapping[Scope, Said], scopes: Sequence[Scope | None]) -> tuple[Said, ...]:
    """What was said at each scope."""
    return tuple(said.get(scope, NOTHING) if scope else NOTHING for scope in scopes)
