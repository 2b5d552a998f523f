"""The reference model: plain lists, every touch looked at again for every question.

All instants are ints: milliseconds since the epoch, UTC. The model knows one policy, no leases and no network: what it
admits has been sent, until it is released. It exists to be believed, not to be fast.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from .hours import QuietHours
from .local_time import DAY, HOUR, MINUTE, QUARTER, midnight_utc, offset, zone
from .policy import parse_policy
from .rules import Cap, ConsentRule, Cooldown, Rule, only, selects

HORIZON = 400 * DAY  # a next instant further ahead than this is none
EVERY_DATE = 9 * 366 * DAY  # in so long a time every date of the year comes round, 29 February too

AFTER_EVERYTHING = 10**15

# Where to look for some instant at which time has helped. Any hit proves it; a miss proves nothing.
LIKELY_DAYS = [*range(11), 13, 16, 20, 25, 31, 45, 62, *range(75, 400, 25)]
LIKELY_INSTANTS = sorted(day * DAY + hour * HOUR for day in LIKELY_DAYS for hour in range(0, 24, 3))

CONTENT_KEYS = {"channel", "category", "topic", "campaign", "subject", "tags", "address"}
TOUCH_KEYS = CONTENT_KEYS | {"customer", "id", "timezone", "country", "region", "priority"}

Objection = tuple[str, str]
AnyRule = TypeVar("AnyRule", bound=Rule)


class IdConflictError(ValueError):
    """The same id came with other content."""


@dataclass(frozen=True)
class Verdict:
    """What the model decided. `handle` names the slot that a reservation took."""

    outcome: str
    reasons: frozenset[Objection]
    handle: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Scope:
    """What a consent is about. None is any; for the category it is any but the essential ones."""

    category: str | None
    channel: str | None
    topic: str | None


@dataclass(frozen=True)
class Asked:
    """A touch with everything that it leaves out filled in."""

    customer: str
    channel: str
    category: str
    topic: str | None
    campaign: str | None
    subject: str | None
    tags: frozenset[str]
    id: str | None
    address: str | None
    priority: int
    zones: tuple[ZoneInfo, ...]
    country: str | None
    region: str | None

    @property
    def content(self) -> tuple[Any, ...]:
        """What must be the same when the id is the same."""
        return (self.channel, self.category, self.topic, self.campaign, self.subject, self.tags, self.address)


@dataclass(frozen=True)
class Case:
    """A question: the touch that asks, and the rules that are for it."""

    touch: Asked
    consent: list[ConsentRule]
    quiet_hours: list[QuietHours]
    caps: list[Cap]
    cooldowns: list[Cooldown]

    @property
    def rules(self) -> list[Rule]:
        """All of them."""
        return [*self.consent, *self.quiet_hours, *self.caps, *self.cooldowns]


@dataclass(frozen=True)
class Taken:
    """A touch that was admitted, and the caps that it fills."""

    handle: int
    at: int
    touch: Asked
    fills: frozenset[str]


@dataclass(frozen=True)
class Happened:
    """An event of a customer."""

    at: int
    name: str
    channel: str
    subject: str | None


class Model:
    """Decides touches under one policy."""

    def __init__(self, policy: dict[str, Any]) -> None:
        """`policy` is what tomllib makes of a policy file."""
        self.rules = parse_policy(policy)
        self.facts: dict[str, dict[str, str]] = defaultdict(dict)
        self.opt_ins: dict[str, dict[Scope, int]] = defaultdict(dict)
        self.opt_outs: dict[str, dict[Scope, int]] = defaultdict(dict)
        self.events: dict[str, list[Happened]] = defaultdict(list)
        self.taken: dict[str, list[Taken]] = defaultdict(list)
        self.suppressed: set[tuple[str, str]] = set()
        self.owners: dict[int, str] = {}

    # What is told

    def customer(
        self, customer: str, *, timezone: str | None = None, country: str | None = None, region: str | None = None
    ) -> None:
        """Facts about the customer. What is not said stays as it was."""
        told = {"timezone": timezone, "country": country, "region": region}
        self.facts[customer].update({key: value for key, value in told.items() if value is not None})

    def opt_in(
        self,
        customer: str,
        *,
        at: int,
        category: str | None = None,
        channel: str | None = None,
        topic: str | None = None,
    ) -> None:
        """The customer says yes to a scope. Of each scope only the latest yes and the latest no matter."""
        scope = self._scope(category, channel, topic)
        self.opt_ins[customer][scope] = max(at, self.opt_ins[customer].get(scope, at))

    def opt_out(
        self,
        customer: str,
        *,
        at: int,
        category: str | None = None,
        channel: str | None = None,
        topic: str | None = None,
    ) -> None:
        """The customer says no to a scope."""
        scope = self._scope(category, channel, topic)
        self.opt_outs[customer][scope] = max(at, self.opt_outs[customer].get(scope, at))

    def event(self, customer: str, name: str, *, at: int, channel: str, subject: str | None = None) -> None:
        """Something that the customer did."""
        self.events[customer].append(Happened(at, name, channel, subject))

    def suppress(self, address: str, *, channel: str) -> None:
        """The address must not be contacted on the channel. It is given as normalised."""
        self.suppressed.add((address, channel))

    def unsuppress(self, address: str, *, channel: str) -> None:
        """The address may be contacted again."""
        self.suppressed.discard((address, channel))

    # What is asked

    def judge(self, touch: dict[str, Any], at: int) -> Verdict:
        """Decide and change nothing. Every enforced rule that says no is among the reasons."""
        return self._judge(self._case(touch), at)

    def reserve(self, touch: dict[str, Any], at: int) -> Verdict:
        """Decide and, if allowed, remember the touch. A touch that is not allowed leaves no trace."""
        case = self._case(touch)
        verdict = self._judge(case, at)
        if verdict.outcome != "allowed":
            return verdict
        handle = len(self.owners) + 1
        fills = frozenset(cap.name for cap in self.rules.caps if selects(cap.counts, case.touch))
        self.taken[case.touch.customer].append(Taken(handle, at, case.touch, fills))
        self.owners[handle] = case.touch.customer
        return Verdict(verdict.outcome, verdict.reasons, handle)

    def release(self, slot: int | str) -> None:
        """The slot comes back and the id is free again. Named by its handle, or by an id that only one customer has."""
        handle = slot if isinstance(slot, int) else self._handle_of(slot)
        customer = self.owners[handle]
        self.taken[customer] = [taken for taken in self.taken[customer] if taken.handle != handle]

    def next_allowed_at(self, touch: dict[str, Any], at: int) -> int | None:
        """The earliest millisecond from `at` on at which the touch would pass if nothing else happened.

        None when time does not help, or not within 400 days.
        """
        case = self._case(touch)
        if self._passes(case, at):
            return at
        return self._first_passing(case, at, min(at + HORIZON, self._end_of_hope(case, at)))

    # Deciding

    def _judge(self, case: Case, at: int) -> Verdict:
        reasons = frozenset(self._objections(case, at))
        if not reasons:
            return Verdict("allowed", reasons)
        hope = self._end_of_hope(case, at)
        if self._passes_before(case, at, min(hope, at + HORIZON)):
            return Verdict("deferred", reasons)
        if self._first_passing(case, at + HORIZON, min(hope, self._end_of_change(case, at))) is not None:
            reasons |= {("horizon", "horizon")}
        return Verdict("refused", reasons)

    def _passes(self, case: Case, at: int) -> bool:
        return next(self._objections(case, at), None) is None

    def _objections(self, case: Case, at: int) -> Iterator[Objection]:
        """Everyone who says no."""
        yield from self._passing_objections(case, at)
        yield from self._standing_objections(case, at)

    def _passing_objections(self, case: Case, at: int) -> Iterator[Objection]:
        """The noes that go away when the clock moves on."""
        for hours in in_force(case.quiet_hours, at):
            if any(not hours.is_open(at, tz) for tz in zones_of(hours, case.touch)):
                yield "quiet_hours", hours.name
        for cap in in_force(case.caps, at):
            if not is_standing(cap, case.touch) and self._is_full(cap, case.touch, at):
                yield "cap_reached", cap.name
        for cooldown in in_force(case.cooldowns, at):
            if self._is_cooling(cooldown, case.touch, at):
                yield "cooldown", cooldown.name

    def _standing_objections(self, case: Case, at: int) -> Iterator[Objection]:
        """The noes that only a consent's expiry, or a rule coming into force or ceasing to be, can change."""
        yield from self._objections_of_the_customer(case, at)
        touch = case.touch
        for hours in in_force(case.quiet_hours, at):
            if not zones_of(hours, touch):
                yield "timezone_unknown", hours.name
        for cap in in_force(case.caps, at):
            if cap.period.is_local and not touch.zones:
                yield "timezone_unknown", cap.name
            elif is_standing(cap, touch) and self._is_full(cap, touch, at):
                yield "cap_reached", cap.name

    def _objections_of_the_customer(self, case: Case, at: int) -> Iterator[Objection]:
        """She has it already, or her address or she herself declines it, or she has not asked for it."""
        touch = case.touch
        if any(touch.id is not None and taken.touch.id == touch.id for taken in self.taken[touch.customer]):
            yield "duplicate", "id"
        if (touch.address, touch.channel) in self.suppressed:
            yield "suppressed", "suppression"
        if self._is_withdrawn(case, at):
            yield "opted_out", "consent"
        for rule in in_force(case.consent, at):
            code = self._consent_objection(rule, touch, at)
            if code is not None:
                yield code, rule.name

    # Caps and cooldowns

    def _is_full(self, cap: Cap, touch: Asked, at: int) -> bool:
        """A cap admits while used < limit; a local period must hold in every zone that the customer may be in."""
        zones = touch.zones if cap.period.is_local else (None,)
        return any(self._used(cap, touch, cap.period.start(at, tz)) >= cap.room(touch.priority) for tz in zones)

    def _used(self, cap: Cap, touch: Asked, start: int) -> int:
        """How many slots are taken since the start.

        Per subject, a touch without one counts for every subject, and is judged against all.
        """
        counted = [taken for taken in self.taken[touch.customer] if taken.at >= start and cap.name in taken.fills]
        if not cap.per_subject:
            return len(counted)
        subjects = {taken.touch.subject for taken in counted} if touch.subject is None else {touch.subject}
        used = [sum(taken.touch.subject in (None, subject) for taken in counted) for subject in subjects]
        return max(used, default=0)

    def _is_cooling(self, cooldown: Cooldown, touch: Asked, at: int) -> bool:
        """Whether such an event, on whichever channel and about whatever, lies in the span that ends now."""
        start = cooldown.period.start(at, None)
        return any(event.name == cooldown.after and event.at >= start for event in self.events[touch.customer])

    # Consent

    def _is_withdrawn(self, case: Case, at: int) -> bool:
        """Whether some opt-out covers the touch and no later, unexpired opt-in lies between the two.

        So a narrower opt-in lifts a broader opt-out for itself only, a broader one never revives what was narrowly
        declined, and at equal instants the opt-out wins. An opt-in is unexpired if no consent rule says otherwise.
        """
        touch = case.touch
        rules = list(in_force(case.consent, at))
        valid = [
            (scope, said)
            for scope, said in self.opt_ins[touch.customer].items()
            if self._covers(scope, touch) and not any(is_expired(rule, said, at) for rule in rules)
        ]
        return any(
            not any(later > said and self._contains(withdrawn, scope) for scope, later in valid)
            for withdrawn, said in self.opt_outs[touch.customer].items()
            if self._covers(withdrawn, touch)
        )

    def _consent_objection(self, rule: ConsentRule, touch: Asked, at: int) -> str | None:
        """The rule wants an unexpired opt-in that is later than every opt-out that covers the touch."""
        yes = [said for scope, said in self.opt_ins[touch.customer].items() if self._covers(scope, touch)]
        no = [said for scope, said in self.opt_outs[touch.customer].items() if self._covers(scope, touch)]
        standing = [said for said in yes if all(said > declined for declined in no)]
        if any(not is_expired(rule, said, at) for said in standing):
            return None
        return "consent_expired" if standing else "consent_missing"

    def _covers(self, scope: Scope, touch: Asked) -> bool:
        """Whether the touch is within the scope. A touch without a topic is within those that name none."""
        return self._contains(scope, Scope(touch.category, touch.channel, touch.topic))

    def _contains(self, outer: Scope, inner: Scope) -> bool:
        """Set inclusion. "Any category" leaves out the essential ones."""
        any_category = outer.category is None and inner.category not in self.rules.essential
        return (
            (outer.category == inner.category or any_category)
            and outer.channel in (None, inner.channel)
            and outer.topic in (None, inner.topic)
        )

    # Whether time helps

    def _end_of_hope(self, case: Case, at: int) -> int:
        """The instant from which on something always says no that moving on cannot change.

        The standing noes stay as they are from one of these instants to the next, so looking at each is enough.
        """
        instants = sorted([at, *(change for change in self._standing_changes(case) if change > at)])
        hopeful = [
            end
            for start, end in zip(instants, [*instants[1:], AFTER_EVERYTHING], strict=True)
            if next(self._standing_objections(case, start), None) is None
        ]
        return max(hopeful, default=at)

    def _passes_before(self, case: Case, at: int, until: int) -> bool:
        """Whether the touch would pass at some instant of (at, until]: look where it is likely, then everywhere."""
        likely = (at + ahead for ahead in LIKELY_INSTANTS if at + ahead <= until)
        return any(self._passes(case, instant) for instant in likely) or (
            self._first_passing(case, at, until) is not None
        )

    def _first_passing(self, case: Case, after: int, until: int) -> int | None:
        """The first instant of (after, until] at which the touch passes and did not just before."""
        return next((instant for instant in self._walk(case, after, until) if self._passes(case, instant)), None)

    def _walk(self, case: Case, after: int, until: int) -> Iterator[int]:
        """Every instant of (after, until] at which any rule's verdict could change, in order.

        A verdict changes when a past touch or event leaves a rolling span, when a consent expires, when a rule comes
        into force or ceases to be (`_changes`), or when a local date or a window begins or ends (`ticks`).
        """
        changes = defaultdict(set)
        for change in self._changes(case):
            changes[change // QUARTER].add(change)
        zones = {*case.touch.zones, *(hours.zone for hours in case.quiet_hours if hours.zone is not None)}
        odd_windows = any(hours.has_odd_windows() for hours in case.quiet_hours)
        for number in range(after // QUARTER, until // QUARTER + 1):
            instants = changes.get(number, set()).union(ticks(number * QUARTER, zones, odd_windows))
            yield from (instant for instant in sorted(instants) if after < instant <= until)

    def _changes(self, case: Case) -> list[int]:
        """The instants other than those of the calendar at which a verdict could change."""
        customer = case.touch.customer
        spans = [cap.period.span for cap in case.caps if cap.period.kind == "rolling"]
        touches = [taken.at + span for taken in self.taken[customer] for span in spans]
        events = [event.at + cooldown.period.span for event in self.events[customer] for cooldown in case.cooldowns]
        return [*touches, *events, *self._standing_changes(case)]

    def _standing_changes(self, case: Case) -> list[int]:
        """When consents expire, and when rules come into force or cease to be."""
        said = self.opt_ins[case.touch.customer].values()
        expiries = [rule.expires_at(at) for rule in case.consent for at in said]
        effective = [at for rule in case.rules for at in rule.effective_instants()]
        return [*effective, *(at for at in expiries if at is not None)]

    def _end_of_change(self, case: Case, at: int) -> int:
        """An instant by which everything that can ever happen again has happened: from the last change on, every date
        of the year has come round.
        """
        dated = [midnight_utc(day) for hours in case.quiet_hours for day in hours.dates_with_year()]
        return max([at, *dated, *self._changes(case)]) + EVERY_DATE

    # Reading what is said

    def _case(self, touch: dict[str, Any]) -> Case:
        """The touch with all that it leaves out filled in, and the rules that select it."""
        asked = self._asked(touch)
        for taken in self.taken[asked.customer]:
            if asked.id is not None and taken.touch.id == asked.id and taken.touch.content != asked.content:
                raise IdConflictError(f"{asked.id!r} is the id of another touch")
        rules = self.rules
        return Case(
            touch=asked,
            consent=[rule for rule in rules.consent if selects(rule.select, asked)],
            quiet_hours=[rule for rule in rules.quiet_hours if selects(rule.select, asked)],
            caps=[rule for rule in rules.caps if selects(rule.select, asked)],
            cooldowns=[rule for rule in rules.cooldowns if selects(rule.select, asked)],
        )

    def _asked(self, touch: dict[str, Any]) -> Asked:
        """What the touch says, else what the customer's facts say, else what the policy assumes."""
        only(touch, TOUCH_KEYS, "touch")
        facts, rules = self.facts[touch["customer"]], self.rules
        known = touch.get("timezone") or facts.get("timezone")
        topic = touch.get("topic")
        return Asked(
            customer=touch["customer"],
            channel=touch["channel"],
            category=touch.get("category") or self._category_of(topic) or "marketing",
            topic=topic,
            campaign=touch.get("campaign"),
            subject=touch.get("subject"),
            tags=frozenset(touch.get("tags") or ()),
            id=touch.get("id"),
            address=touch.get("address"),
            priority=touch.get("priority") or 0,
            zones=tuple(zone(name) for name in ([known] if known else rules.candidates)),
            country=touch.get("country") or facts.get("country") or rules.country,
            region=touch.get("region") or facts.get("region") or rules.region,
        )

    def _category_of(self, topic: str | None) -> str | None:
        """The topic's category. Once a policy declares topics, others are errors."""
        if topic is None or self.rules.topics is None:
            return None
        if topic not in self.rules.topics:
            raise ValueError(f"no such topic: {topic!r}")
        return self.rules.topics[topic]

    def _scope(self, category: str | None, channel: str | None, topic: str | None) -> Scope:
        self._category_of(topic)
        return Scope(category, channel, topic)

    def _handle_of(self, touch_id: str) -> int:
        everything = [taken for one_customers in self.taken.values() for taken in one_customers]
        handles = [taken.handle for taken in everything if taken.touch.id == touch_id]
        if len(handles) != 1:
            raise ValueError(f"{len(handles)} touches have the id {touch_id!r}")
        return handles[0]


def in_force(rules: Iterable[AnyRule], at: int) -> Iterator[AnyRule]:
    """Those of the rules that are in force."""
    return (rule for rule in rules if rule.in_force(at))


def zones_of(hours: QuietHours, touch: Asked) -> tuple[ZoneInfo, ...]:
    """The zones in every one of which it must be open: the rule's own, else all that the customer may be in."""
    return (hours.zone,) if hours.zone is not None else touch.zones


def is_standing(cap: Cap, touch: Asked) -> bool:
    """Whether a full cap stays full: nothing ever leaves a lifetime, and no slots are never any slots."""
    return cap.period.kind == "lifetime" or cap.room(touch.priority) <= 0


def is_expired(rule: ConsentRule, opted_in: int, at: int) -> bool:
    """Whether by this rule the opt-in has run out: at its last instant it already has."""
    expires_at = rule.expires_at(opted_in)
    return expires_at is not None and expires_at <= at


def ticks(start: int, zones: Iterable[ZoneInfo], odd_windows: bool) -> Iterable[int]:
    """The instants of one quarter of an hour at which a local date or a window could begin or end.

    While the zones keep an offset of whole quarters, dates and windows begin and end at whole quarters: one look is
    enough. In a quarter in which clocks change, in zones with odd offsets (Pacific/Kiritimati was 10:40 behind until
    1979) and under windows that begin or end at odd minutes, every minute is looked at. That is enough too: since 1973
    every zone has stood whole minutes apart from UTC, and changed its clocks at whole minutes.
    """
    by_minute = odd_windows or any(is_odd(start, tz) for tz in zones)
    return range(start, start + QUARTER, MINUTE if by_minute else QUARTER)


@cache
def is_odd(start: int, tz: ZoneInfo) -> bool:
    """Whether in this quarter of an hour the zone changes its clocks or keeps an offset of no whole quarters."""
    ahead = offset(start, tz)
    return ahead % QUARTER != 0 or offset(start + QUARTER, tz) != ahead
