"""Compiled rules: what a policy's sections become once, so that no decision reads a text.

Rule 1: selections match what a touch is; what fills a cap is matched against a ledger's kinds, without the place,
which no ledger holds. Rule 2: an unknown country or region matches: a rule that might protect the customer applies.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from dateutil.relativedelta import relativedelta

from fairtouch.consent import Scope
from fairtouch.hours import Hours
from fairtouch.instants import NEVER
from fairtouch.periods import Period
from fairtouch.touch import Kind

Values = frozenset[str] | None
"""The values that a selection names under one key; None is all."""


def _selects(values: Values, value: str | None) -> bool:
    return values is None or value in values


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """AND between keys, OR within one; a key that is absent matches everything."""

    channels: Values = None
    categories: Values = None
    topics: Values = None
    campaigns: Values = None
    tags: Values = None
    countries: Values = None
    regions: Values = None
    events: Values = None

    def holds(self, kind: Kind) -> bool:
        """Whether a ledger's entry is meant: a touch, or one of the named events (which have a channel and nothing
        else).
        """
        if self.events is not None or kind.event is not None:
            return self.events is not None and kind.event in self.events and _selects(self.channels, kind.channel)
        return (
            _selects(self.channels, kind.channel)
            and _selects(self.categories, kind.category)
            and _selects(self.topics, kind.topic)
            and _selects(self.campaigns, kind.campaign)
            and (self.tags is None or not self.tags.isdisjoint(kind.tags))
        )

    def applies(self, kind: Kind, country: str | None, region: str | None) -> bool:
        """Whether a touch is meant that someone wants to send to that place."""
        return (
            self.holds(kind)
            and (country is None or _selects(self.countries, country))
            and (region is None or _selects(self.regions, region))
        )


EVERYTHING = Selector()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rule:
    """What every rule has: a name, what it is about, whether it refuses or only reports, and from when until when it
    is in force.
    """

    name: str
    select: Selector = EVERYTHING
    enforce: bool = True
    effective_from: int = -NEVER
    effective_until: int = NEVER

    def in_force(self, at: int) -> bool:
        """Whether the rule holds at an instant, in [effective_from, effective_until)."""
        return self.effective_from <= at < self.effective_until

    def enforced(self, at: int) -> bool:
        """Whether the rule can refuse at an instant."""
        return self.enforce and self.in_force(at)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CapRule(Rule):
    """At most `limit` of what `counts` names per period. A cooldown is a cap that no event leaves room in."""

    kind: Literal["cap", "cooldown"] = "cap"
    limit: int
    period: Period
    counts: Selector
    per_subject: bool = False
    held_slots: int = 0
    held_below: int = 0

    def limit_for(self, priority: int) -> int:
        """How many there may be before a touch of that priority is refused; low priorities leave the held-back slots
        alone.
        """
        return self.limit - self.held_slots if priority < self.held_below else self.limit


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HoursRule(Rule):
    """Open hours in the customer's zone, or in `zone`; `lifted_by` names the parts of a consent that lifts them."""

    hours: Hours
    zone: str | None = None
    lifted_by: Scope | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ConsentRule(Rule):
    """An opt-in (a double one) is needed, and ends `after` it was given."""

    double: bool = False
    after: relativedelta | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """Everything that a decision needs of a policy."""

    caps: tuple[CapRule, ...]
    hours: tuple[HoursRule, ...]
    consents: tuple[ConsentRule, ...]

    def names(self) -> Collection[str]:
        """Every rule's name, in the order of the policy."""
        return [rule.name for rules in (self.consents, self.hours, self.caps) for rule in rules]
