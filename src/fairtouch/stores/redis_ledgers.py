"""Ledgers on Redis: settling and recording what decisions have put there."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fairtouch.consent import NOTHING, Said, Scope
from fairtouch.errors import StoreError
from fairtouch.facts import Entry, Stage
from fairtouch.stores.port import Recorded, Settlement
from fairtouch.stores.redis_calls import SETTLE, Call
from fairtouch.stores.redis_customers import OLDER, Customers
from fairtouch.stores.redis_entries import needle
from fairtouch.stores.redis_steps import Step, until_done
from fairtouch.stores.weighing import recordable, stamped

TOKEN_LENGTH: Final = 8
CONFIRMED: Final = "this touch was confirmed; what its customer said cannot be read and has to be restored"


class Ledgers:
    """The verbs of `port.Ledger` but `decide` and `prune`, for one store's customers."""

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


def _at(said: Mapping[Scope, Said], scopes: Sequence[Scope | None]) -> tuple[Said, ...]:
    """What was said at each scope."""
    return tuple(said.get(scope, NOTHING) if scope else NOTHING for scope in scopes)
