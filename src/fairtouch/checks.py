"""From facts to checks: every rule that applies, looked at once, with its figures.

Rule 1: every reason for refusal is produced here. Rule 2: this file never sees a clock, a store or a logger. Rule 3:
no check is left out because another one failed. The order is: id, suppression, consent, quiet hours, caps, cooldowns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from fairtouch.consent import MASKS, Said, expires_at, granting, standing_opt_out, withdrawn
from fairtouch.facts import Ask, Entry, Facts, Holder, LedgerEntry, readable
from fairtouch.instants import NEVER, from_ms
from fairtouch.plan import Condition, OpenHours, Plan
from fairtouch.policy.rules import CapRule, ConsentRule
from fairtouch.reasons import Code, Reason

CheckKind = Literal["id", "suppression", "consent", "quiet_hours", "cap", "cooldown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule and what it says. `used` leaves the asking touch out; `touches` are those that fill a cap or cooldown
    without room.

    For caps the window is what is counted (its end is open for rolling periods); for quiet hours it is the open
    stretch that holds now, or the next one. `code` is None when the rule passes. `note` says what a passing check did
    not look at ("not_checked").
    """

    rule: str
    kind: CheckKind
    passed: bool
    enforced: bool = True
    code: Code | None = None
    message: str = ""
    used: int | None = None
    limit: int | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    touches: tuple[LedgerEntry, ...] = field(default=(), repr=False)
    note: str | None = None

    @property
    def reason(self) -> Reason | None:
        """Why not, when the rule refuses."""
        return Reason(self.code, self.rule, self.message) if self.code is not None and self.enforced else None


_HELD: Final = {
    Holder.IN_FLIGHT: (Code.IN_FLIGHT, "another caller holds this touch id until its lease ends"),
    Holder.IN_DOUBT: (
        Code.IN_DOUBT,
        "an earlier reservation of this touch id was never settled, so the touch may have gone out",
    ),
    Holder.SENT: (Code.DUPLICATE, "a touch with this id was already sent"),
}


def checks(ask: Ask, facts: Facts, *, briefly: bool = False) -> Iterator[Check]:
    """Every rule that applies to the touch at the facts' instant, in order; `briefly`: without the touches that fill
    them.
    """
    yield _id(ask, facts)
    yield _suppression(ask, facts)
    yield from _consent(ask, facts)
    for part in ask.plan.hours:
        if part.rule.in_force(facts.now):
            yield _quiet_hours(ask.plan, part, facts)
    yield from _caps(ask, facts, briefly=briefly)


def passes(ask: Ask, facts: Facts) -> bool:
    """Whether every enforced rule surely passes: the comparisons that the store made, made again.

    A False is no verdict yet: a consent may be close to its expiry, or lift the hours. `checks` tells.
    """
    plan = ask.plan
    _, _, counts, _, said, suppressed, held, _ = facts
    return (
        (held is Holder.NONE or (held is Holder.IN_DOUBT and plan.resends))
        and suppressed is None
        and (not plan.require_address or ask.entry.address is not None)
        and plan.open
        and plan.has_room(counts)
        and plan.permits(said)
    )


def fails(ask: Ask, facts: Facts) -> bool:
    """Whether some enforced rule surely refuses. A False is no verdict either."""
    plan = ask.plan
    words = plan.words(facts.said)[: len(MASKS)]
    return (
        facts.suppressed is not None
        or (facts.holder in _HELD and not (facts.holder is Holder.IN_DOUBT and plan.resends))
        or (ask.entry.address is None and plan.require_address)
        or not plan.has_room(facts.counts)
        or not (plan.open or plan.may_be_lifted)
        or any(not any(word[which] for word in words) for which, _ in plan.needed)
        or withdrawn(words, _ever)
    )


def _ever(given: int) -> bool:  # noqa: ARG001 - the latest that any opt-in may live
    return True


