"""When a touch would be welcome: the earliest instant over all rules together.

Rule 1: each enforced rule tells, for any instant, the earliest instant from there on at which it passes. The answer
is where they meet, found by going to the latest of them until none asks for more: no step jumps over an instant that
all allow. Rule 2: nothing else is assumed to happen; open reservations count as kept. Rule 3: beyond 400 days there
is no answer.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from fairtouch.bounds import HORIZON_DAYS
from fairtouch.checks import by_subject, lifts, unexpired
from fairtouch.consent import MASKS, Said, granting, withdrawn
from fairtouch.facts import Ask, Entry, Facts, Holder
from fairtouch.instants import DAY, NEVER
from fairtouch.plan import Condition, OpenHours
from fairtouch.policy.rules import ConsentRule, Rule

Step = Callable[[int], int]
"""The earliest instant from the given one on at which a rule passes; NEVER when time does not help."""


def next_allowed(ask: Ask, facts: Facts) -> int:
    """The earliest millisecond at which the touch passes. NEVER when time does not help; past the horizon, some
    instant past it.
    """
    steps = list(_steps(ask, facts))
    horizon = facts.now + HORIZON_DAYS * DAY
    at = facts.now
    while at <= horizon:
        later = max((step(at) for step in steps), default=at)
        if later == at:
            return at
        at = later
    return at


def _steps(ask: Ask, facts: Facts) -> Iterator[Step]:
    if facts.suppressed or (ask.plan.require_address and ask.entry.address is None):
        yield _never
    yield from _id_steps(ask, facts)
    said = ask.plan.words(facts.said)
    words = said[: len(MASKS)]
    yield partial(_opt_out_step, ask, words)
    for consent in ask.plan.consents:
        yield _while_enforced(consent, partial(_consent_step, consent, words))
    for part in ask.plan.hours:
        if not part.lifted(said):
            yield _while_enforced(part.rule, partial(_hours_step, part))
    for index, condition in enumerate(ask.plan.conditions):
        if facts.counts[index] >= condition.limit:
            yield _while_enforced(condition.rule, partial(max, _room_at(ask, condition, facts.touches.get(index, ()))))
    for rule in ask.plan.zoneless:
        yield _while_enforced(rule, _never)


def _never(at: int) -> int:  # noqa: ARG001 - one shape for every step
    return NEVER


def _while_enforced(rule: Rule, step: Step) -> Step:
    """A rule that is not in force, or only reports, lets pass; one that ends lets pass from then on."""

    def enforced(at: int) -> int:
        if not rule.enforced(at):
            return at
        return min(step(at), max(at, rule.effective_until))

    return enforced


def _id_steps(ask: Ask, facts: Facts) -> Iterator[Step]:
    if facts.holder is Holder.IN_FLIGHT and facts.entry is not None:
        yield partial(max, facts.entry.lease_end)  # then it is settled, or in doubt: ask again
    elif facts.holder is Holder.SENT or (facts.holder is Holder.IN_DOUBT and not ask.plan.resends):
        yield _never


def _opt_out_step(ask: Ask, words: Sequence[Said], at: int) -> int:
    return NEVER if withdrawn(words, lifts(ask, at)) else at


def _consent_step(rule: ConsentRule, words: Sequence[Said], at: int) -> int:
    return NEVER if granting(words, unexpired(rule, at), double=rule.double) is None else at


def _hours_step(part: OpenHours, at: int) -> int:
    if not part.zones:
        return NEVER
    span = part.span(at)
    return at + (HORIZON_DAYS + 1) * DAY if span is None else max(at, span[0])


def _room_at(ask: Ask, condition: Condition, entries: Sequence[Entry]) -> int:
    """From when on fewer than `limit` of the entries are inside; `entries` are newest first."""
    if condition.limit <= 0:
        return NEVER
    blocking = [
        group[condition.limit - 1].at
        for group in by_subject(condition.rule, entries, ask.entry.subject)
        if len(group) >= condition.limit
    ]
    if not blocking:
        return NEVER  # only totals of pruned touches fill it, and those stay
    return max(condition.rule.period.leaves_out(at, condition.zone) for at in blocking)
