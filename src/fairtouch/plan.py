"""From policy and touch to a plan: which conditions must hold, which hours are open, and until when the plan is
right.

Rule 1: this file never sees a clock or a store; the instant it plans for is a guess that the store verifies. Rule 2:
a plan belongs to a *shape* (what rules look at in a touch: neither the customer nor the id, subject or address) and a
customer's profile, so one plan serves many customers. Rule 3: a plan is right for every now in [since, until);
outside, and for another profile, the store says `Stale` and the plan is made anew.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import itemgetter, le, lt
from typing import Final, Literal, NamedTuple, TypeVar

from fairtouch.consent import MASKS, Said, Scope, covering, granting, surely_alive_from, withdrawn
from fairtouch.hours import Span, all_open, parse_hours
from fairtouch.instants import DAY, NEVER
from fairtouch.periods import WEEKDAYS, Rolling, parse_limit
from fairtouch.policy import Policy
from fairtouch.policy.rules import CapRule, ConsentRule, HoursRule, Rule, Selector
from fairtouch.profile import Profile
from fairtouch.profile import load as load_profile
from fairtouch.touch import Kind, ShapeKey, Touch
from fairtouch.zones import check_zone, zone_names

AnyRule = TypeVar("AnyRule", bound=Rule)

_PLANS_MAX: Final = 8_192
_PLAN_AGE_MAX: Final = DAY
_KINDS_MAX: Final = 8_192  # that a plan remembers: every campaign makes one

_opted_in, _confirmed, _opted_out = itemgetter(0), itemgetter(1), itemgetter(2)  # of what was said, at C's speed

ZoneSource = Literal["touch", "customer", "policy", "unknown"]


class Shape(NamedTuple):
    """What plans depend on, of a touch."""

    kind: Kind
    timezone: str | None
    country: str | None
    region: str | None
    priority: int


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison that the store makes atomically: fewer than `limit` of what the rule counts, at or after the
    start.

    The start is the store's now - `span` + 1 when `span` is set (a rolling period), else `since`, which is right for
    every now in [valid_from, until).
    """

    rule: CapRule
    zone: str | None
    span: int
    since: int
    until: int
    limit: int
    enforced: bool
    valid_from: int = -NEVER

    def start(self, now: int) -> int:
        """The first instant that is counted."""
        return now - self.span + 1 if self.span else self.since


@dataclass(frozen=True, slots=True)
class OpenHours:
    """One rule of open hours in the zones that must all be open; no zones: none is known, so it is closed.

    `lift_at`: where in the plan's scopes the eight begin that are asked for a consent that lifts the hours;
    `lift_parts`: the parts that such a consent must name.
    """

    rule: HoursRule
    zones: tuple[str, ...]
    lift_at: int | None = None
    lift_parts: int = 0

    def span(self, at: int) -> Span | None:
        """The first stretch that ends after `at` in which every zone is open."""
        return all_open([(self.rule.hours, zone) for zone in self.zones], at) if self.zones else None

    def lifted(self, said: Sequence[Said]) -> bool:
        """Whether the customer agreed to be contacted outside the hours."""
        if self.lift_at is None:
            return False
        words = said[self.lift_at : self.lift_at + len(MASKS)]
        return (
            not withdrawn(words, _always) and granting(words, _always, double=False, within=self.lift_parts) is not None
        )


@dataclass(frozen=True, slots=True)
class Need:
    """An opt-in that must stand; a store takes it as unexpired when it was given at or after `alive_from`."""

    double: bool
    alive_from: int


