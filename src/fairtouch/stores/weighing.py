"""The comparison that the embedded stores make inside their atomic step.

Rule 1: pure; the caller holds the lock or the transaction. Rule 2: it compares what the port's page says and nothing
else: no policy.
Rule 3: counting unpacks no entry: where all that a ledger holds fills the same conditions, each condition costs one
binary search, however long the ledger is. Entries are read when a condition is full, or counts by subject.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from fairtouch.checks import fullest
from fairtouch.consent import Said, Scope
from fairtouch.facts import Ask, Entry, Facts, Holder, Stage, SuppressionCause, Total
from fairtouch.plan import Plan
from fairtouch.stores.port import Recorded
from fairtouch.touch import Kind

_tuple: Final = tuple.__new__  # a NamedTuple's own constructor costs four times as much
_NOBODY: Final[tuple[Holder, Entry | None]] = (Holder.NONE, None)
Since = Callable[[int], Sequence[Entry]]
"""The entries of a customer's ledger at or after an instant, oldest first."""


def is_stale(plan: Plan, profile: str, now: int) -> bool:
    """Whether the plan was made for something else."""
    return not (profile == plan.profile and plan.since <= now < plan.until)


def holder(ask: Ask, same_id: Iterable[Entry], now: int) -> tuple[Holder, Entry | None]:
    """What stands under the touch's id, given its entries; those beyond the horizon hold nothing."""
    worst: tuple[Holder, Entry | None] = (Holder.NONE, None)
    for entry in same_id:
        if entry.at < now - ask.plan.keep:
            continue
        if not entry.same_content(ask.entry):
            return Holder.OTHER_CONTENT, entry
        if entry.token == ask.entry.token:
            return Holder.OURS, entry
        if entry.stage is Stage.CONFIRMED:
            worst = (Holder.SENT, entry)
        elif worst[0] is not Holder.SENT:
            worst = (Holder.IN_FLIGHT if now < entry.lease_end else Holder.IN_DOUBT, entry)
    return worst


def stamped(entry: Entry, now: int) -> Entry:
    """The entry at its own instant, or at now when it has none."""
    return entry if entry.at else entry._replace(at=now)


def recordable(entry: Entry, same_id: Iterable[Entry], keep: int, now: int) -> Recorded | Entry:
    """Whether a fact can be inserted; or the reservation that it confirms."""
    if entry.at > now:
        return Recorded.FUTURE
    reserved = None
    for other in same_id:
        if other.at < now - keep:
            continue
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
    starts: Sequence[int],
    instants: Sequence[int],
    kinds: frozenset[Kind],
    kind_of_each: Callable[[], Iterable[Kind]],
    since: Since,
    totals: Iterable[Total],
    said: Mapping[Scope, Said],
    suppressed: SuppressionCause | None,
    same_id: Sequence[Entry],
) -> Facts:
    """The facts, with the entry to insert when the slot may be taken.

    `starts`: the plan's, for this now. `instants`: of the ledger's entries, oldest first, from the first that a
    condition counts on or more; `kinds`: those that occur among them; `same_id`: every entry of a touch under the
    ask's own id.
    """
    plan, _, asked, take, _, seen = ask
    if kinds:
        fills = plan.shared_fillings[kinds]
        if fills is None:
            counts = _counts_apart(plan.fillings, starts, instants, kind_of_each)
        else:
            number = len(instants)
            counts = [number - bisect_left(instants, start) for start in starts]
            if len(fills) < len(starts):
                counts = [count if index in fills else 0 for index, count in enumerate(counts)]
    else:
        counts = [0] * len(starts)
    if same_id or plan.per_subject or totals:
        _adjust(counts, ask, starts, since, totals, same_id)
    full = plan.full(counts)
    touches = {index: _filling(ask, starts[index], since, index) for index in full} if full else {}
    held, held_by = holder(ask, same_id, now) if same_id else _NOBODY
    if held is Holder.OURS:
        return _tuple(Facts, (now, take, counts, touches, said, suppressed, held, held_by))
    if (
        take
        and (held is Holder.NONE or (held is Holder.IN_DOUBT and plan.resends))
        and suppressed is None
        and (not plan.require_address or asked.address is not None)
        and (not full or plan.has_room(counts))
        and (plan.open and plan.permits(said) if seen is None else seen == said)
    ):
        _, kind, subject, touch_id, token, stage, lease, address = asked
        lease_end = min(now + lease, plan.closes_at) if plan.open else now + lease
        entry = _tuple(Entry, (now, kind, subject, touch_id, token, stage, lease_end, address))
        return _tuple(Facts, (now, True, counts, touches, said, suppressed, held, entry))
    return _tuple(Facts, (now, False, counts, touches, said, suppressed, held, held_by))


def _counts_apart(
    fillings: Mapping[Kind, Sequence[int]],
    starts: Sequence[int],
    instants: Sequence[int],
    kind_of_each: Callable[[], Iterable[Kind]],
) -> list[int]:
    """What each condition counts where entries fill different ones: those that fill the same are counted together."""
    alike: dict[Sequence[int], list[int]] = {}
    for at, kind in zip(instants, kind_of_each(), strict=True):
        alike.setdefault(fillings[kind], []).append(at)
    counts = [0] * len(starts)
    for fills, some in alike.items():
        for index in fills:
            counts[index] += len(some) - bisect_left(some, starts[index])
    return counts


def _adjust(  # noqa: PLR0917 - what was counted, and what else is to be looked at
    counts: list[int],
    ask: Ask,
    starts: Sequence[int],
    since: Since,
    totals: Iterable[Total],
    own: Iterable[Entry],
) -> None:
    """What is not counted by kind alone: the ask's own entries are left out, subjects are told apart, totals added."""
    plan = ask.plan
    for entry in own:
        for index in plan.fillings[entry.kind]:
            counts[index] -= entry.at >= starts[index]
    for index in plan.per_subject:
        if counts[index]:
            entries = _filling(ask, starts[index], since, index)
            counts[index] = len(fullest(plan.conditions[index].rule, entries, ask.entry.subject))
    for total in totals:
        for index in plan.fillings[total.kind]:
            counts[index] += total.number if starts[index] < 0 else 0  # only a lifetime looks back beyond 1970


def _filling(ask: Ask, start: int, since: Since, index: int) -> tuple[Entry, ...]:
    """The entries that a condition counts, newest first."""
    plan, own, subject = ask.plan, ask.entry.id, ask.entry.subject
    by_subject = subject is not None and index in plan.per_subject
    return tuple(
        entry
        for entry in reversed(since(start))
        if index in plan.fillings[entry.kind]
        and not (entry.id == own and entry.kind.event is None)
        and not (by_subject and entry.subject not in (None, subject))
    )
