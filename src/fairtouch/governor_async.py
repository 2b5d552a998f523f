"""The governor for asyncio: the words of `Governor`, awaited, around one asynchronous store.

Rule 1: this file is `governor.py` line for line, but for `await` and the few differences that `tests/test_mirror.py`
names with their reasons; what both share lives in `asking` and its like. Rule 2: what must not be left half done when a
caller is cancelled (giving back, settling) is `finished`.
"""

import asyncio
import inspect
import logging
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager
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
from fairtouch.finishing import finished
from fairtouch.governor import OnRefused, refuse
from fairtouch.in_doubt import is_in_doubt
from fairtouch.instants import to_ms
from fairtouch.policy import Policy
from fairtouch.records import Reservation
from fairtouch.registers_async import AsyncConsentRegister, AsyncCustomerRegister, AsyncSuppressionRegister
from fairtouch.settling import Settled, confirmed, is_late, released
from fairtouch.stores import find_async_store
from fairtouch.stores.port import Recorded
from fairtouch.stores.port_async import AsyncStore
from fairtouch.touch import Touch, check_text

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_log: Final = logging.getLogger("fairtouch")


class AsyncGovernor:
    """`Governor` with `await`: decides whether a touch is welcome, and reserves its slot in the same step.

    The arguments are those of `Governor`; `store` is a URL or an asynchronous store. Making one touches no store and
    needs no event loop. The first verb, or `async with`, opens the store and makes sure that it is the right one for
    this policy, namespace and secret: so that is where StoreError and PolicyError about it are raised, and a store that
    was unavailable is tried again by the next verb. One governor serves every task of an event loop.

    A verb that is cancelled raises CancelledError when the store's part of it is over. A cancelled `reserve` has given
    back what it took. Any other verb has happened or not, those of many steps (`import_file`, `prune`, `feedback` by
    customer and address) perhaps in part; it may be repeated. `touch` and `guard` settle to the end before they raise.
    """

    def __init__(
        self,
        policy: Policy,
        store: str | AsyncStore,
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
        self._unbound: Final = find_async_store(store)
        self._binding: Final = asyncio.Lock()
        self._is_bound = False
        self._observers: list[Callable[[Decision], None]] = []
        self.consent: Final = AsyncConsentRegister(self._store, policy, digests, clock)
        self.suppressions: Final = AsyncSuppressionRegister(self._store, policy, digests, clock)
        self.customers: Final = AsyncCustomerRegister(self._store, policy, digests)

    async def _store(self) -> AsyncStore:
        """The store, which knows this governor's policy, namespace and secret from the first verb on."""
        if not self._is_bound:
            async with self._binding:
                if not self._is_bound:
                    await self._move_in()
                    self._is_bound = True
        return self._unbound

    async def _move_in(self) -> None:
        """Makes sure that this store is the right one for this policy, namespace and secret."""
        await self._unbound.bind(self._digests.namespace, self._digests.fingerprint(), self.policy.keep)
        if complete_since := await self._unbound.complete_since():
            now = self._now()
            check_history(self.policy, complete_since, system_now() if now is None else now)

    def _now(self) -> int | None:
        """The injected time; None without one: then the store's own counts."""
        return None if self._clock is None else injected_now(self._clock)

    # Deciding

    async def check(self, touch: Touch | str, **fields: Any) -> Decision:
        """Decides and changes nothing."""
        return await self._decide_one(as_touch(touch, fields), take=False)

    async def reserve(self, touch: Touch | str, **fields: Any) -> Decision:
        """Decides and, if allowed, takes the slots of every cap in the same atomic step: `decision.reservation`.

        Raises IdConflict when the id stands for a touch with other content.
        """
        return await self._decide_one(as_touch(touch, fields), take=True)

    def check_many(self, touches: Iterable[Touch] | AsyncIterable[Touch]) -> AsyncGenerator[Decision]:
        """Checks a stream of touches; results in input order. It reads 50 ahead, so an endless stream needs bounded
        memory.
        """
        return self._stream(touches, take=False)

    def reserve_many(self, touches: Iterable[Touch] | AsyncIterable[Touch]) -> AsyncGenerator[Decision]:
        """Reserves for a stream of touches; results in input order.

        It reads 500 ahead; within such a batch the touches of one customer are judged by priority, then by order. An
        error gives the whole batch back, and so does leaving the loop for the decisions that were not looked at.
        """
        return self._stream(touches, take=True)

    async def _stream(self, touches: Iterable[Touch] | AsyncIterable[Touch], *, take: bool) -> AsyncGenerator[Decision]:
        source = _iter(touches)
        while batch := [as_touch(touch, {}) for touch in await _islice(source, BATCH_SIZE if take else SCREEN_SIZE)]:
            decisions = await self._decide_batch(batch, take=take)
            try:
                while decisions:
                    yield decisions.pop(0)
            finally:
                await finished(self._put_back, decisions)

    async def _put_back(self, decisions: Iterable[Decision]) -> None:
        """Releases what was reserved ahead and not looked at."""
        for decision in decisions:
            if decision.reservation is not None:
                await self.release(decision.reservation)

    async def _decide_one(self, touch: Touch, *, take: bool) -> Decision:
        now = None if self._clock is None else injected_now(self._clock)
        clock = system_now() if now is None else now
        question = self._asker.question(touch, take=take, clock=clock, now=now)
        alone = [question]
        await self._answer(alone, clock, alone)
        if self._observers:
            self._tell(question.decision)
        return question.decision

    async def _decide_batch(self, touches: Sequence[Touch], *, take: bool) -> list[Decision]:
        now = None if self._clock is None else injected_now(self._clock)
        clock = system_now() if now is None else now
        questions = [self._asker.question(touch, take=take, clock=clock, now=now) for touch in touches]
        for wave in waves(questions) if take else [questions]:
            await self._answer(wave, clock, questions)
        decisions = [question.decision for question in questions]
        if self._observers:
            for decision in decisions:
                self._tell(decision)
        return decisions

    async def _answer(self, wave: list[Question], clock: int, together: Sequence[Question]) -> None:
        """Brings questions about different customers to their decisions, in as few calls as the answers need.

        An error gives back whatever was taken for any of those that are decided together.
        """
        try:
            while wave:
                try:
                    answers = await (await self._store()).decide([question.ask for question in wave])
                except StoreUnavailable:
                    if as_unverified(wave, clock):
                        return
                    raise
                wave = self._asker.hear(wave, answers)
        except BaseException as error:
            await finished(self._give_back, together, is_known=isinstance(error, FairtouchError))
            raise

    async def _give_back(self, questions: Sequence[Question], *, is_known: bool) -> None:
        """Returns what was taken before an error; what cannot be returned now is in doubt when its lease ends.

        Unless it `is_known` what happened (the call was cancelled or interrupted), also what may have been taken: the
        token tells it from everybody else's.
        """
        if not self._is_bound:
            return  # the store was not asked yet
        for question in questions:
            entry = question.taken() if is_known else question.perhaps_taken()
            if entry is not None:
                try:
                    await (await self._store()).release(question.ask.customer, entry, self._now())
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

    async def confirm(self, reservation: Reservation) -> Settled:
        """The touch was sent. Idempotent. A send is a fact: it is recorded also when it is late, and the result says
        so.
        """
        question = self._reserved(reservation)
        ask = question.ask
        settlement = await (await self._store()).confirm(ask.customer, ask.entry, ask.plan.scopes, ask.now)
        again = None
        if is_late(ask, settlement):
            try:
                await self._answer([question], settlement.now, [question])
                again = question.decision
            except FairtouchError:
                _log.warning("a late touch was recorded; whether it overfills a cap could not be found out")
        return confirmed(ask, settlement, again)

    async def release(self, reservation: Reservation) -> Settled:
        """The touch was certainly not sent: its slots are free again, and so is its id. Idempotent; a confirmed touch
        stays.
        """
        ask = self._reserved(reservation).ask
        return released(await (await self._store()).release(ask.customer, ask.entry, ask.now))

    def _reserved(self, reservation: Reservation) -> Question:
        if not isinstance(reservation, Reservation):
            raise TouchError(
                f"a {type(reservation).__name__} is no reservation; pass decision.reservation, which is None when no "
                "slot was taken (nothing was recorded)"
            )
        now = self._now()
        return self._asker.reserved(reservation, clock=system_now() if now is None else now, now=now)

    @asynccontextmanager
    async def touch(self, touch: Touch | str, **fields: Any) -> AsyncIterator[Decision]:
        """Around a send: reserves before, confirms after. Raises Refused(decision) when the touch is not welcome.

        An exception inside gives the slot back, unless the touch may have gone out: time-outs, lost connections and
        cancellation keep it.
        """
        decision = await self.reserve(touch, **fields)
        if not decision:
            raise Refused(decision)
        async with self._settling(decision):
            yield decision

    @asynccontextmanager
    async def _settling(self, decision: Decision) -> AsyncIterator[None]:
        """Confirms after the block, or releases when it certainly sent nothing.

        A store that fails now is logged and not raised: the send's own outcome must reach the caller, who would send
        again. The slot then stays taken, and the id is in doubt when its lease ends.
        """
        handled = sys.exc_info()[1]
        try:
            yield
        except BaseException as error:
            if not is_in_doubt(error, handled):
                await finished(self._settle, self.release, decision)
            raise
        await finished(self._settle, self.confirm, decision)

    async def _settle(self, settle: Callable[[Reservation], Coroutine[Any, Any, Settled]], decision: Decision) -> None:
        if decision.reservation is not None:
            try:
                await settle(decision.reservation)
            except FairtouchError:
                _log.exception(
                    "a touch could not be settled; its slot stays taken, and its id is in doubt after the lease"
                )

    @overload
    def guard(
        self, to_touch: Callable[P, Touch], *, on_refused: Literal["raise"] = "raise"
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]: ...

    @overload
    def guard(
        self, to_touch: Callable[P, Touch], *, on_refused: OnRefused
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Any]]], Callable[P, Coroutine[Any, Any, Any]]]: ...

    def guard(
        self, to_touch: Callable[P, Touch], *, on_refused: OnRefused = "raise"
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Any]]], Callable[P, Coroutine[Any, Any, Any]]]:
        """Decorates a coroutine function that sends; `to_touch` gets the same arguments and says what touch the call
        makes.

        When refused: "raise" raises Refused, "skip" returns the decision, a callable is called with it and its result
        returned. `to_touch` and that callable are plain functions. Raises TypeError for anything else.
        """
        if on_refused not in ("raise", "skip") and not callable(on_refused):
            raise TypeError(f"on_refused={on_refused!r}; write 'raise', 'skip', or a callable that takes the decision")
        if inspect.iscoroutinefunction(on_refused):
            raise TypeError("on_refused is a coroutine function; pass a plain one, or 'skip' and await what follows")

        def decorate(send: Callable[P, Coroutine[Any, Any, Any]]) -> Callable[P, Coroutine[Any, Any, Any]]:
            if inspect.isgeneratorfunction(send) or inspect.isasyncgenfunction(send):
                raise TypeError(
                    f"{send.__qualname__} is a generator, which sends when it is iterated; guard what it calls"
                )
            if not inspect.iscoroutinefunction(send):
                raise TypeError(
                    f"{send.__qualname__} is no coroutine function; guard it by a Governor, which does not await"
                )

            @wraps(send)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
                decision = await self.reserve(to_touch(*args, **kwargs))
                if not decision:
                    return refuse(decision, on_refused)
                async with self._settling(decision):
                    return await send(*args, **kwargs)

            return guarded

        return decorate

    # Recording and reading

    async def record(self, touch: Touch | str, at: datetime, **fields: Any) -> Recorded:
        """A touch that already happened: an import, another system, or one in doubt that is known to have gone out.

        It counts, whatever the caps say. `Recorded.TOO_OLD`: before the horizon, not kept. `Recorded.DUPLICATE`: the
        id was known. Raises TouchError when `at` lies in the future, IdConflict when the id stands for a touch with
        other content.
        """
        touch = as_touch(touch, fields)
        instant = to_ms(at)
        now = self._now()
        ask = self._asker.question(touch, take=True, clock=instant, now=now).ask
        recorded = await (await self._store()).record(ask.customer, ask.entry.as_sent(instant), self.policy.keep, now)
        if recorded is Recorded.FUTURE:
            raise TouchError(f"at={at.isoformat()} lies in the future; nothing was recorded")
        if recorded is Recorded.OTHER_CONTENT:
            raise IdConflict(ask.entry.id)
        return recorded

    async def feedback(
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
            recorded = await (await self._store()).record(
                self._digests.customer(customer), entry, self.policy.keep, self._now()
            )
            if recorded is Recorded.FUTURE:
                raise TouchError(f"at={at} lies in the future; nothing was recorded")
            is_new = recorded is Recorded.KEPT
        if address is not None and cause is not None:
            event_id = None if id is None else f"{event}:{id}"
            is_new = await self.suppressions.add(address, channel, cause, event_id=event_id) or is_new
        return is_new

    async def history(self, customer: str) -> list[LedgerEntry]:
        """The customer's touches and events within the horizon, oldest first."""
        check_text("customer", customer, TEXT_LENGTH_MAX)
        return [readable(entry) for entry in await (await self._store()).history(self._digests.customer(customer))]

    async def prune(self, *, progress: Callable[[int], None] | None = None) -> int:
        """Collapses what lies beyond the horizon into totals, which lifetime caps count; how many entries went.

        Run it now and then, say nightly. It goes in small steps, so others hardly wait; `progress` gets the entries
        gone so far.
        """
        gone = 0
        async for step in (await self._store()).prune(self.policy.keep, self._now()):
            await asyncio.sleep(0)
            gone += step
            if progress is not None:
                progress(gone)
        return gone

    # Life

    async def close(self) -> None:
        """Closes the store if this governor opened it; harmless when repeated."""
        if self._owns_store:
            await self._unbound.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self._store()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _iter(touches: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
    return aiter(touches) if isinstance(touches, AsyncIterable) else iter(touches)


async def _islice(source: Iterator[T] | AsyncIterator[T], count: int) -> list[T]:
    """As `itertools.islice`; in between the event loop has its turn, whether or not the store ever waits."""
    await asyncio.sleep(0)
    if isinstance(source, Iterator):
        return list(islice(source, count))
    some: list[T] = []
    async for each in source:
        some.append(each)
        if len(some) == count:
            break
    return some
