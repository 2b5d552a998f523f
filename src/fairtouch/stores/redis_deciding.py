"""Decisions on Redis: what the one script cannot settle on its own (an id that is known, a consent that was lifted, a
cap that counts by subject) is weighed here, as in every other store, and written if the customer's document still is
what was weighed.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, cast

from fairtouch.errors import FairtouchError, StoreError
from fairtouch.facts import Ask, Entry, Facts, Holder, Stale, SuppressionCause, Total
from fairtouch.plan import Plan
from fairtouch.stores.redis_asks import DOUBTFUL, STALE, TAKEN, PlanWords, decide
from fairtouch.stores.redis_calls import Call
from fairtouch.stores.redis_customers import OLDER, TOTALS, Customers, Kept, NotReadError
from fairtouch.stores.redis_documents import damaged
from fairtouch.stores.redis_ledgers import Ledgers
from fairtouch.stores.redis_registers import cause_of
from fairtouch.stores.redis_steps import TRIES_MAX, Step, overtaken, side_by_side
from fairtouch.stores.weighing import holder, weigh
from fairtouch.touch import Kind

_tuple: Final = tuple.__new__  # a NamedTuple's own constructor costs four times as much
_PLANS_MAX: Final = 8_192


class Deciding:
    """`port.Ledger.decide`, for one store's customers. `apart`: addresses stand on other servers than customers."""

    def __init__(self, customers: Customers, ledgers: Ledgers, *, apart: bool) -> None:
        self._apart: Final = apart
        self._customers: Final = customers
        self._ledgers: Final = ledgers
        self._names: Final = customers.names
        self._plans: dict[Plan, PlanWords] = {}

    def decide(self, asks: Sequence[Ask]) -> Step[list[Facts | Stale]]:
        """`port.Ledger.decide`."""
        if len(asks) > 1 and len({ask.customer for ask in asks}) == len(asks):
            return (yield from self._decide_together(asks))
        answers = []
        for ask in asks:  # what one takes, the next one finds
            answer = yield from self._decide(ask)
            answers.append(answer)
        return answers

    def _decide_together(self, asks: Sequence[Ask]) -> Step[list[Facts | Stale]]:
        """Asks about different customers. An error about one of them gives back what was taken for the others."""
        answers = yield from side_by_side([self._decide(ask) for ask in asks])
        failed = [answer for answer in answers if isinstance(answer, FairtouchError)]
        if not failed:
            return cast("list[Facts | Stale]", answers)
        taken = [
            self._ledgers.release(ask.customer, answer.entry, ask.now)
            for ask, answer in zip(asks, answers, strict=True)
            if isinstance(answer, Facts) and answer.taken and answer.entry is not None
        ]
        yield from side_by_side(taken)
        raise failed[0]

    def _decide(self, ask: Ask) -> Step[Facts | Stale]:
        found = yield from self._decide_at_customer(ask)
        if self._apart and ask.entry.address is not None and isinstance(found, Facts):
            return (yield from self._with_address(ask, found, ask.entry.address))
        return found

    def _with_address(self, ask: Ask, found: Facts, address: bytes) -> Step[Facts]:
        """The facts with what stands against an address of another server. It is read after the slot was taken, so that
        nothing is taken that was suppressed before; the slot of a suppressed one is given back.
        """
        taken = found.entry if found.taken else None
        try:
            cause = cause_of((yield Call(None, (self._customers.keys.suppression(address),), (b"GET",))))
        except FairtouchError:
            if taken is not None:
                yield from self._ledgers.release(ask.customer, taken, ask.now)
            raise
        if cause is None:
            return found
        if taken is None:
            return found._replace(suppressed=cause)
        yield from self._ledgers.release(ask.customer, taken, ask.now)
        return found._replace(taken=False, suppressed=cause, holder=Holder.NONE, entry=None)

    def _decide_at_customer(self, ask: Ask) -> Step[Facts | Stale]:
        plan = ask.plan
        words = self._plans.get(plan)
        if words is None:
            words = yield from self._plan(plan)
        kind = self._names.kind_ids[ask.entry.kind]
        seen = None if ask.seen is None else self._names.packed(ask.seen)
        for _ in range(TRIES_MAX):
            what, now, *reply = yield decide(self._customers.keys, words, kind, ask, seen, apart=self._apart)
            if what == STALE:
                return _stale(now, reply[0])
            if what != DOUBTFUL:
                return (yield from self._understood(ask, what, now, *reply))
            facts = yield from self._weighed(ask, words, now, *reply)
            if facts is not None:
                return facts
        raise overtaken()

    def _plan(self, plan: Plan) -> Step[PlanWords]:
        """How a plan stands in calls; every scope of it has a number from now on, whoever speaks at it first."""
        yield from self._names.give_numbers(plan.covering)
        number = yield from self._names.kind_id(plan.shape.kind)
        words = PlanWords(plan, self._names.table, sorted(self._names.scope_ids[scope] for scope in plan.covering))
        words.tell([(number, plan.shape.kind)])
        if len(self._plans) >= _PLANS_MAX:
            self._plans.clear()
        self._plans[plan] = words
        return words

    def _understood(self, ask: Ask, what: int, now: int, lease_end: int, words: bytes, *counts: int) -> Step[Facts]:
        """The facts of a decision that the script settled."""
        entry = None
        if what == TAKEN:
            _, kind, subject, touch_id, token, stage, _, address = ask.entry
            entry = _tuple(Entry, (now, kind, subject, touch_id, token, stage, lease_end, address))
        try:
            said = yield from self._names.said(words)
        except StoreError:
            if entry is not None:
                yield from self._ledgers.release(ask.customer, entry, ask.now)
            raise
        return _tuple(Facts, (now, what == TAKEN, counts, {}, said, None, Holder.NONE, entry))

    def _weighed(
        self, ask: Ask, words: PlanWords, now: int, seen: bytes, cause: bytes, *rest: Any
    ) -> Step[Facts | None]:
        """The facts, with what was taken written; None when somebody else changed the customer meanwhile."""
        suppressed = cause_of(cause)
        kept = yield from self._customers.kept(seen, now, *rest)
        words.tell(kept.kinds.items())
        try:
            return (yield from self._weighed_as(ask, kept, suppressed))
        except NotReadError:
            kept = yield from self._customers.read(ask.customer, OLDER | TOTALS, now)
            return (yield from self._weighed_as(ask, kept, suppressed)) if kept.seen == seen else None

    def _weighed_as(self, ask: Ask, kept: Kept, suppressed: SuppressionCause | None) -> Step[Facts | None]:
        """The same for a customer as she was read. Raises NotReadError."""
        facts = self._weigh(ask, kept, suppressed)
        if not facts.taken or facts.holder is Holder.OURS or facts.entry is None:
            return facts
        if facts.holder is Holder.IN_DOUBT:
            replaced = holder(ask, kept.same_id(ask.entry), kept.now)[1]
            if replaced is not None:
                self._customers.replace(kept, replaced, None)
        yield from self._customers.put(kept, facts.entry)
        address = None if self._apart else ask.entry.address
        done = yield from self._customers.change(ask.customer, kept, address)
        return facts if done == 1 else None

    def _mixture(self, kept: Kept) -> frozenset[Kind]:
        """Which kinds occur in a ledger."""
        older = {self._names.kinds[number] for number in {number for _, number in kept.counted}}
        return frozenset(older.union(entry.kind for entry in kept.entries))

    def _weigh(self, ask: Ask, kept: Kept, suppressed: SuppressionCause | None) -> Facts:
        """The facts. Raises NotReadError when older entries would have to be looked at that were not read."""
        entries, counted, plan, kinds = kept.entries, kept.counted, ask.plan, self._names.kinds
        instants = [*(at for at, _ in counted), *(entry.at for entry in entries)]

        def since(at: int) -> list[Entry]:
            if kept.older is None and at <= kept.document.older:
                raise NotReadError
            return [entry for entry in kept.all() if entry.at >= at]

        if ask.take and kept.older is None and kept.now <= kept.document.older:
            raise NotReadError  # an entry may have to be put among the older ones
        return weigh(
            ask,
            kept.now,
            plan.starts(kept.now),
            instants,
            self._mixture(kept),
            lambda: chain((kinds[number] for _, number in counted), (entry.kind for entry in entries)),
            since,
            [
                Total(self._names.kinds[int.from_bytes(name, "big")], int(number))
                for name, number in kept.totals.items()
            ],
            kept.said,
            suppressed,
            kept.same_id(ask.entry),
        )


def _stale(now: int, profile: bytes) -> Stale:
    """The plan was made for something else. Raises StoreError for a profile that fairtouch never wrote."""
    try:
        return Stale(now, profile.decode())
    except UnicodeDecodeError as error:
        raise damaged(error) from error
