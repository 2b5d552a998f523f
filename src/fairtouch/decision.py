"""From plan and facts to a decision: allowed, deferred or refused, with every reason.

Rule 1: the verdict is judged again from the facts, also when the store said yes; if the two disagree the store broke
its contract, and nothing goes out. Rule 2: what a caller may never look at (checks, basis, the next instant) is built
when it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from functools import cache
from typing import Any, Self

from pydantic import TypeAdapter

from fairtouch.bounds import HORIZON_DAYS
from fairtouch.checks import Check, checks
from fairtouch.consent import MASKS, ConsentStatus, standing
from fairtouch.errors import StoreError
from fairtouch.facts import Ask, Facts, Holder, LedgerEntry
from fairtouch.instants import DAY, NEVER, from_ms
from fairtouch.plan import Shape
from fairtouch.reasons import SENTENCES, Code, Reason
from fairtouch.touch import Touch
from fairtouch.waiting import next_allowed


@unique
class Outcome(StrEnum):
    """What a decision comes to."""

    ALLOWED = "allowed"  # the touch is welcome now
    DEFERRED = "deferred"  # not now; `next_allowed_at` says when
    REFUSED = "refused"  # time alone does not help


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A slot that was taken before sending. Confirm it when the touch was sent, release it when it certainly was not.

    Send before `send_before`: afterwards the reservation is in doubt, and the open hours or the consent may have
    ended. Everything else is for the governor; it can travel as JSON to the process that settles it, and names
    neither customer nor address.
    """

    id: str = field(repr=False)
    token: str = field(repr=False)
    at: datetime
    send_before: datetime
    customer: str = field(repr=False)
    shape: Shape = field(repr=False)
    subject: str | None = field(default=None, repr=False)
    address: str | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """As JSON, for another process."""
        return _reservations().dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """From JSON that `to_json` made. Raises pydantic.ValidationError."""
        reservation = _reservations().validate_json(text)
        assert isinstance(reservation, cls)  # noqa: S101 - the adapter's own type
        return reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a decision rests on: the consent that decided, the zones and where they came from, the versions of the
    rules.

    `zone_source`: "touch", "customer", "policy" (candidates, because the customer's own zone is unknown) or
    "unknown".
    """

    consent: ConsentStatus
    zones: tuple[str, ...]
    zone_source: str
    policy_name: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision as plain data: what JSON holds. The touch is not part of it."""

    outcome: Outcome
    at: datetime
    policy_revision: str
    unverified: bool
    next_allowed_at: datetime | None
    reservation: Reservation | None
    reasons: tuple[Reason, ...]
    checks: tuple[Check, ...]
    basis: Basis | None


class Decision:
    """Whether a touch is welcome: true when it is allowed.

    `reasons`: every enforced rule that says no. `next_allowed_at`: the earliest instant (UTC) at which this touch
    would pass if nothing else happens; None when time does not help. `reservation`: the slot, when one was taken.
    `unverified`: the store did not answer, and the policy lets this category out all the same; no slot is held.
    `touch`: what was asked, for observers; never part of the repr or the JSON.
    """

    __slots__ = (
        "_build",
        "_record",
        "at",
        "next_allowed_at",
        "outcome",
        "policy_revision",
        "reasons",
        "reservation",
        "touch",
        "unverified",
    )

    def __init__(
        self,
        *,
        outcome: Outcome,
        at: datetime,
        policy_revision: str,
        next_allowed_at: datetime | None,
        reasons: tuple[Reason, ...] = (),
        reservation: Reservation | None = None,
        unverified: bool = False,
        touch: Touch | None = None,
        build: Callable[[], tuple[tuple[Check, ...], Basis | None]],
    ) -> None:
        self.outcome, self.at, self.policy_revision, self.next_allowed_at = (
            outcome,
            at,
            policy_revision,
            next_allowed_at,
        )
        self.reasons, self.reservation, self.unverified, self.touch = reasons, reservation, unverified, touch
        self._build = build
        self._record: tuple[tuple[Check, ...], Basis | None] | None = None

    @property
    def allowed(self) -> bool:
        """Whether the touch is welcome now."""
        return self.outcome is Outcome.ALLOWED

    def __bool__(self) -> bool:
        return self.allowed

    def _built(self) -> tuple[tuple[Check, ...], Basis | None]:
        if self._record is None:
            self._record = self._build()
        return self._record

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every rule that applies, passing or not, enforced or only reported."""
        return self._built()[0]

    @property
    def basis(self) -> Basis | None:
        """What the decision rests on; None when the store did not answer."""
        return self._built()[1]

    def summary(self) -> str:
        """The outcome and the reasons in one line."""
        why = "; ".join(f"{reason.rule}: {reason.message}" for reason in self.reasons)
        when = (
            f" until {_text(self.next_allowed_at)}" if self.outcome is Outcome.DEFERRED and self.next_allowed_at else ""
        )
        return f"{self.outcome}{when}" + (f": {why}" if why else "")

    def explain(self) -> str:
        """Why, in plain words for an operator: each reason, the touches that used the slots, and when it would be
        allowed.
        """
        return "\n".join(_explanation(self))

    def __repr__(self) -> str:
        rules = ", ".join(f"{reason.code} ({reason.rule})" for reason in self.reasons)
        return f"<Decision {self.outcome}{': ' + rules if rules else ''}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and self.record() == other.record()

    __hash__ = None  # type: ignore[assignment]

    def record(self) -> DecisionRecord:
        """The decision as plain data."""
        return DecisionRecord(
            outcome=self.outcome,
            at=self.at,
            policy_revision=self.policy_revision,
            unverified=self.unverified,
            next_allowed_at=self.next_allowed_at,
            reservation=self.reservation,
            reasons=self.reasons,
            checks=self.checks,
            basis=self.basis,
        )

    def to_json(self) -> str:
        """As JSON: everything but the touch. Touch ids in it hold what the app put there."""
        return _records().dump_json(self.record()).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Decision:
        """From JSON that `to_json` made. Raises pydantic.ValidationError."""
        record: DecisionRecord = _records().validate_json(text)
        return cls(
            outcome=record.outcome,
            at=record.at,
            policy_revision=record.policy_revision,
            unverified=record.unverified,
            next_allowed_at=record.next_allowed_at,
            reservation=record.reservation,
            reasons=record.reasons,
            build=lambda: (record.checks, record.basis),
        )


@cache
def _records() -> TypeAdapter[Any]:
    return TypeAdapter(DecisionRecord)


@cache
def _reservations() -> TypeAdapter[Any]:
    return TypeAdapter(Reservation)


def judge(ask: Ask, facts: Facts, touch: Touch | None = None) -> Decision:
    """The decision. Raises StoreError when the store took a slot that its own facts forbid: give it back."""
    plan = ask.plan
    found = tuple(checks(ask, facts, require_address=plan.policy.require_address))
    reasons = tuple(reason for check in found if (reason := check.reason) is not None)
    if facts.taken and facts.holder is Holder.OURS:
        reasons = ()  # the same call again: what it took stays taken, whatever has changed since
    elif facts.taken and reasons:
        raise StoreError(
            f"the store took a slot that its own answer forbids ({', '.join(reason.rule for reason in reasons)}); "
            "nothing may be sent, and the slot is given back"
        )
    outcome, next_at, reasons = _outcome(ask, facts, reasons)
    return Decision(
        outcome=outcome,
        at=from_ms(facts.now),
        policy_revision=plan.policy.revision,
        next_allowed_at=next_at,
        reasons=reasons,
        reservation=_reservation(ask, facts) if facts.taken else None,
        touch=touch,
        build=lambda: (found, _basis(ask, facts)),
    )


def _outcome(
    ask: Ask, facts: Facts, reasons: tuple[Reason, ...]
) -> tuple[Outcome, datetime | None, tuple[Reason, ...]]:
    if not reasons:
        return Outcome.ALLOWED, from_ms(facts.now), ()
    at = next_allowed(ask, facts, require_address=ask.plan.policy.require_address)
    if at <= facts.now + HORIZON_DAYS * DAY:
        return Outcome.DEFERRED, from_ms(at), reasons
    if at < NEVER:
        reasons = (*reasons, Reason(Code.HORIZON, "horizon", SENTENCES[Code.HORIZON]))
    return Outcome.REFUSED, None, reasons


def _reservation(ask: Ask, facts: Facts) -> Reservation:
    entry = facts.entry
    if entry is None:
        raise StoreError("the store took a slot and did not say which; nothing may be sent")
    return Reservation(
        id=entry.id,
        token=entry.token.hex(),
        at=from_ms(entry.at),
        send_before=from_ms(entry.lease_end),
        customer=ask.customer.hex(),
        shape=ask.plan.shape,
        subject=entry.subject,
        address=None if entry.address is None else entry.address.hex(),
    )


def _basis(ask: Ask, facts: Facts) -> Basis:
    ending = [rule.after for rule in ask.plan.consents if rule.after is not None and rule.enforced(facts.now)]
    return Basis(
        consent=standing(ask.plan.scopes[: len(MASKS)], facts.said[: len(MASKS)], ending, facts.now),
        zones=ask.plan.zones,
        zone_source=ask.plan.zone_source,
        policy_name=ask.plan.policy.name,
        versions=ask.plan.policy.versions,
    )


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _explanation(decision: Decision) -> list[str]:
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
        lines.append(
            f"Judged at {_text(decision.at)} by policy {decision.basis.policy_name} ({decision.policy_revision}); "
        )
        lines[-1] += f"time zone: {zones} ({decision.basis.zone_source})."
    return lines


def _headline(decision: Decision) -> str:
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