def _id(ask: Ask, facts: Facts) -> Check:
    held = None if facts.holder is Holder.IN_DOUBT and ask.plan.resends else _HELD.get(facts.holder)
    if held is None:
        return Check(rule="id", kind="id", passed=True)
    return Check(rule="id", kind="id", passed=False, code=held[0], message=held[1])


def _suppression(ask: Ask, facts: Facts) -> Check:
    if facts.suppressed:
        message = f"the address is suppressed on {ask.plan.shape.kind.channel}: {facts.suppressed}"
        return Check(rule="suppression", kind="suppression", passed=False, code=Code.SUPPRESSED, message=message)
    if ask.entry.address is not None:
        return Check(rule="suppression", kind="suppression", passed=True)
    if not ask.plan.require_address:
        return Check(rule="suppression", kind="suppression", passed=True, note="not_checked")
    message = "the policy requires an address, to look for suppressions, and the touch has none"
    return Check(rule="suppression", kind="suppression", passed=False, code=Code.ADDRESS_MISSING, message=message)


def lifts(ask: Ask, at: int) -> Callable[[int], bool]:
    """Whether an opt-in given at an instant is unexpired at another, by the strictest enforced rule that covers the
    touch.
    """
    rules = [rule.after for rule in ask.plan.consents if rule.after is not None and rule.enforced(at)]
    return lambda given: all(expires_at(given, after) > at for after in rules)


def unexpired(rule: ConsentRule, at: int) -> Callable[[int], bool]:
    """Whether an opt-in given at an instant is unexpired at another, by one rule."""
    after = rule.after
    return lambda given: after is None or expires_at(given, after) > at


def _consent(ask: Ask, facts: Facts) -> Iterator[Check]:
    words = ask.plan.words(facts.said)[: len(MASKS)]
    out = standing_opt_out(words, lifts(ask, facts.now))
    if out is None:
        yield Check(rule="consent", kind="consent", passed=True)
    else:
        when = from_ms(words[out].opted_out)
        message = f"the customer opted out of {_scope_text(ask, out)} at {when:%Y-%m-%d %H:%M} UTC"
        yield Check(rule="consent", kind="consent", passed=False, code=Code.OPTED_OUT, message=message)
    for rule in ask.plan.consents:
        if rule.in_force(facts.now):
            yield _consent_rule(rule, words, facts.now)


def _scope_text(ask: Ask, mask: int) -> str:
    scope = ask.plan.scopes[mask]
    named = [part for part in scope or () if part is not None]
    return "/".join(named) if named else "everything"


def _consent_rule(rule: ConsentRule, words: Sequence[Said], now: int) -> Check:
    if granting(words, unexpired(rule, now), double=rule.double) is not None:
        return Check(rule=rule.name, kind="consent", passed=True, enforced=rule.enforce)
    code, message = _missing(rule, words)
    return Check(rule=rule.name, kind="consent", passed=False, enforced=rule.enforce, code=code, message=message)


def _missing(rule: ConsentRule, words: Sequence[Said]) -> tuple[Code, str]:
    ever = granting(words, lambda _: True, double=rule.double)
    if ever is not None and rule.after is not None:
        given = words[ever].confirmed if rule.double else words[ever].opted_in
        end = from_ms(expires_at(given, rule.after))
        return Code.CONSENT_EXPIRED, f"the opt-in of {from_ms(given):%Y-%m-%d} expired at {end:%Y-%m-%d %H:%M} UTC"
    if max(word.requested for word in words) > max(word.opted_out for word in words):
        return Code.CONSENT_PENDING, "the customer was asked and has not confirmed yet"
    return (
        Code.CONSENT_MISSING,
        f"needs {'a confirmed (double) opt-in' if rule.double else 'an opt-in'}, and none stands",
    )


