"""The comparison that the embedded stores make inside their atomic step.

Rule 1: pure; the caller holds the lock or the transaction. Rule 2: it compares what the port's page says and nothing
else: no policy.
"""

from collections.abc import Iterable, Sequence

from fairtouch.checks import fullest
from fairtouch.consent import Said
from fairtouch.facts import Ask, Entry, Facts, Holder, Stage, Stale, SuppressionCause, Total
from fairtouch.stores.port import Recorded


def is_stale(ask: Ask, profile: str, now: int) -> Stale | None:
    """The truth to plan with, when the plan was made for something else."""
    plan = ask.plan
    return None if profile == plan.profile and plan.since <= now < plan.until else Stale(now, profile)


def oldest_counted(ask: Ask, now: int) -> int:
    """The first instant that any condition looks at."""
    return min((condition.start(now) for condition in ask.plan.conditions), default=now)


def holder(ask: Ask, same_id: Iterable[Entry], now: int) -> tuple[Holder, Entry | None]:
    """What stands under the touch's id, given its entries within the horizon."""
    worst: tuple[Holder, Entry | None] = (Holder.NONE, None)
    for entry in same_id:
        if not entry.same_content(ask.entry):
            return Holder.OTHER_CONTENT, entry
        if entry.token == ask.entry.token:
            return Holder.OURS, entry
        if entry.stage is Stage.CONFIRMED:
            worst = (Holder.SENT, entry)
        elif worst[0] is not Holder.SENT:
            worst = (Holder.IN_FLIGHT if now < entry.lease_end else Holder.IN_DOUBT, entry)
    return worst


def lease_end(ask: Ask, now: int) -> int:
    """When a reservation taken now falls in doubt: at the end of its lease, or of the open hours."""
    end = now + ask.entry.lease_end
    return min(end, ask.plan.closes_at) if ask.plan.open else end


def stamped(entry: Entry, now: int) -> Entry:
    """The entry at its own instant, or at now when it has none."""
    return entry if entry.at else entry._replace(at=now)


def recordable(entry: Entry, same_id: Iterable[Entry], keep: int, now: int) -> Recorded | Entry:
    """Whether a fact can be inserted; or the reservation that it confirms."""
    if entry.at > now:
        return Recorded.FUTURE
    reserved = None
    for other in same_id:
        if entry.kind.event is None and not other.same_content(entry):
            return Recorded.OTHER_CONTENT
        if other.stage is Stage.CONFIRMED:
            return Recorded.DUPLICATE
        reserved = other
    if reserved is not None:
        return reserved
    return Recorded.TOO_OLD if entry.at < now - keep else Recorded.KEPT


def weigh(  # noqa: PLR0917 - the whole of what a store reads, in the order in which it reads it
    ask: Ask,
    now: int,
    entries: Sequence[Entry],
    totals: Iterable[Total],
    said: tuple[Said, ...],
    suppressed: SuppressionCause | None,
    held: tuple[Holder, Entry | None],
) -> Facts:
    """The facts, and whether the slot may be taken; `entries` oldest first, from `oldest_counted` on or more."""
    counts = _counts(ask, now, entries, totals)
    full = [index for index, condition in enumerate(ask.plan.conditions) if counts[index] >= condition.limit]
    touches = {index: _filling(ask, now, entries, index) for index in full}
    has_room = not any(ask.plan.conditions[index].enforced for index in full)
    may_take = has_room and suppressed is None and _permitted(ask, said, held[0])
    taken = ask.take and (may_take or held[0] is Holder.OURS)
    return Facts(now, taken, counts, touches, said, suppressed, *held)


def _permitted(ask: Ask, said: tuple[Said, ...], held: Holder) -> bool:
    id_is_free = held is Holder.NONE or (held is Holder.IN_DOUBT and ask.plan.resends)
    has_address = ask.entry.address is not None or not ask.plan.require_address
    consents_permit = ask.seen == said if ask.seen is not None else ask.plan.open and ask.plan.permits(said)
    return id_is_free and has_address and consents_permit


def _counts(ask: Ask, now: int, entries: Sequence[Entry], totals: Iterable[Total]) -> tuple[int, ...]:
    plan = ask.plan
    starts = [condition.start(now) for condition in plan.conditions]
    oldest = min(starts, default=now)
    counts = [0] * len(starts)
    for entry in reversed(entries):
        if entry.at < oldest:
            break
        if not _is_own(entry, ask.entry):
            for index in plan.fills(entry.kind):
                counts[index] += entry.at >= starts[index]
    for index, condition in enumerate(plan.conditions):
        if condition.rule.per_subject and counts[index]:
            counts[index] = len(fullest(condition.rule, _filling(ask, now, entries, index), ask.entry.subject))
    for total in totals:
        for index in plan.fills(total.kind):
            counts[index] += total.number if starts[index] < 0 else 0  # only a lifetime looks back beyond 1970
    return tuple(counts)


def _is_own(entry: Entry, own: Entry) -> bool:
    return entry.id == own.id and entry.kind.event is None


def _filling(ask: Ask, now: int, entries: Sequence[Entry], index: int) -> tuple[Entry, ...]:
    condition, subject = ask.plan.conditions[index], ask.entry.subject
    start = condition.start(now)
    return tuple(
        entry
        for entry in reversed(entries)
        if entry.at >= start
        and index in ask.plan.fills(entry.kind)
        and not _is_own(entry, ask.entry)
        and (not condition.rule.per_subject or subject is None or entry.subject in (None, subject))
    )