class Fillings(dict[Kind, tuple[int, ...]]):
    """Which conditions an entry of a kind fills; asked once per kind, not per entry."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        super().__init__()
        self._conditions = conditions

    def __missing__(self, kind: Kind) -> tuple[int, ...]:
        found = tuple(index for index, condition in enumerate(self._conditions) if condition.rule.counts.holds(kind))
        if len(self) >= _KINDS_MAX:
            self.clear()
        self[kind] = found
        return found


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Plan:
    """Everything that must hold for touches of one shape to customers of one profile, while now lies in [since,
    until).

    `open`: the open hours allow it throughout; `closes_at`: when they end. `scopes`: the consents to read, first the
    eight that cover the touch; `places`: where each stands there. `zones`: all that a rule of local time must hold
    in. `keep`, `resends`, `require_address`: the policy's own, in milliseconds and as yes or no.

    `reaches`, `sinces`, `limits`: the conditions in columns; each counts from the later of now + reach and since;
    `enforced_limits` are never reached where a rule only reports; `fillings`: which of them a kind fills.
    `per_subject`: which of them count by subject; `counts_totals`: whether one counts what was pruned;
    `may_be_lifted`: whether a consent may open closed hours.
    """

    shape: Shape
    profile: str
    policy: Policy
    since: int
    until: int
    zones: tuple[str, ...]
    zone_source: ZoneSource
    conditions: tuple[Condition, ...]
    zoneless: tuple[CapRule, ...]
    hours: tuple[OpenHours, ...]
    consents: tuple[ConsentRule, ...]
    scopes: tuple[Scope | None, ...]
    needs: tuple[Need, ...]
    alive_from: int
    open: bool
    closes_at: int
    keep: int
    resends: bool
    require_address: bool
    # What stores compare with, of the above.
    reaches: tuple[int, ...] = field(init=False)
    sinces: tuple[int, ...] = field(init=False)
    limits: tuple[int, ...] = field(init=False)
    enforced_limits: tuple[int, ...] = field(init=False)
    per_subject: tuple[int, ...] = field(init=False)
    counts_totals: bool = field(init=False)
    may_be_lifted: bool = field(init=False)
    places: Mapping[Scope, tuple[int, ...]] = field(init=False)
    needed: tuple[tuple[Callable[[Said], int], int], ...] = field(init=False)
    fillings: Fillings = field(init=False)

    def __post_init__(self) -> None:
        conditions = self.conditions
        derived: dict[str, object] = {
            "reaches": tuple(1 - each.span if each.span else -2 * NEVER for each in conditions),
            "sinces": tuple(-NEVER if each.span else each.since for each in conditions),
            "limits": tuple(each.limit for each in conditions),
            "enforced_limits": tuple(each.limit if each.enforced else NEVER for each in conditions),
            "per_subject": tuple(index for index, each in enumerate(conditions) if each.rule.per_subject),
            "fillings": Fillings(conditions),
            "counts_totals": any(not each.span and each.since < 0 for each in conditions),
            "may_be_lifted": any(part.lift_at is not None for part in self.hours),
            "places": _places(self.scopes),
            "needed": tuple((_confirmed if need.double else _opted_in, need.alive_from) for need in self.needs),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def fills(self, kind: Kind) -> tuple[int, ...]:
        """Which conditions a ledger's entry of that kind fills."""
        return self.fillings[kind]

    def permits(self, said: Sequence[Said]) -> bool:
        """The consent condition as a store checks it: nothing stands against the touch, and every need is surely met.

        Opt-ins close to their expiry are taken as expired here; `judge` looks at them to the millisecond, and may
        plan again.
        """
        words = said if len(said) == len(MASKS) else said[: len(MASKS)]
        if any(map(_opted_out, words)):
            return self._permits_after_opt_out(words)
        for needed, alive_from in self.needed:  # noqa: SIM110 - a generator costs more than it runs over
            if max(map(needed, words)) < alive_from:
                return False
        return True

    def _permits_after_opt_out(self, words: Sequence[Said]) -> bool:
        if withdrawn(words, lambda given: given >= self.alive_from):
            return False
        return all(granting(words, partial(le, need.alive_from), double=need.double) is not None for need in self.needs)

    def starts(self, now: int) -> list[int]:
        """The first instant that each condition counts."""
        return list(map(max, map(now.__add__, self.reaches), self.sinces))

    def has_room(self, counts: Sequence[int]) -> bool:
        """Whether every enforced condition counts fewer than its limit."""
        return all(map(lt, counts, self.enforced_limits))

    def full(self, counts: Sequence[int]) -> Sequence[int]:
        """Which conditions, enforced or not, count their limit or more."""
        if all(map(lt, counts, self.limits)):
            return ()
        return [index for index, limit in enumerate(self.limits) if counts[index] >= limit]


