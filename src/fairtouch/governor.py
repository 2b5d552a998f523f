"""The governor: the verbs of the library around one store.

Rule 1: nothing is decided here; `asking` and `decision` do that. Rule 2: a verb is: prepare, one call to the store,
conclude; so the async front differs by `await` alone.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, Self, TypeVar, overload

from fairtouch.asking import Asker, Question, as_touch, check_history
from fairtouch.bounds import NAME_LENGTH_MAX, TEXT_LENGTH_MAX
from fairtouch.clock import Clock, injected_now, system_now
from fairtouch.deciding import Decider
from fairtouch.decision import Decision
from fairtouch.digests import Digests
from fairtouch.errors import FairtouchError, IdConflict, Refused, TouchError
from fairtouch.facts import LedgerEntry, readable
from fairtouch.feedback import told
from fairtouch.guarding import OnRefused, check_on_refused, guarded, settled
from fairtouch.instants import to_ms
from fairtouch.policy import Policy
from fairtouch.premises import Premises
from fairtouch.records import Reservation
from fairtouch.registers import ConsentRegister, CustomerRegister, SuppressionRegister
from fairtouch.settling import Settled, confirmed, is_late, released
from fairtouch.stores import find_store
from fairtouch.stores.port import Recorded, Store
from fairtouch.touch import Touch, check_text

P = ParamSpec("P")
R = TypeVar("R")
_log: Final = logging.getLogger("fairtouch")


class Governor:
    """Decides, per customer and channel, whether a touch is welcome, and reserves its slot in the same step.

    `store`: a URL ("sqlite:///touches.db", "memory://") or a store; it has no default, because a file in whichever
    directory a process starts in would be several budgets. `namespace` keeps several brands apart in one store.
    `secret` keys the digests under which customers and addresses are kept: without the same secret nothing is found
    again. `clock` returns an aware datetime that is believed instead of the store's time (tests, simulations).
    `lease_seconds`: how long a reservation may stay unsettled before it is in doubt.

    Wherever a touch is meant, pass a `Touch`, or the customer and its fields. Every verb raises TouchError for what
    cannot be judged, StoreUnavailable when the store does not answer (repeat it with the same id) and StoreError when
    its data cannot be trusted.
    """

    def __init__(
        self,
        policy: Policy,
        store: str | Store,
        *,
        namespace: str = "default",
        secret: bytes | str | None = None,
        clock: Clock | None = None,
        lease_seconds: float = 900,
    ) -> None:
        check_text("namespace", namespace, NAME_LENGTH_MAX)
        digests = Digests(namespace, secret)
        self.policy: Final = policy
        self._clock: Final = clock
        self._digests: Final = digests
        self._asker: Final = Asker(policy, digests, lease_seconds)
        self._owns_store: Final = isinstance(store, str)
        self._store: Final = find_store(store)
        try:
            self._move_in()
        except BaseException:
            self.close()
            raise
        self._decider: Final = Decider(self._asker, self._store, clock)
        self.consent: Final = ConsentRegister(self._store, policy, digests, clock)
        self.suppressions: Final = SuppressionRegister(self._store, policy, digests, clock)
        self.customers: Final = CustomerRegister(self._store, policy, digests)
        self.premises: Final = Premises(self._store, digests, clock)

    def _move_in(self) -> None:
        """Makes sure that this store is the right one for this policy, namespace and secret."""
        self._store.bind(self._digests.namespace, self._digests.fingerprint(), self.policy.keep)
        if complete_since := self._store.complete_since():
            now = injected_now(self._clock)
            check_history(self.policy, complete_since, system_now() if now is None else now)

    # Deciding

    def check(self, touch: Touch | str, **fields: Any) -> Decision:
        """Decides and changes nothing."""
        return self._decider.decide(as_touch(touch, fields), take=False)

    def reserve(self, touch: Touch | str, **fields: Any) -> Decision:
        """Decides and, if allowed, takes the slots of every cap in the same atomic step: `decision.reservation`.

        Raises IdConflict when the id stands for a touch with other content.
        """
        return self._decider.decide(as_touch(touch, fields), take=True)

    def check_many(self, touches: Iterable[Touch]) -> Generator[Decision]:
        """Checks a stream of touches; results in input order. It reads 50 ahead, so an endless stream needs bounded
        memory.
        """
        return self._decider.stream(touches, take=False)

    def reserve_many(self, touches: Iterable[Touch]) -> Generator[Decision]:
        """Reserves for a stream of touches; results in input order.

        It reads 500 ahead; within such a batch the touches of one customer are judged by priority, then by order. An
        error gives the whole batch back, and so does leaving the loop for the decisions that were not looked at.
        """
        return self._decider.stream(touches, take=True)

    def on_decision(self, callback: Callable[[Decision], None]) -> None:
        """Calls back with every decision of `check` and `reserve`, after it was made. An error of the callback is
        logged, nothing else.
        """
        self._decider.observers.append(callback)

    # Settling

    def confirm(self, reservation: Reservation) -> Settled:
        """The touch was sent. Idempotent. A send is a fact: it is recorded also when it is late, and the result says
        so.
        """
        question = self._reserved(reservation)
        ask = question.ask
        settlement = self._store.confirm(ask.customer, ask.entry, ask.plan.scopes, ask.now)
        again = None
        if is_late(ask, settlement):
            try:
                self._decider.answer([question], settlement.now, [question])
                again = question.decision
            except FairtouchError:
                _log.warning("a late touch was recorded; whether it overfills a cap could not be found out")
        return confirmed(ask, settlement, again)

    def release(self, reservation: Reservation) -> Settled:
        """The touch was certainly not sent: its slots are free again, and so is its id. Idempotent; a confirmed touch
        stays.
        """
        ask = self._reserved(reservation).ask
        return released(self._store.release(ask.customer, ask.entry, ask.now))

    def _reserved(self, reservation: Reservation) -> Question:
        now = injected_now(self._clock)
        return self._asker.reserved(reservation, clock=system_now() if now is None else now, now=now)

    @contextmanager
    def touch(self, touch: Touch | str, **fields: Any) -> Iterator[Decision]:
        """Around a send: reserves before, confirms after. Raises Refused(decision) when the touch is not welcome.

        An exception inside gives the slot back, unless the touch may have gone out: time-outs, lost connections and
        cancellation keep it.
        """
        decision = self.reserve(touch, **fields)
        if not decision:
            raise Refused(decision)
        with settled(self, decision):
            yield decision

    @overload
    def guard(
        self, to_touch: Callable[P, Touch], *, on_refused: Literal["raise"] = "raise"
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    @overload
    def guard(
        self, to_touch: Callable[P, Touch], *, on_refused: OnRefused
    ) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...

    def guard(
        self, to_touch: Callable[P, Touch], *, on_refused: OnRefused = "raise"
    ) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
        """Decorates a function or coroutine function that sends; `to_touch` gets the same arguments and says what touch
        the call makes.

        When refused: "raise" raises Refused, "skip" returns the decision, a callable is called with it and its result
        returned.
        """
        check_on_refused(on_refused)
        return lambda send: guarded(self, send, to_touch, on_refused)

    # Recording and reading

    def record(self, touch: Touch | str, at: datetime, **fields: Any) -> Recorded:
        """A touch that already happened: an import, another system, or one in doubt that is known to have gone out.

        It counts, whatever the caps say. `Recorded.TOO_OLD`: before the horizon, not kept. `Recorded.DUPLICATE`: the
        id was known. Raises TouchError when `at` lies in the future, IdConflict when the id stands for a touch with
        other content.
        """
        touch = as_touch(touch, fields)
        instant = to_ms(at)
        now = injected_now(self._clock)
        ask = self._asker.question(touch, take=True, clock=instant, now=now).ask
        recorded = self._store.record(ask.customer, ask.entry.as_sent(instant), self.policy.keep, now)
        if recorded is Recorded.FUTURE:
            raise TouchError(f"at={at.isoformat()} lies in the future; nothing was recorded")
        if recorded is Recorded.OTHER_CONTENT:
            raise IdConflict(ask.entry.id)
        return recorded

    def feedback(
        self,
        event: str,
        *,
        customer: str | None = None,
        address: str | None = None,
        channel: str,
        subject: str | None = None,
        id: str | None = None,  # noqa: A002 - the word of the contract
        at: datetime | None = None,
    ) -> bool:
        """What the customer did or what befell a touch. By address: a hard bounce or complaint suppresses it. By
        customer: an event in her ledger.

        Whether anything is new: the same `id` again changes nothing. Raises TouchError, and then nothing was
        recorded.
        """
        entry, cause = told(self.policy, event, customer, address, channel=channel, subject=subject, event_id=id, at=at)
        is_new = False
        if customer is not None:
            recorded = self._store.record(
                self._digests.customer(customer), entry, self.policy.keep, injected_now(self._clock)
            )
            if recorded is Recorded.FUTURE:
                raise TouchError(f"at={at} lies in the future; nothing was recorded")
            is_new = recorded is Recorded.KEPT
        if address is not None and cause is not None:
            event_id = None if id is None else f"{event}:{id}"
            is_new = self.suppressions.add(address, channel, cause, event_id=event_id) or is_new
        return is_new

    def history(self, customer: str) -> list[LedgerEntry]:
        """The customer's touches and events within the horizon, oldest first."""
        check_text("customer", customer, TEXT_LENGTH_MAX)
        return [readable(entry) for entry in self._store.history(self._digests.customer(customer))]

    def prune(self, *, progress: Callable[[int], None] | None = None) -> int:
        """Collapses what lies beyond the horizon into totals, which lifetime caps count; how many entries went.

        Run it now and then, say nightly. It goes in small steps, so others hardly wait; `progress` gets the entries
        gone so far.
        """
        gone = 0
        for step in self._store.prune(self.policy.keep, injected_now(self._clock)):
            gone += step
            if progress is not None:
                progress(gone)
        return gone

    # Life

    def close(self) -> None:
        """Closes the store if this governor opened it; harmless when repeated."""
        if self._owns_store:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
