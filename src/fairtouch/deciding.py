"""From touches to decisions, through one store: asked in as few calls as the answers need, and told to observers.

Rule 1: nothing is decided here; `asking` and `decision` do that. Rule 2: an error gives back what was taken for all
that are decided together.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import Final

from fairtouch.asking import Asker, Question, as_touch, as_unverified, waves
from fairtouch.bounds import BATCH_SIZE, SCREEN_SIZE
from fairtouch.clock import Clock, injected_now, system_now
from fairtouch.decision import Decision
from fairtouch.errors import FairtouchError, StoreUnavailable
from fairtouch.stores.port import Store
from fairtouch.touch import Touch

_log: Final = logging.getLogger("fairtouch")


class Decider:
    """Decides touches one by one, and streams of them batch by batch; calls `observers` back with every decision."""

    def __init__(self, asker: Asker, store: Store, clock: Clock | None) -> None:
        self._asker, self._store, self._clock = asker, store, clock
        self.observers: list[Callable[[Decision], None]] = []

    def decide(self, touch: Touch, *, take: bool) -> Decision:
        """One decision; `take`: with its reservation."""
        now = None if self._clock is None else injected_now(self._clock)
        clock = system_now() if now is None else now
        question = self._asker.question(touch, take=take, clock=clock, now=now)
        alone = [question]
        self.answer(alone, clock, alone)
        if self.observers:
            self._tell(question.decision)
        return question.decision

    def stream(self, touches: Iterable[Touch], *, take: bool) -> Generator[Decision]:
        """Decisions in input order; those that were reserved ahead and not looked at are given back."""
        source = iter(touches)
        while batch := [as_touch(touch, {}) for touch in islice(source, BATCH_SIZE if take else SCREEN_SIZE)]:
            questions = self._decide_batch(batch, take=take)
            try:
                while questions:
                    yield questions.pop(0).decision
            finally:
                self._give_back(questions, ())

    def _decide_batch(self, touches: Sequence[Touch], *, take: bool) -> list[Question]:
        now = injected_now(self._clock)
        clock = system_now() if now is None else now
        questions = [self._asker.question(touch, take=take, clock=clock, now=now) for touch in touches]
        for wave in waves(questions) if take else [questions]:
            self.answer(wave, clock, questions)
        if self.observers:
            for question in questions:
                self._tell(question.decision)
        return questions

    def answer(self, wave: list[Question], clock: int, together: Sequence[Question]) -> None:
        """Brings questions about different customers to their decisions, in as few calls as the answers need.

        An error gives back whatever was taken for any of those that are decided together.
        """
        asked: Sequence[Question] = ()
        try:
            while wave:
                try:
                    store = self._store
                    asked = wave
                    answers = store.decide([question.ask for question in wave])
                except StoreUnavailable:
                    if as_unverified(wave, clock):
                        return
                    raise
                wave = self._asker.hear(wave, answers)
        except BaseException as error:
            self._give_back(together, () if isinstance(error, FairtouchError) else asked)
            raise

    def _give_back(self, questions: Sequence[Question], asked: Sequence[Question]) -> None:
        """Returns what was taken before an error; what cannot be returned now is in doubt when its lease ends.

        `asked`: those of whom it is not known what happened, because the call was cancelled or interrupted. Of these
        also what may have been taken is returned: the token tells it from everybody else's.
        """
        for question in questions:
            entry = question.perhaps_taken() if question in asked else question.taken()
            if entry is not None:
                try:
                    self._store.release(question.ask.customer, entry, injected_now(self._clock))
                except FairtouchError:
                    _log.warning("a slot could not be given back; it stays taken, and is in doubt when its lease ends")

    def _tell(self, decision: Decision) -> None:
        for observer in self.observers:
            try:
                observer(decision)
            except Exception:  # noqa: BLE001 - an observer's error must not undo a reservation
                _log.exception("an observer of decisions failed; the decision stands")