class Planner:
    """Makes plans from one policy, and keeps them while they are right. `lease`: how long a reservation is held, in
    milliseconds.
    """

    def __init__(self, policy: Policy, lease: int) -> None:
        self.policy = policy
        self.lease = lease
        self._plans: dict[tuple[str, ShapeKey], Plan] = {}
        zone_names()  # a walk over the disk, once, and not in the middle of somebody's decision

    def plan(self, touch: Touch, profile: str, at: int) -> Plan:
        """The plan for a touch and a profile that is right at an instant.

        Raises TouchError for words that the policy does not know and zones that are none.
        """
        key = (profile, touch.shape_key)
        plan = self._plans.get(key)
        if plan is not None and plan.since <= at < plan.until:
            return plan
        if touch.timezone is not None:
            check_zone(touch.timezone)
        shape = Shape(self.policy.kind(touch), touch.timezone, touch.country, touch.region, touch.priority)
        return self._draw(key, shape, profile, at)

    def plan_for(self, shape: Shape, profile: str, at: int) -> Plan:
        """The plan for a shape that an earlier plan had."""
        kind, place = shape.kind, shape[1:]
        key = (profile, (kind.channel, kind.category, kind.topic, kind.campaign, kind.tags, *place))
        plan = self._plans.get(key)
        return plan if plan is not None and plan.since <= at < plan.until else self._draw(key, shape, profile, at)

    def _draw(self, key: tuple[str, ShapeKey], shape: Shape, profile: str, at: int) -> Plan:
        if len(self._plans) >= _PLANS_MAX:
            self._plans.clear()
        plan = self._plans[key] = _Drawing(self.policy, self.lease, shape, profile, at).plan()
        return plan


class _Drawing:
    """One plan in the making: what applies, in which zones, and for how long."""

    def __init__(self, policy: Policy, lease: int, shape: Shape, profile_text: str, at: int) -> None:
        profile = load_profile(profile_text)
        self.policy, self.lease, self.shape, self.profile_text, self.at = policy, lease, shape, profile_text, at
        self.zones, self.zone_source = _zones(shape, profile, policy.customer.timezones)
        self.country = _place(shape.country or profile.country or policy.customer.country)
        self.region = _place(shape.region or profile.region or policy.customer.region)
        self.essential = shape.kind.category in policy.essential
        wished = _NO_WISHES if self.essential else _wishes(profile_text, policy.week_starts)
        self.caps = self._applying((*policy.rules.caps, *wished.caps))
        self.consents = self._applying(policy.rules.consents)
        self.hours = self._open_hours(self._applying((*policy.rules.hours, *wished.hours)))

    def _applying(self, rules: tuple[AnyRule, ...]) -> tuple[AnyRule, ...]:
        return tuple(
            rule
            for rule in rules
            if rule.effective_until > self.at and rule.select.applies(self.shape.kind, self.country, self.region)
        )

    def _open_hours(self, rules: tuple[HoursRule, ...]) -> tuple[OpenHours, ...]:
        parts = []
        lift_at = len(MASKS)
        for rule in rules:
            zones = (rule.zone,) if rule.zone else self.zones
            if rule.lifted_by is None:
                parts.append(OpenHours(rule, zones))
            else:
                named = sum(1 << index for index, part in enumerate(rule.lifted_by) if part is not None)
                parts.append(OpenHours(rule, zones, lift_at, named))
                lift_at += len(MASKS)
        return tuple(parts)

    def plan(self) -> Plan:
        spans = [part.span(self.at) for part in self.hours if part.rule.enforced(self.at)]
        is_open = all(span is not None and span[0] <= self.at for span in spans)
        conditions = tuple(self._conditions())
        zoneless = tuple(rule for rule in self.caps if rule.period.needs_zone and not self.zones)
        since, until = self._validity(conditions, [span for span in spans if span], is_open=is_open)
        alive_until = until + self.lease
        needs = tuple(
            Need(rule.double, _alive_from(rule, alive_until)) for rule in self.consents if rule.enforced(self.at)
        )
        return Plan(
            shape=self.shape,
            profile=self.profile_text,
            policy=self.policy,
            since=since,
            until=until,
            zones=self.zones,
            zone_source=self.zone_source,
            conditions=conditions,
            zoneless=zoneless,
            hours=self.hours,
            consents=self.consents,
            scopes=tuple(self._scopes()),
            needs=needs,
            alive_from=max([1, *(need.alive_from for need in needs)]),
            open=is_open and not any(rule.enforced(self.at) for rule in zoneless),
            closes_at=min([NEVER, *(span[1] for span in spans if span)]),
            keep=self.policy.keep,
            resends=self.policy.in_doubt == "resend",
            require_address=self.policy.require_address,
        )

    def _conditions(self) -> Iterator[Condition]:
        for rule in self.caps:
            limit, enforced = rule.limit_for(self.shape.priority), rule.enforced(self.at)
            if isinstance(rule.period, Rolling):
                yield Condition(rule, None, rule.period.span, 0, NEVER, limit, enforced)
                continue
            for zone in self.zones if rule.period.needs_zone else (None,):
                window = rule.period.window(self.at, zone)
                yield Condition(rule, zone, 0, window.start, window.end, limit, enforced, window.since)

    def _scopes(self) -> Iterator[Scope | None]:
        kind = self.shape.kind
        assert kind.category is not None  # noqa: S101 - a touch's kind always has one
        yield from covering(kind.category, kind.channel, kind.topic, essential=self.essential)
        for part in self.hours:
            if part.rule.lifted_by is not None:
                category, channel, topic = part.rule.lifted_by
                category = category or kind.category
                essential = category in self.policy.essential
                yield from covering(category, channel or kind.channel, topic or kind.topic, essential=essential)

    def _validity(self, conditions: Sequence[Condition], spans: Sequence[Span], *, is_open: bool) -> Span:
        """The instants of now for which this plan is right: while no period, window or effective date is crossed."""
        rules: list[Rule] = [*self.caps, *self.consents, *(part.rule for part in self.hours)]
        edges = [edge for rule in rules for edge in (rule.effective_from, rule.effective_until)]
        edges += [edge for span in spans for edge in span]
        calendar = [condition for condition in conditions if not condition.span]
        edges += [edge for condition in calendar for edge in (condition.valid_from, condition.until)]
        since = max((edge for edge in edges if edge <= self.at), default=-NEVER) if is_open else self.at
        return since, min([self.at + _PLAN_AGE_MAX, *(edge for edge in edges if edge > self.at)])


