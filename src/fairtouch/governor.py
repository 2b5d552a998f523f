"""The governor: the verbs of the library around one store.

Rule 1: nothing is decided here; `asking` and `decision` do that. Rule 2: a verb is: prepare, one call to the store,
conclude; so the async front differs by `await` alone.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from itertools import islice
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, Self, TypeVar, overload

from fairtouch.addresses import normalize
from fairtouch.asking import Asker, Question, as_touch, as_unverified, check_history, waves
from fairtouch.bounds import BATCH_SIZE, NAME_LENGTH_MAX, SCREEN_SIZE, TEXT_LENGTH_MAX
from fairtouch.clock import Clock, injected_now, system_now
from fairtouch.decision import Decision
from fairtouch.digests import Digests
from fairtouch.errors import FairtouchError, IdConflict, PolicyError, Refused, StoreUnavailable, TouchError
from fairtouch.facts import LedgerEntry, readable
from fairtouch.feedback import check_event, event_entry, suppression_for
from fairtouch.in_doubt import is_in_doubt
from fairtouch.instants import to_ms
from fairtouch.policy import Policy
from fairtouch.records import Reservation
from fairtouch.registers import ConsentRegister, CustomerRegister, SuppressionRegister
from fairtouch.settling import Settled, confirmed, is_late, released
from fairtouch.stores import find_store
from fairtouch.stores.port import Recorded, Store
from fairtouch.touch import Touch, check_text

P = ParamSpec("P")
R = TypeVar("R")
OnRefused = Literal["raise", "skip"] | Callable[[Decision], Any]
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
        if not isinstance(policy, Policy):
            raise PolicyError(
                f"policy is a {type(policy).__name__}; make one by Policy.load(path) or Policy.model_validate(dict)"
            )
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
        self._observers: list[Callable[[Decision], None]] = []
        self.consent: Final = ConsentRegister(self._store, policy, digests, clock)
        self.suppressions: Final = SuppressionRegister(self._store, policy, digests, clock)
        self.customers: Final = CustomerRegister(self._store, policy, digests)

    def _move_in(self) -> None:
        """Makes sure that this store is the right one for this policy, namespace and secret."""
        self._store.bind(self._digests.namespace, self._digests.fingerprint(), self.policy.keep)
        if complete_since := self._store.complete_since():
            now = self._now()
            check_history(self.policy, complete_since, system_now() if now is None else now)

    def _now(self) -> int | None:
        """The injected time; None without one: then the store's own counts."""
        return None if self._clock is None else injected_now(self._clock)

    # Deciding

    def check(self, touch: Touch | str, **fields: Any) -> Decision:
        """Decides and changes nothing."""
        return self._decide_one(as_touch(touch, fields), take=False)

    def reserve(self, touch: Touch | str, **fields: Any) -> Decision:
        """Decides and, if allowed, takes the slots of every cap in the same atomic step: `decision.reservation`.

        Raises IdConflict when the id stands for a touch with other content.
        """
        return self._decide_one(as_touch(touch, fields), take=True)

    def check_many(self, touches: Iterable[Touch]) -> Generator[Decision]:
        """Checks a stream of touches; results in input order. It reads 50 ahead, so an endless stream needs bounded
        memory.
        """
        return self._stream(touches, take=False)

    def reserve_many(self, touches: Iterable[Touch]) -> Generator[Decision]:
        """Reserves for a stream of touches; results in input order.

        It reads 500 ahead; within such a batch the touches of one customer are judged by priority, then by order. An
        error gives the whole batch back, and so does leaving the loop for the decisions that were not looked at.
        """
        return self._stream(touches, take=True)

    def _stream(self, touches: Iterable[Touch], *, take: bool) -> Generator[Decision]:
        source = iter(touches)
        while batch := [as_touch(touch, {}) for touch in islice(source, BATCH_SIZE if take else SCREEN_SIZE)]:
            decisions = self._decide_batch(batch, take=take)
            try:
                while decisions:
                    yield decisions.pop(0)
            finally:
                self._put_back(decisions)

    def _put_back(self, decisions: Iterable[Decision]) -> None:
        """Releases what was reserved ahead and not looked at."""
        for decision in decisions:
            if decision.reservation is not None:
                self.release(decision.reservation)

    def _decide_one(self, touch: Touch, *, take: bool) -> Decision:
        now = None if self._clock is None else injected_now(self._clock)
        clock = system_now() if now is None else now
        question = self._asker.question(touch, take=take, clock=clock, now=now)
        alone = [question]
        self._answer(alone, clock, alone)
        if self._observers:
            self._tell(question.decision)
        return question.decision

    def _decide_batch(self, touches: Sequence[Touch], *, take: bool) -> list[Decision]:
        now = None if self._clock is None else injected_now(self._clock)
        clock = system_now() if now is None else now
        questions = [self._asker.question(touch, take=take, clock=clock, now=now) for touch in touches]
        for wave in waves(questions) if take else [questions]:
            self._answer(wave, clock, questions)
        decisions = [question.decision for question in questions]
        if self._observers:
            for decision in decisions:
                self._tell(decision)
        return decisions

    def _answer(self, wave: list[Question], clock: int, together: Sequence[Question]) -> None:
        """Brings questions about different customers to their decisions, in as few calls as the answers need.

        An error gives back whatever was taken for any of those that are decided together.
        """
        try:
            while wave:
                try:
                    answers = self._store.decide([question.ask for question in wave])
                except StoreUnavailable:
                    if as_unverified(wave, clock):
                        return
                    raise
                wave = self._asker.hear(wave, answers)
        except BaseException as error:
            self._give_back(together, is_known=isinstance(error, FairtouchError))
            raise

    def _give_back(self, questions: Sequence[Question], *, is_known: bool) -> None:
        """Returns what was taken before an error; what cannot be returned now is in doubt when its lease ends.

        Unless it `is_known` what happened (the call was cancelled or interrupted), also what may have been taken: the
        token tells it from everybody else's.
        """
        for question in questions:
            entry = question.taken() if is_known else question.perhaps_taken()
            if entry is not None:
                try:
                    self._store.release(question.ask.customer, entry, self._now())
                except FairtouchError:
                    _log.warning("a slot could not be given back; it stays taken, and is in doubt when its lease ends")

    def _tell(self, decision: Decision) -> None:
        for observer in self._observers:
            try:
                observer(decision)
            except Exception:  # noqa: BLE001 - an observer's error must not undo a reservation
                _log.exception("an observer of decisions failed; the decision stands")

    def on_decision(self, callback: Callable[[Decision], None]) -> None:
        """Calls back with every decision of `check` and `reserve`, after it was made. An error of the callback is
        logged, nothing else.
        """
        self._observers.append(callback)

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
                self._answer([question], settlement.now, [question])
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
        if not isinstance(reservation, Reservation):
            raise TouchError(
                f"a {type(reservation).__name__} is no reservation; pass decision.reservation, which is None when no "
                "slot was taken (nothing was recorded)"
            )
        now = self._now()
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
        with self._settling(decision):
            yield decision

    @contextmanager
    def _settling(self, decision: Decision) -> Iterator[None]:
        """Confirms after the block, or releases when it certainly sent nothing.

        A store that fails now is logged and not raised: the send's own outcome must reach the caller, who would send
        again. The slot then stays taken, and the id is in doubt when its lease ends.
        """
        handled = sys.exc_info()[1]
        try:
            yield
        except BaseException as error:
            if not is_in_doubt(error, handled):
                self._settle(self.release, decision)
            raise
        self._settle(self.confirm, decision)

    def _settle(self, settle: Callable[[Reservation], Settled], decision: Decision) -> None:
        if decision.reservation is not None:
            try:
                settle(decision.reservation)
            except FairtouchError:
                _log.exception(
                    "a touch could not be settled; its slot stays taken, and its id is in doubt after the lease"
                )

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
        if on_refused not in ("raise", "skip") and not callable(on_refused):
            raise TypeError(f"on_refused={on_refused!r}; write 'raise', 'skip', or a callable that takes the decision")

        def decorate(send: Callable[P, Any]) -> Callable[P, Any]:
            if inspect.isgeneratorfunction(send) or inspect.isasyncgenfunction(send):
                raise TypeError(
                    f"{send.__qualname__} is a generator, which sends when it is iterated; guard what it calls"
                )
            if inspect.iscoroutinefunction(send):

                @wraps(send)
                async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                    decision = self.reserve(to_touch(*args, **kwargs))
                    if not decision:
                        return refuse(decision, on_refused)
                    with self._settling(decision):
                        return await send(*args, **kwargs)

                return guarded_async

            @wraps(send)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
                decision = self.reserve(to_touch(*args, **kwargs))
                if not decision:
                    return refuse(decision, on_refused)
                with self._settling(decision):
                    return send(*args, **kwargs)

            return guarded

        return decorate

    # Recording and reading

    def record(self, touch: Touch | str, at: datetime, **fields: Any) -> Recorded:
        """A touch that already happened: an import, another system, or one in doubt that is known to have gone out.

        It counts, whatever the caps say. `Recorded.TOO_OLD`: before the horizon, not kept. `Recorded.DUPLICATE`: the
        id was known. Raises TouchError when `at` lies in the future, IdConflict when the id stands for a touch with
        other content.
        """
        touch = as_touch(touch, fields)
        instant = to_ms(at)
        now = self._now()
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
        check_event(event)
        if address is not None:
            normalize(address, channel)
        self.policy.check_scope(None, channel, None)
        entry = event_entry(event, channel, subject, id, 0 if at is None else to_ms(at))
        if customer is None and address is None:
            raise TouchError("feedback needs customer= or address=; nothing was recorded")
        if customer is not None:
            check_text("customer", customer, TEXT_LENGTH_MAX)
        cause = None if address is None else suppression_for(event)
        is_new = False
        if customer is not None:
            recorded = self._store.record(self._digests.customer(customer), entry, self.policy.keep, self._now())
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
        for step in self._store.prune(self.policy.keep, self._now()):
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


def refuse(decision: Decision, on_refused: OnRefused) -> Any:
    """What a guarded call comes to when its touch is not welcome."""
    if on_refused == "raise":
        raise Refused(decision)
    return decision if on_refused == "skip" else on_refused(decision)
