"""The queue of a `Governor`: touches are deferred, and sent when they are due.

Rule: a turn is: judge, send, settle, and only then leave the queue, each before the next begins. So whoever dies in
between leaves a touch that comes up again, and the governor knows how it stands.
"""

import logging
import os
import sys
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from fairtouch.asking import as_touch
from fairtouch.bounds import CLAIM_SIZE, NAME_LENGTH_MAX, TEXT_LENGTH_MAX
from fairtouch.clock import injected_now, seconds_running
from fairtouch.decision import Decision
from fairtouch.deferral.fronts import Send, deferral_store, place_of, plain_sender, unavailable, verified
from fairtouch.deferral.items import Deferral, Item, content_of, deferral, item_of, name_of, spelled, with_id
from fairtouch.deferral.reports import Fate, OnDropped, Progress, Report, Run
from fairtouch.deferral.terms import Turn, terms
from fairtouch.errors import FairtouchError, StoreError, StoreUnavailable
from fairtouch.governor import Governor
from fairtouch.guarding import settled
from fairtouch.in_doubt import is_in_doubt
from fairtouch.instants import SECOND, to_ms
from fairtouch.stores.deferral_port import Claimed
from fairtouch.touch import Touch, check_text

_log: Final = logging.getLogger("fairtouch")