class Wishes(NamedTuple):
    """The rules that a customer made for herself."""

    caps: tuple[CapRule, ...]
    hours: tuple[HoursRule, ...]


_NO_WISHES: Final = Wishes((), ())


@lru_cache(maxsize=4_096)
def _wishes(profile_text: str, week_starts: str) -> Wishes:
    profile = load_profile(profile_text)
    caps = []
    for channel, text in (profile.wishes or {}).items():
        limit, period = parse_limit(text, WEEKDAYS.index(week_starts))
        select = Selector(channels=frozenset({channel}))
        caps.append(CapRule(name=f"wish:{channel}", select=select, counts=select, limit=limit, period=period))
    if profile.quiet_hours is None:
        return Wishes(tuple(caps), ())
    return Wishes(tuple(caps), (HoursRule(name="wish:quiet_hours", hours=parse_hours(profile.quiet_hours)),))


def _place(code: str | None) -> str | None:
    """A country or region as rules spell it: a code in the other case is the same place."""
    return None if code is None else code.upper()


def _zones(shape: Shape, profile: Profile, candidates: tuple[str, ...] | None) -> tuple[tuple[str, ...], ZoneSource]:
    if shape.timezone is not None:
        return (shape.timezone,), "touch"
    if profile.timezone is not None:
        return (profile.timezone,), "customer"
    if candidates:
        return candidates, "policy"
    return (), "unknown"


def _places(scopes: Sequence[Scope | None]) -> dict[Scope, tuple[int, ...]]:
    named = {scope for scope in scopes if scope is not None}
    return {scope: tuple(index for index, other in enumerate(scopes) if other == scope) for scope in named}


def _alive_from(rule: ConsentRule, at: int) -> int:
    return surely_alive_from(at, rule.after) if rule.after is not None else 1


def _always(given: int) -> bool:  # noqa: ARG001 - a consent to other hours has no expiry of its own
    return True