def _quiet_hours(plan: Plan, part: OpenHours, facts: Facts) -> Check:
    rule = part.rule
    if not part.zones:
        message = "needs the local time, and no time zone is known for the customer"
        return Check(
            rule=rule.name,
            kind="quiet_hours",
            passed=False,
            enforced=rule.enforce,
            code=Code.TIMEZONE_UNKNOWN,
            message=message,
        )
    span = part.span(facts.now)
    passed = (span is not None and span[0] <= facts.now) or part.lifted(plan.words(facts.said))
    return Check(
        rule=rule.name,
        kind="quiet_hours",
        passed=passed,
        enforced=rule.enforce,
        code=None if passed else Code.QUIET_HOURS,
        message="" if passed else f"outside the open hours in {_zones_text(part.zones)}",
        window_start=from_ms(span[0]) if span else None,
        window_end=from_ms(span[1]) if span else None,
    )


def _zones_text(zones: Sequence[str]) -> str:
    return zones[0] if len(zones) == 1 else f"every one of {', '.join(zones)}"


def _caps(ask: Ask, facts: Facts, *, briefly: bool) -> Iterator[Check]:
    """One check per rule: where several zones are possible, the one with the least room."""
    tightest: dict[CapRule, int] = {}
    for index, condition in enumerate(ask.plan.conditions):
        chosen = tightest.get(condition.rule)
        if condition.rule.in_force(facts.now) and (chosen is None or facts.counts[index] > facts.counts[chosen]):
            tightest[condition.rule] = index
    starts = ask.plan.starts(facts.now)
    for rule, index in tightest.items():
        entries = () if briefly else fullest(rule, facts.touches.get(index, ()), ask.entry.subject)
        yield _cap(rule, ask.plan.conditions[index], starts[index], facts.counts[index], entries)
    for rule in ask.plan.zoneless:
        if rule.in_force(facts.now):
            message = "counts by the customer's own dates, and no time zone is known for the customer"
            yield Check(
                rule=rule.name,
                kind=rule.kind,
                passed=False,
                enforced=rule.enforce,
                code=Code.TIMEZONE_UNKNOWN,
                message=message,
            )


def _cap(rule: CapRule, condition: Condition, start: int, used: int, entries: Sequence[Entry]) -> Check:
    passed = used < condition.limit
    return Check(
        rule=rule.name,
        kind=rule.kind,
        passed=passed,
        enforced=rule.enforce,
        code=None if passed else Code.COOLDOWN if rule.kind == "cooldown" else Code.CAP_REACHED,
        message="" if passed else _cap_text(rule, condition, used),
        used=used,
        limit=condition.limit,
        window_start=from_ms(start) if start > -NEVER else None,
        window_end=from_ms(condition.until) if condition.until < NEVER else None,
        touches=() if passed else tuple(readable(entry) for entry in entries),
    )


def _cap_text(rule: CapRule, condition: Condition, used: int) -> str:
    where = f" in {condition.zone}" if condition.zone else ""
    if rule.kind == "cooldown":
        events = "/".join(sorted(rule.counts.events or ()))
        return f"{used} {events} within {rule.period.text}{where}; the customer is left alone for that long"
    held = (
        f" ({rule.held_slots} held back for priority {rule.held_below} and above)"
        if condition.limit < rule.limit
        else ""
    )
    return f"{used} of {condition.limit} touches used per {rule.period.text}{where}{held}"


def fullest(rule: CapRule, entries: Sequence[Entry], subject: str | None) -> Sequence[Entry]:
    """The entries of the subject that leaves the least room; a touch without subject is judged against every one."""
    return max(by_subject(rule, entries, subject), key=len)


def by_subject(rule: CapRule, entries: Sequence[Entry], subject: str | None) -> list[Sequence[Entry]]:
    """The entries that count for each subject; those without one count for all."""
    subjects = {entry.subject for entry in entries} - {None}
    if not rule.per_subject or subject is not None or len(subjects) < 2:
        return [entries]
    return [[entry for entry in entries if entry.subject in (None, value)] for value in sorted(filter(None, subjects))]
