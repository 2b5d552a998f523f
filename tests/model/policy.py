"""A whole policy, read from the plain dict that tomllib makes of its file."""

from dataclasses import dataclass
from typing import Any

from .hours import QuietHours, parse_quiet_hours
from .rules import Cap, ConsentRule, Cooldown, only, parse_cap, parse_consent, parse_cooldown

WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


@dataclass(frozen=True)
class Rules:
    """A policy, read. Rules that are not enforced are left out: they never say no."""

    essential: frozenset[str]
    candidates: tuple[str, ...]
    country: str | None
    region: str | None
    topics: dict[str, str | None] | None
    consent: list[ConsentRule]
    quiet_hours: list[QuietHours]
    caps: list[Cap]
    cooldowns: list[Cooldown]


def parse_policy(policy: dict[str, Any]) -> Rules:
    """Read the tables of a policy file. `[ledger] keep` changes nothing here: the model never forgets."""
    known = {"name", "essential", "week_starts", "ledger", "customer", "topics"}
    only(policy, known | {"consent", "quiet_hours", "caps", "cooldowns"}, "policy")
    only(policy.get("ledger", {}), {"keep"}, "ledger")
    customer = policy.get("customer", {})
    only(customer, {"timezones", "country", "region"}, "customer")
    for name, topic in policy.get("topics", {}).items():
        only(topic, {"category"}, f"topics.{name}")
    week_starts = WEEKDAYS.index(policy.get("week_starts", "monday"))
    return Rules(
        essential=frozenset(policy.get("essential", ())),
        candidates=tuple(customer.get("timezones", ())),
        country=customer.get("country"),
        region=customer.get("region"),
        topics={name: t.get("category") for name, t in policy["topics"].items()} if "topics" in policy else None,
        consent=[parse_consent(name, table) for name, table in enforced(policy, "consent")],
        quiet_hours=[parse_quiet_hours(name, table) for name, table in enforced(policy, "quiet_hours")],
        caps=[parse_cap(name, table, week_starts) for name, table in enforced(policy, "caps")],
        cooldowns=[parse_cooldown(name, table) for name, table in enforced(policy, "cooldowns")],
    )


def enforced(policy: dict[str, Any], kind: str) -> list[tuple[str, dict[str, Any]]]:
    """The rules of a kind that may say no."""
    return [(name, table) for name, table in policy.get(kind, {}).items() if table.get("enforce", True)]
