"""From sections to rules: every text is read once, and everything that contradicts itself is named with its path."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from fairtouch.bounds import CAPS_MAX, RULES_MAX
from fairtouch.consent import Scope
from fairtouch.errors import TouchError
from fairtouch.hours import HoursError, parse_hours
from fairtouch.instants import DAY, NEVER, to_ms
from fairtouch.periods import WEEKDAYS, Dates, Lifetime, Period, Rolling, parse_duration, parse_limit, parse_period
from fairtouch.policy.model import (
    CapSection,
    ConsentSection,
    CooldownSection,
    CountsSection,
    LiftSection,
    PolicyModel,
    QuietHoursSection,
    RuleSection,
    RulesModel,
    SelectionSection,
)
from fairtouch.policy.rules import CapRule, ConsentRule, HoursRule, Rules, Selector
from fairtouch.zones import check_zone

CHANNELS: Final = ("email", "sms", "push", "voice", "whatsapp", "in_app", "post")
CATEGORIES: Final = ("marketing", "service", "transactional")

RESERVED_NAMES: Final = frozenset({"id", "suppression", "consent", "horizon"})
T = TypeVar("T")


class Words:
    """The channels, categories and topics that a policy knows."""

    def __init__(self, policy: PolicyModel) -> None:
        self.channels = frozenset((*CHANNELS, *policy.channels))
        self.categories = frozenset((*CATEGORIES, *policy.categories))
        self.topics = frozenset(policy.topics)  # empty: topics are not declared, and every one is known

    def unknown(self, key: str, values: tuple[str, ...] | None) -> Iterator[str]:
        """A sentence for every value that is no word of this policy."""
        known: frozenset[str] = getattr(self, key)
        if known:
            for value in values or ():
                if value not in known:
                    yield f"{value!r} is no known {SINGULAR[key]}{nearest(value, known)}"


SINGULAR: Final = {"channels": "channel", "categories": "category", "topics": "topic"}


def nearest(word: str, known: frozenset[str]) -> str:
    """' ; did you mean …?' for the nearest known word, else the list of what is known."""
    if not known:
        return ""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _values(key: str, values: tuple[str, ...]) -> frozenset[str]:
    """The values of a selection; places in upper case, because codes in either case are meant."""
    return frozenset(value.upper() if key in {"countries", "regions"} else value for value in values)


class Compiler:
    """Compiles the sections of one policy and its packs, and gathers what is wrong with them."""

    def __init__(self, policy: PolicyModel) -> None:
        self.policy = policy
        self.words = Words(policy)
        self.week_starts = WEEKDAYS.index(policy.week_starts)
        self.problems: list[str] = []
        self.keep = self._keep()

    def _keep(self) -> int:
        period = self._parse("ledger.keep", self.policy.ledger.keep, lambda text: parse_period(text, self.week_starts))
        if isinstance(period, Rolling):
            return period.span
        if period is not None:
            self._problem("ledger.keep", self.policy.ledger.keep, "write a fixed length such as '400 days'")
        return NEVER

    def _problem(self, path: str, value: object, message: str) -> None:
        self.problems.append(f"{path} = {str(value)[:80]!r}: {message}")

    def _parse(self, path: str, value: Any, parse: Callable[[Any], T]) -> T | None:
        try:
            return parse(value)
        except (ValueError, TouchError) as error:
            self._problem(path, value, str(error).removesuffix("; nothing was recorded"))
            return None

    def rules(self, packs: Mapping[str, RulesModel]) -> Rules:
        """The rules of the policy and its packs, without those that are waived."""
        self._check_policy()
        compiled = [self._rules(self.policy, "")] + [self._rules(pack, f"{name}:") for name, pack in packs.items()]
        whole = Rules(
            tuple(cap for rules in compiled for cap in rules.caps),
            tuple(hours for rules in compiled for hours in rules.hours),
            tuple(consent for rules in compiled for consent in rules.consents),
        )
        self._check_whole(whole)
        waived = self.policy.waive
        return Rules(
            tuple(rule for rule in whole.caps if rule.name not in waived),
            tuple(rule for rule in whole.hours if rule.name not in waived),
            tuple(rule for rule in whole.consents if rule.name not in waived),
        )

    def _check_policy(self) -> None:
        policy = self.policy
        for path, key, values in (
            ("essential", "categories", policy.essential),
            ("fail_open", "categories", policy.fail_open),
            *((f"topics.{name}.category", "categories", (topic.category,)) for name, topic in policy.topics.items()),
        ):
            self.problems += [f"{path}: {sentence}" for sentence in self.words.unknown(key, values)]
        for zone in policy.customer.timezones or ():
            self._parse("customer.timezones", zone, check_zone)

    def _check_whole(self, whole: Rules) -> None:
        names = whole.names()
        for name in {name for name in names if list(names).count(name) > 1}:
            self.problems.append(f"{name!r} names two rules; a rule's name is used once, also across sections")
        for name in RESERVED_NAMES.intersection(names):
            self.problems.append(
                f"{name!r} is the name of a check that fairtouch makes itself; give the rule another one"
            )
        for name in self.policy.waive:
            if name not in names:
                self.problems.append(f"waive.{name!r}: no pack has this rule{nearest(name, frozenset(names))}")
            elif ":" not in name:
                self.problems.append(f"waive.{name!r}: this is a rule of the policy itself; delete it instead")
        if len(whole.caps) > CAPS_MAX or len(names) > RULES_MAX:
            self.problems.append(
                f"{len(whole.caps)} caps and {len(names)} rules; {CAPS_MAX} and {RULES_MAX} are allowed"
            )

    def _rules(self, model: RulesModel, prefix: str) -> Rules:
        caps = [self._cap(name, section, prefix) for name, section in model.caps.items()]
        cooldowns = [self._cooldown(name, section, prefix) for name, section in model.cooldowns.items()]
        hours = [self._hours(name, section, prefix) for name, section in model.quiet_hours.items()]
        consents = [self._consent(name, section, prefix) for name, section in model.consent.items()]
        return Rules(
            tuple(rule for rule in (*caps, *cooldowns) if rule),
            tuple(rule for rule in hours if rule),
            tuple(consents),
        )

    def _common(self, path: str, name: str, section: RuleSection) -> dict[str, Any]:
        since, until = (
            self._instant(f"{path}.{key}", getattr(section, key)) for key in ("effective_from", "effective_until")
        )
        since, until = -NEVER if since is None else since, NEVER if until is None else until
        if until < NEVER and not isinstance(section.effective_until, datetime):
            until += DAY  # the last day belongs to the rule
        if since >= until:
            self._problem(f"{path}.effective_until", section.effective_until, "the rule would end before it begins")
        return {
            "name": name,
            "select": self._selector(f"{path}.select", section.select),
            "enforce": section.enforce,
            "effective_from": since,
            "effective_until": until,
        }

    def _instant(self, path: str, value: datetime | date | None) -> int | None:
        if value is None:
            return None
        if not isinstance(value, datetime):
            return to_ms(datetime.combine(value, time(), UTC))
        return self._parse(path, value, to_ms)

    def _selector(self, path: str, section: SelectionSection | CountsSection) -> Selector:
        for key in ("channels", "categories", "topics"):
            self.problems += [
                f"{path}.{key}: {sentence}" for sentence in self.words.unknown(key, getattr(section, key))
            ]
        return Selector(**{key: _values(key, values) for key, values in section if values is not None})

    def _cap(self, name: str, section: CapSection, prefix: str) -> CapRule | None:
        path = f"{prefix}caps.{name}"
        common = self._common(path, prefix + name, section)
        parsed = self._parse(f"{path}.limit", section.limit, lambda text: parse_limit(text, self.week_starts))
        counts = self._selector(f"{path}.counts", section.counts) if section.counts else common["select"]
        if counts.events and counts != Selector(channels=counts.channels, events=counts.events):
            self.problems.append(
                f"{path}.counts: an event has a channel and nothing else to count by; leave the other keys out"
            )
        if parsed is None:
            return None
        limit, period = parsed
        self._check_reach(f"{path}.limit", section.limit, period)
        held = section.held_back
        if held and held.slots > limit:
            self._problem(f"{path}.held_back.slots", held.slots, f"more slots are held back than the {limit} there are")
        if isinstance(period, Lifetime) and (counts.tags or counts.events or section.per):
            self._problem(
                path, section.limit, "totals of a lifetime are kept per channel, category, topic and campaign only"
            )
        return CapRule(
            **common,
            limit=limit,
            period=period,
            counts=counts,
            per_subject=bool(section.per),
            held_slots=held.slots if held else 0,
            held_below=held.below_priority if held else 0,
        )

    def _check_reach(self, path: str, value: str, period: Period) -> None:
        if period.reach > self.keep:
            self._problem(
                path, value, f"looks further back than facts are kept (ledger.keep = {self.policy.ledger.keep!r})"
            )

    def _cooldown(self, name: str, section: CooldownSection, prefix: str) -> CapRule | None:
        path = f"{prefix}cooldowns.{name}"
        common = self._common(path, prefix + name, section)
        period = self._parse(f"{path}.for", section.lasts, lambda text: parse_period(text, self.week_starts))
        if period is None:
            return None
        if not isinstance(period, Rolling | Dates):
            self._problem(f"{path}.for", section.lasts, "write '7 days' or '7 calendar days'")
        self._check_reach(f"{path}.for", section.lasts, period)
        counts = Selector(events=frozenset({section.after}))  # wherever it happened
        return CapRule(**common, kind="cooldown", limit=1, period=period, counts=counts, per_subject=bool(section.per))

    def _hours(self, name: str, section: QuietHoursSection, prefix: str) -> HoursRule | None:
        path = f"{prefix}quiet_hours.{name}"
        common = self._common(path, prefix + name, section)
        hours = None
        try:
            hours = parse_hours(section.open, section.closed_on, section.open_on)
        except HoursError as error:
            self._problem(f"{path}.{error.key}", error.value, str(error))
        if section.zone is not None:
            self._parse(f"{path}.zone", section.zone, check_zone)
        if not section.open and not section.open_on:
            self.problems.append(
                f"{path}.open: no hours are open, ever; to forbid touches write a cap of '0 per 1 day'"
            )
        if hours is None:
            return None
        return HoursRule(
            **common, hours=hours, zone=section.zone, lifted_by=self._lift(f"{path}.lifted_by", section.lifted_by)
        )

    def _lift(self, path: str, section: LiftSection | None) -> Scope | None:
        if section is None:
            return None
        for key, part in (("categories", "category"), ("channels", "channel"), ("topics", "topic")):
            value = getattr(section, part)
            self.problems += [
                f"{path}.{part}: {sentence}" for sentence in self.words.unknown(key, (value,) if value else None)
            ]
        scope = Scope(section.category, section.channel, section.topic)
        if scope == Scope(None, None, None):
            self.problems.append(f"{path}: names no part of a consent; name a topic, channel or category")
        return scope

    def _consent(self, name: str, section: ConsentSection, prefix: str) -> ConsentRule:
        path = f"{prefix}consent.{name}"
        common = self._common(path, prefix + name, section)
        after = None
        if section.expires_after is not None:
            after = self._parse(f"{path}.expires_after", section.expires_after, parse_duration)
        return ConsentRule(**common, double=section.require == "double_opt_in", after=after)
