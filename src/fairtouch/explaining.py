"""A decision in plain words, for the person who asks why."""

from collections.abc import Sequence
from datetime import datetime

from fairtouch.facts import LedgerEntry
from fairtouch.reasons import SENTENCES, Code, Reason
from fairtouch.records import DecisionRecord, Outcome


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def summary(outcome: Outcome, next_allowed_at: datetime | None, reasons: Sequence[Reason]) -> str:
    """The outcome and the reasons in one line."""
    until = f" until {_text(next_allowed_at)}" if outcome is Outcome.DEFERRED and next_allowed_at else ""
    why = "; ".join(f"{reason.rule}: {reason.message}" for reason in reasons)
    return f"{outcome}{until}: {why}" if why else f"{outcome}{until}"


def explanation(decision: DecisionRecord) -> list[str]:
    """Line by line: the outcome, every rule that does not pass, what fills it, and what the judgement rests on."""
    lines = [_headline(decision)]
    for check in decision.checks:
        if check.passed:
            continue
        shadow = "" if check.enforced else " (reported only: the rule is not enforced)"
        lines.append(f"- {check.rule} ({check.kind}): {check.message}{shadow}")
        lines += [f"    {_touch_text(entry)}" for entry in check.touches]
    if any(reason.code is Code.HORIZON for reason in decision.reasons):
        lines.append(f"- {SENTENCES[Code.HORIZON]}")
    if decision.basis is not None:
        zones = ", ".join(decision.basis.zones) or "none known"
        policy = f"policy {decision.basis.policy_name} ({decision.policy_revision})"
        lines.append(f"Judged at {_text(decision.at)} by {policy}; time zone: {zones} ({decision.basis.zone_source}).")
    return lines


def _headline(decision: DecisionRecord) -> str:
    if decision.unverified:
        return (
            "Allowed without looking: the store did not answer, and the policy lets this category out. No slot is held."
        )
    if decision.outcome is Outcome.ALLOWED:
        return "Allowed: every rule passes."
    if decision.outcome is Outcome.DEFERRED and decision.next_allowed_at is not None:
        return f"Deferred: allowed from {_text(decision.next_allowed_at)} on, if nothing else happens."
    return "Refused: waiting alone does not help."


def _touch_text(entry: LedgerEntry) -> str:
    what = entry.event or "/".join(part for part in (entry.category, entry.topic, entry.campaign) if part)
    return f"{_text(entry.at)}  {entry.channel}  {what}  [{entry.id}]"
