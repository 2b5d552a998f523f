"""When deferred touches are due, and what becomes of them when their turn has come. Pure: no store, no clock.

Rule 1: never before the next allowed instant. Rule 2: what is in flight waits for the end of its lease, whatever else
speaks against it, because then it is known to have gone out, or in doubt, and is reported as that.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from fairtouch.bounds import ATTEMPTS_MAX, HORIZON_DAYS, LEASE_SECONDS_MAX, SPREAD_SECONDS_MAX
from fairtouch.decision import Decision
from fairtouch.deferral.items import Item, share_of
from fairtouch.deferral.reports import Dropped, Fate
from fairtouch.errors import Refused, TouchError
from fairtouch.instants import DAY, HOUR, MINUTE, NEVER, SECOND, to_ms
from fairtouch.reasons import Code
from fairtouch.records import Outcome
from fairtouch.stores.deferral_port import Turns

_FIRST_PAUSE: Final = MINUTE
_PAUSE_FACTOR: Final = 4  # 1, 4, 16 and 64 minutes, about 4 hours, then 6 hours each: eight attempts take 17 hours
_PAUSE_MAX: Final = 6 * HOUR
_HALVINGS_MAX: Final = 64
_HELD: Final = frozenset({Code.DUPLICATE, Code.IN_DOUBT, Code.IN_FLIGHT})


class Turn(NamedTuple):
    """What becomes of an item. `due_at` None: it leaves the queue."""

    fate: Fate
    due_at: int | None = None
    turns: Turns = Turns()
    decision: Decision | None = None
    error: Exception | None = None

    def dropped(self, item: Item) -> Dropped:
        """What is told of an item that leaves the queue."""
        return Dropped(fate=self.fate, touch=item.touch, payload=item.payload, decision=self.decision, error=self.error)


@dataclass(frozen=True, slots=True)
class Terms:
    """How long touches wait, and for how long they are worth sending; all but `attempts` in milliseconds."""

    spread: int
    expires_after: int
    lease: int
    attempts: int

    def appointment(self, name: bytes, decision: Decision, wish: int | None) -> tuple[int, int]:
        """When a touch is due, and when it expires. Raises Refused when it is not allowed before it expires."""
        now = to_ms(decision.at)
        wanted = now if wish is None else max(now, wish)
        if wanted > now + HORIZON_DAYS * DAY:
            raise TouchError(f"not_before lies more than {HORIZON_DAYS} days ahead; nothing was kept")
        expires_at = wanted + self.expires_after
        allowed_at = _next_allowed(decision)
        if allowed_at is None or max(wanted, allowed_at) >= expires_at:
            raise Refused(decision)
        earliest = max(wanted, allowed_at)
        return self._spread(name, earliest, expires_at, 0) if earliest > now else now, expires_at

    def _spread(self, name: bytes, earliest: int, expires_at: int, deferred: int) -> int:
        """An instant with the item's share of the spread: half as much every time that it is deferred again, so that
        hours which are shorter than the spread let everybody through in the end; and well before it expires.
        """
        share = share_of(name, self.spread) >> min(deferred, _HALVINGS_MAX)
        return earliest + min(share, (expires_at - earliest) // 2)

    def judged(self, item: Item, decision: Decision, now: int) -> Turn | None:
        """What becomes of an item whose turn has come; None: it is to be sent."""
        codes = {reason.code for reason in decision.reasons}
        if not _HELD.isdisjoint(codes):
            return self._held(item, decision, now, codes)
        if decision.allowed and now < item.expires_at:
            return None
        allowed_at = _next_allowed(decision)
        if now >= item.expires_at or (allowed_at is not None and allowed_at >= item.expires_at):
            return Turn(Fate.EXPIRED, decision=decision)
        if allowed_at is None:
            return Turn(Fate.REFUSED, decision=decision)
        turns = item.turns._replace(deferred=item.turns.deferred + 1)
        return Turn(Fate.DEFERRED, self._spread(item.name, allowed_at, item.expires_at, turns.deferred), turns)

    def _held(self, item: Item, decision: Decision, now: int, codes: set[Code]) -> Turn:
        """What becomes of an item whose id somebody holds: it went out, or may have gone out, or just does."""
        if Code.DUPLICATE in codes:
            return Turn(Fate.ALREADY_SENT, decision=decision)
        if Code.IN_DOUBT in codes:
            return Turn(Fate.IN_DOUBT, decision=decision)
        lease_end = _next_allowed(decision) if len(codes) == 1 else None
        return Turn(Fate.DEFERRED, lease_end or now + self.lease, item.turns)

    def failed(self, item: Item, decision: Decision, error: Exception, *, is_in_doubt: bool) -> Turn:
        """What becomes of an item whose send raised. One that may have gone out waits until its lease ends: then the
        policy says what to do.
        """
        failure = Turn(Fate.FAILED, None, _once_more(item), decision, error)
        if not is_in_doubt:
            return self._retried(item, to_ms(decision.at), failure)
        if failure.turns.failed >= self.attempts or decision.reservation is None:
            return failure._replace(fate=Fate.IN_DOUBT)
        return Turn(Fate.RETRIED, to_ms(decision.reservation.send_before), failure.turns)

    def unjudged(self, item: Item, error: Exception, now: int, *, for_good: bool) -> Turn:
        """What becomes of an item that could not be judged; `for_good`: another time it will be the same."""
        failure = Turn(Fate.FAILED, None, _once_more(item), None, error)
        return failure if for_good else self._retried(item, now, failure)

    def _retried(self, item: Item, now: int, failure: Turn) -> Turn:
        """Another attempt after a pause, unless that was the last one, or it would be stale by then."""
        failed = failure.turns.failed
        again_at = now + min(_FIRST_PAUSE * _PAUSE_FACTOR ** (failed - 1), _PAUSE_MAX)
        if failed >= self.attempts or again_at >= item.expires_at:
            return failure
        return Turn(Fate.RETRIED, again_at, failure.turns)


def _once_more(item: Item) -> Turns:
    return item.turns._replace(failed=item.turns.failed + 1)


def _next_allowed(decision: Decision) -> int | None:
    if decision.outcome is Outcome.REFUSED or decision.next_allowed_at is None:
        return None
    return to_ms(decision.next_allowed_at)


def terms(spread_seconds: float, expires_after_seconds: float, lease_seconds: float, attempts: int, keep: int) -> Terms:
    """The terms of a queue. Raises TouchError for what lies beyond a limit; `keep` is the policy's horizon."""
    _check("spread_seconds", spread_seconds, 0, SPREAD_SECONDS_MAX)
    _check("expires_after_seconds", expires_after_seconds, 1, NEVER)
    if expires_after_seconds * SECOND > keep:
        raise TouchError(
            f"expires_after_seconds={expires_after_seconds!r} is longer than the policy keeps facts "
            f"({keep // SECOND} seconds), so that a touch could go out twice; shorten it, or lengthen [ledger] keep"
        )
    _check("lease_seconds", lease_seconds, 1, LEASE_SECONDS_MAX)
    _check("attempts", attempts, 1, ATTEMPTS_MAX)
    spread, expires_after, lease = (
        int(seconds * SECOND) for seconds in (spread_seconds, expires_after_seconds, lease_seconds)
    )
    return Terms(spread, expires_after, lease, int(attempts))


def _check(name: str, value: object, least: float, most: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise TouchError(f"{name}={value!r} must be a number from {least:g} to {most:g}; nothing was kept or sent")
