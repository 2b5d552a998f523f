"""A plan: which conditions must hold, which hours are open, which consents are needed, and until when it is right.

Rule 1: a plan belongs to a *shape* (what rules look at in a touch: neither the customer nor the id, subject or
address) and a customer's profile, so one plan serves many customers. Rule 2: it is right for every now in [since,
until); outside, and for another profile, the store says `Stale` and the plan is made anew (`planning`). Rule 3: what a
store compares with stands here in columns, and is derived here from the conditions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import le, lt
from typing import Final, Literal, NamedTuple

from fairtouch.consent import MASKS, NOTHING, Said, Scope, granting, withdrawn
from fairtouch.hours import Span, all_open
from fairtouch.instants import NEVER
from fairtouch.policy import Policy
from fairtouch.policy.rules import CapRule, ConsentRule, HoursRule
from fairtouch.touch import Kind

_KINDS_MAX: Final = 8_192  # that a plan remembers: every campaign makes one

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


Fills = tuple[int, ...]
"""Which conditions an entry fills."""


class Fillings(dict[Kind, Fills]):
    """What an entry of a kind fills; asked once per kind, not per entry."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        super().__init__()
        self._conditions = conditions

    def __missing__(self, kind: Kind) -> Fills:
        found = tuple(index for index, condition in enumerate(self._conditions) if condition.rule.counts.holds(kind))
        if len(self) >= _KINDS_MAX:
            self.clear()
        self[kind] = found
        return found


class SharedFillings(dict[frozenset[Kind], Fills | None]):
    """What every entry of some kinds fills; None where they fill different conditions."""

    def __init__(self, fillings: Fillings) -> None:
        super().__init__()
        self._fillings = fillings

    def __missing__(self, kinds: frozenset[Kind]) -> Fills | None:
        different = {self._fillings[kind] for kind in kinds}
        if len(self) >= _KINDS_MAX:
            self.clear()
        found = self[kinds] = different.pop() if len(different) == 1 else None
        return found


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Plan:
    """Everything that must hold for touches of one shape to customers of one profile, while now lies in [since,
    until).

    `open`: the open hours allow it throughout; `closes_at`: when they end. `scopes`: the consents to read, first the
    eight that cover the touch, which are `covering` without the empty ones. `zones`: all that a rule of local time
    must hold in. `keep`, `resends`, `require_address`: the policy's own, in milliseconds and as yes or no.

    `windows`, `limits`: the conditions in columns; a window is a rolling period's span and where a calendar one
    starts, the other is 0; `enforced_limits` are never reached where a rule only reports; `fillings`: which of them a
    kind fills, `shared_fillings`: what all of several kinds fill. `per_subject`: which of them count by subject;
    `counts_totals`: whether one counts what was pruned; `may_be_lifted`: whether a consent may open closed hours.
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
    windows: tuple[tuple[int, int], ...] = field(init=False)
    limits: tuple[int, ...] = field(init=False)
    enforced_limits: tuple[int, ...] = field(init=False)
    per_subject: tuple[int, ...] = field(init=False)
    counts_totals: bool = field(init=False)
    may_be_lifted: bool = field(init=False)
    covering: frozenset[Scope] = field(init=False)
    needed: tuple[tuple[int, int], ...] = field(init=False)  # which word of `Said`, and since when
    fillings: Fillings = field(init=False)
    shared_fillings: SharedFillings = field(init=False)

    def __post_init__(self) -> None:
        conditions = self.conditions
        fillings = Fillings(conditions)
        derived: dict[str, object] = {
            "windows": tuple((each.span, 0 if each.span else each.since) for each in conditions),
            "limits": tuple(each.limit for each in conditions),
            "enforced_limits": tuple(each.limit if each.enforced else NEVER for each in conditions),
            "per_subject": tuple(index for index, each in enumerate(conditions) if each.rule.per_subject),
            "fillings": fillings,
            "shared_fillings": SharedFillings(fillings),
            "counts_totals": any(not each.span and each.since < 0 for each in conditions),
            "may_be_lifted": any(part.lift_at is not None for part in self.hours),
            "covering": frozenset(scope for scope in self.scopes[: len(MASKS)] if scope is not None),
            "needed": tuple((int(need.double), need.alive_from) for need in self.needs),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def words(self, said: Mapping[Scope, Said]) -> tuple[Said, ...]:
        """What was said, per scope of the plan."""
        return tuple(NOTHING if scope is None else said.get(scope, NOTHING) for scope in self.scopes)

    def permits(self, said: Mapping[Scope, Said]) -> bool:
        """The consent condition as a store checks it: nothing stands against the touch, and every need is surely met.

        Opt-ins close to their expiry are taken as expired here; `judge` looks at them to the millisecond, and may
        plan again.
        """
        for scope, word in said.items():
            if word[2] and scope in self.covering:  # an opt-out
                return self._permits_after_opt_out(self.words(said)[: len(MASKS)])
        for which, alive_from in self.needed:
            for scope, word in said.items():
                if word[which] >= alive_from and scope in self.covering:
                    break
            else:
                return False
        return True

    def _permits_after_opt_out(self, words: Sequence[Said]) -> bool:
        if withdrawn(words, lambda given: given >= self.alive_from):
            return False
        return all(granting(words, partial(le, need.alive_from), double=need.double) is not None for need in self.needs)

    def starts(self, now: int) -> list[int]:
        """The first instant that each condition counts."""
        return [now - span + 1 if span else since for span, since in self.windows]

    def has_room(self, counts: Sequence[int]) -> bool:
        """Whether every enforced condition counts fewer than its limit."""
        return all(map(lt, counts, self.enforced_limits))

    def full(self, counts: Sequence[int]) -> Sequence[int]:
        """Which conditions, enforced or not, count their limit or more."""
        if all(map(lt, counts, self.limits)):
            return ()
        return [index for index, limit in enumerate(self.limits) if counts[index] >= limit]


def _always(given: int) -> bool:  # noqa: ARG001 - a consent to other hours has no expiry of its own
    return True
