"""From touches to decisions, through one asynchronous store: `deciding`, awaited.

Rule: this file is `deciding.py` line for line, but for `await` and the few differences that `tests/test_mirror.py`
names with their reasons. What must not be left half done when a caller is cancelled (giving back) is `finished`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

from fairtouch.asking import Asker, Question, as_touch, as_unverified, waves
from fairtouch.bounds import BATCH_SIZE, SCREEN_SIZE
from fairtouch.clock import Clock, injected_now, system_now
from fairtouch.decision import Decision
from fairtouch.errors import FairtouchError, StoreUnavailable
from fairtouch.finishing import finished
from fairtouch.stores.port_async import Opened
from fairtouch.touch import Touch

T = TypeVar("T")
_log: Final = logging.getLogger("fairtouch")


class AsyncDecider:
    """Decides touches one by one, and streams of them batch by batch; calls `observers` back with every decision."""

    def __init__(self, asker: Asker, store: Opened, clock: Clock | None) -> None:
        self._asker, self._store, self._clock = asker, store, clock
        self.observers: list[Callable[[Decision], None]] = []

    async def decide(self, touch: Touch, *, take: bool) -> Decision:
        """One decision; `take`: with its reservation."""
        now = None if self._clock is None else injected_now(self._clock)
        clock = system_now() if now is None else now
        question = self._asker.question(touch, take=take, clock=clock, now=now)
        alone = [question]
        await self.answer(alone, clock, alone)
        if self.observers:
            self._tell(question.decision)
        return question.decision

    async def stream(self, touches: Iterable[Touch] | AsyncIterable[Touch], *, take: bool) -> AsyncGenerator[Decision]:
        """Decisions in input order; those that were reserved ahead and not looked at are given back."""
        source = _iter(touches)
        while batch := [as_touch(touch, {}) for touch in await _islice(source, BATCH_SIZE if take else SCREEN_SIZE)]:
            questions = await self._decide_batch(batch, take=take)
            try:
                while questions:
                    yield questions.pop(0).decision
            finally:
                await finished(self._give_back, questions, ())

    async def _decide_batch(self, touches: Sequence[Touch], *, take: bool) -> list[Question]:
        now = injected_now(self._clock)
        clock = system_now() if now is None else now
        questions = [self._asker.question(touch, take=take, clock=clock, now=now) for touch in touches]
        for wave in waves(questions) if take else [questions]:
            await self.answer(wave, clock, questions)
        if self.observers:
            for question in questions:
                self._tell(question.decision)
        return questions

    async def answer(self, wave: list[Question], clock: int, together: Sequence[Question]) -> None:
        """Brings questions about different customers to their decisions, in as few calls as the answers need.

        An error gives back whatever was taken for any of those that are decided together.
        """
        asked: Sequence[Question] = ()
        try:
            while wave:
                try:
                    store = await self._store()
                    asked = wave
                    answers = await store.decide([question.ask for question in wave])
                except StoreUnavailable:
                    if as_unverified(wave, clock):
                        return
                    raise
                wave = self._asker.hear(wave, answers)
        except BaseException as error:
            await finished(self._give_back, together, () if isinstance(error, FairtouchError) else asked)
            raise

    async def _give_back(self, questions: Sequence[Question], asked: Sequence[Question]) -> None:
        """Returns what was taken before an error; what cannot be returned now is in doubt when its lease ends.

        `asked`: those of whom it is not known what happened, because the call was cancelled or interrupted. Of these
        also what may have been taken is returned: the token tells it from everybody else's.
        """
        for question in questions:
            entry = question.perhaps_taken() if question in asked else question.taken()
            if entry is not None:
                try:
                    await (await self._store()).release(question.ask.customer, entry, injected_now(self._clock))
                except FairtouchError:
                    _log.warning("a slot could not be given back; it stays taken, and is in doubt when its lease ends")

    def _tell(self, decision: Decision) -> None:
        for observer in self.observers:
            try:
                observer(decision)
            except Exception:  # noqa: BLE001 - an observer's error must not undo a reservation
                _log.exception("an observer of decisions failed; the decision stands")


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
