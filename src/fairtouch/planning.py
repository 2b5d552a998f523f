"""From policy and touch to a plan: what applies, in which zones, and for how long; kept while it is right.

Rule 1: this file never sees a clock or a store; the instant it plans for is a guess that the store verifies.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from fairtouch.consent import MASKS, Scope, covering, surely_alive_from
from fairtouch.hours import Span, parse_hours
from fairtouch.instants import DAY, NEVER
from fairtouch.periods import WEEKDAYS, Rolling, parse_limit
from fairtouch.plan import Condition, Need, OpenHours, Plan, Shape, ZoneSource
from fairtouch.policy import Policy
from fairtouch.policy.rules import CapRule, ConsentRule, HoursRule, Rule, Selector
from fairtouch.profile import Profile
from fairtouch.profile import load as load_profile
from fairtouch.touch import ShapeKey, Touch
from fairtouch.zones import check_zone, zone_names

AnyRule = TypeVar("AnyRule", bound=Rule)

_PLANS_MAX: Final = 8_192
_PLAN_AGE_MAX: Final = DAY


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


def _alive_from(rule: ConsentRule, at: int) -> int:
    return surely_alive_from(at, rule.after) if rule.after is not None else 1