class Deferrals:
    """A queue of touches to be sent later, in the store of a governor.

    `name`: whoever uses the same name in the same namespace shares a queue, so each app that has a sender of its own
    has a name of its own. `spread_seconds`: over how long touches that become due at the same instant are spread.
    `expires_after_seconds`: for how long a touch is worth sending, from when it was meant to go; at most the policy's
    horizon. `lease_seconds`: after which another worker takes over what a worker claimed and did not finish.
    `attempts`: how often a send may fail, with pauses that grow from a minute to six hours.

    **Customer, address and payload stand in the store in clear, until the touch is sent**; a secret does not hide
    them. Raises TouchError for options out of bounds, TypeError for a store that keeps no queues. Every verb raises
    StoreUnavailable and StoreError as the governor's do.
    """

    def __init__(
        self,
        governor: Governor,
        *,
        name: str = "default",
        spread_seconds: float = 600,
        expires_after_seconds: float = 3 * 86_400,
        lease_seconds: float = 900,
        attempts: int = 8,
    ) -> None:
        check_text("name", name, NAME_LENGTH_MAX)
        self._terms: Final = terms(spread_seconds, expires_after_seconds, lease_seconds, attempts, governor.policy.keep)
        self._governor: Final = governor
        self._digests: Final = governor.premises.digests
        self._clock: Final = governor.premises.clock
        self._queue: Final = governor.premises.digests.queue(name)
        self._store: Final = deferral_store(governor.premises.store)

    def defer(self, touch: Touch | str, payload: Any, *, not_before: datetime | None = None, **fields: Any) -> Deferral:
        """Keeps a touch until it is allowed, and its payload (JSON) for whoever sends it then.

        One that is allowed now is due now; one that waits is due at its next allowed instant, or at `not_before` if
        that is later, and its share of the spread. It is as durable as an opt-out when this returns. The touch's id is
        the key: the same again keeps one, the first; so give it one, or what is repeated after an error may be kept
        twice. Raises Refused when time does not help, or it would expire
        before; IdConflict when the id stands for a touch with other content; TouchError for a payload that is no
        JSON. Then nothing is kept.
        """
        touch = with_id(as_touch(touch, fields))
        wish = None if not_before is None else to_ms(not_before, "not_before")
        text = spelled(payload)
        decision = self._governor.check(touch)
        name = name_of(self._digests, touch.customer, str(touch.id))
        due_at, expires_at = self._terms.appointment(name, decision, wish)
        content = content_of(touch, text, expires_at)
        return deferral(touch, self._store.keep(self._queue, name, due_at, content), content)

    def cancel(self, customer: str, touch_id: str | None = None) -> int:
        """Takes a customer's touch out of the queue, or all of hers; how many there were.

        One that a worker has claimed already may still go out.
        """
        check_text("customer", customer, TEXT_LENGTH_MAX)
        if touch_id is None:
            return self._store.cancel(self._queue, self._digests.customer(customer))
        check_text("touch_id", touch_id, TEXT_LENGTH_MAX)
        return self._store.cancel(self._queue, name_of(self._digests, customer, touch_id))

    def run_due(
        self,
        send: Send,
        *,
        limit: int = 10_000,
        on_dropped: OnDropped | None = None,
        progress: Progress | None = None,
    ) -> Report:
        """Judges what is due, and calls `send(touch, payload)` for what is allowed; what became of all of it.

        Any number of workers may run at once. A send that raises gives its slot back and is tried again later, unless
        the touch may have gone out (time-outs, lost connections): then it waits for the end of its reservation, and the
        policy's `in_doubt` decides. What leaves the queue unsent is in the report; or `on_dropped` is told of it
        before it leaves, and again if this process dies in between. `progress` gets the number of turns so far.

        Raises StoreUnavailable when the store fails: what was claimed comes back when its claim ends, and what had
        gone out is known by then, or in doubt. KeyboardInterrupt and its like go on to the caller; then a touch in the
        middle of its send is in doubt, and the others come up again. Raises TypeError for a coroutine function.
        """
        send = plain_sender(send)
        run, queue, lease = Run(limit, on_dropped, progress), self._queue, self._terms.lease
        try:
            while room := run.room():
                token, size, now = os.urandom(8), min(room, CLAIM_SIZE), injected_now(self._clock)
                clock, claimed = self._store.claim(queue, token, size, lease, now)
                waiting = deque(claimed)
                self._take_turns(send, run, token, clock, waiting)
                if len(claimed) < size and not waiting:
                    return self._reported(run, is_whole=True)
            return self._reported(run, is_whole=False)
        except StoreUnavailable as error:
            raise unavailable(error, run, lease) from error

    def _take_turns(self, send: Send, run: Run, token: bytes, now: int, claimed: deque[Claimed]) -> None:
        """Takes the turn of each, until the claim ends: the others are anybody's then. Those that are left when
        something ends the run are given back, if possible.
        """
        ends = seconds_running() + self._terms.lease / SECOND
        try:
            while claimed and seconds_running() < ends:
                item = item_of(claimed.popleft())
                turn = self._turn(send, item, now)
                self._conclude(run, token, item, turn)
        except BaseException:
            with suppress(FairtouchError):
                for left in claimed:
                    self._store.put_back(self._queue, token, left.item, now, left.turns)
            raise

    def _turn(self, send: Send, item: Item, now: int) -> Turn:
        """Judges an item, and sends it if it is allowed. One that expired is only looked at: it may be in doubt."""
        try:
            is_stale = item.expires_at <= now
            decision = self._governor.check(item.touch) if is_stale else self._governor.reserve(item.touch)
        except StoreUnavailable:
            raise
        except FairtouchError as error:
            _log.warning("a deferred touch could not be judged: %s", error)
            return self._terms.unjudged(item, error, now, for_good=not isinstance(error, StoreError))
        verified(decision)
        turn = self._terms.judged(item, decision, now)
        return self._sent(send, item, decision) if turn is None else turn

    def _sent(self, send: Send, item: Item, decision: Decision) -> Turn:
        handled = sys.exc_info()[1]
        try:
            with settled(self._governor, decision):
                send(item.touch, item.payload)
        except Exception as error:  # noqa: BLE001 - the others wait
            _log.warning("the send of a deferred touch raised %s", place_of(error))  # its text may name people
            return self._terms.failed(item, decision, error, is_in_doubt=is_in_doubt(error, handled))
        return Turn(Fate.SENT)

    def _conclude(self, run: Run, token: bytes, item: Item, turn: Turn) -> None:
        """Puts an item back or takes it out, and counts it. It is told of before it goes."""
        if turn.due_at is not None:
            self._store.put_back(self._queue, token, item.name, turn.due_at, turn.turns)
        elif turn.fate is Fate.SENT or run.hear(turn.dropped(item), token, item.name):
            self._store.take_out(self._queue, token, item.name)
        else:
            return
        run.count(turn.fate)

    def _reported(self, run: Run, *, is_whole: bool) -> Report:
        """The report; what it holds leaves the queue. What cannot be taken out now comes up and is told again."""
        try:
            for token, name in run.leaving:
                self._store.take_out(self._queue, token, name)
        except FairtouchError:
            _log.exception("dropped touches could not be taken out of the queue; they come up again")
        return run.report(is_whole=is_whole)
