"""From plan and facts to a decision: allowed, deferred or refused, with every reason.

Rule 1: the verdict is judged again from the facts, also when the store said yes; if the two disagree the store broke
its contract, and nothing goes out. Rule 2: what a caller may never look at (reasons, checks, basis, the next instant)
is built when it is looked at, from the same facts.
"""

from dataclasses import fields
from datetime import datetime
from functools import cached_property
from typing import Self

from fairtouch.bounds import HORIZON_DAYS
from fairtouch.breaches import FORMLESS, breach, breach_of_no
from fairtouch.checks import Check, checks, fails, passes
from fairtouch.consent import MASKS, standing
from fairtouch.errors import IdConflict, StoreError
from fairtouch.explaining import explanation, summary
from fairtouch.facts import Ask, Entry, Facts, Holder
from fairtouch.instants import DAY, NEVER, from_ms
from fairtouch.reasons import SENTENCES, Code, Reason
from fairtouch.records import Basis, DecisionRecord, Outcome, Reservation, decision_records
from fairtouch.touch import Touch
from fairtouch.waiting import next_allowed


class Decision:
    """Whether a touch is welcome: true when it is allowed.

    `reasons`: every enforced rule that says no. `next_allowed_at`: the earliest instant (UTC) at which this touch
    would pass if nothing else happens; None when time does not help. `reservation`: the slot, when one was taken.
    `checks`: every rule that applies, passing or not, enforced or only reported. `basis`: what the decision rests on;
    None when the store did not answer. `unverified`: the store did not answer, and the policy lets this category out
    all the same; no slot is held. `touch`: what was asked, for observers; never part of the repr or the JSON.
    """

    allowed: bool
    touch: Touch | None
    unverified: bool = False

    def __init__(self, ask: Ask, facts: Facts, touch: Touch | None, *, allowed: bool) -> None:
        self.allowed, self.touch = allowed, touch
        self._ask, self._facts = ask, facts

    @classmethod
    def from_record(cls, record: DecisionRecord, touch: Touch | None = None) -> Self:
        """The decision that plain data tells of."""
        decision = cls.__new__(cls)
        values = {each.name: getattr(record, each.name) for each in fields(record)}
        decision.__dict__.update(values, touch=touch, allowed=record.outcome is Outcome.ALLOWED)
        return decision

    def __bool__(self) -> bool:
        return self.allowed

    @cached_property
    def _passes_at(self) -> int:
        return self._facts.now if self.allowed else next_allowed(self._ask, self._facts)

    @cached_property
    def outcome(self) -> Outcome:
        """Allowed, deferred (not now) or refused (time alone does not help)."""
        if self.allowed:
            return Outcome.ALLOWED
        return Outcome.DEFERRED if self._passes_at <= self._facts.now + HORIZON_DAYS * DAY else Outcome.REFUSED

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """Every enforced rule that says no."""
        if self.allowed:
            return ()
        reasons = _reasons(self._ask, self._facts)
        if self.outcome is Outcome.REFUSED and self._passes_at < NEVER:
            return (*reasons, Reason(Code.HORIZON, "horizon", SENTENCES[Code.HORIZON]))
        return reasons

    @cached_property
    def at(self) -> datetime:
        """When it was decided, by the store's clock."""
        return from_ms(self._facts.now)

    @cached_property
    def next_allowed_at(self) -> datetime | None:
        """The earliest instant at which the touch would pass."""
        return None if self.outcome is Outcome.REFUSED else from_ms(self._passes_at)

    @cached_property
    def reservation(self) -> Reservation | None:
        """The slot that was taken."""
        entry = self._facts.entry
        return _reservation(self._ask, entry) if self._facts.taken and entry is not None else None

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Every rule that applies."""
        return tuple(checks(self._ask, self._facts))

    @cached_property
    def basis(self) -> Basis | None:
        """What the decision rests on."""
        return _basis(self._ask, self._facts)

    @cached_property
    def policy_revision(self) -> str:
        """Which policy decided."""
        return self._ask.plan.policy.revision

    def summary(self) -> str:
        """The outcome and the reasons in one line."""
        return summary(self.outcome, self.next_allowed_at, self.reasons)

    def explain(self) -> str:
        """Why, in plain words for an operator: each reason, the touches that used the slots, and from when on it would
        be allowed.
        """
        return "\n".join(explanation(self.record()))

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
        return decision_records().dump_json(self.record()).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """From JSON that `to_json` made. Raises pydantic.ValidationError."""
        return cls.from_record(decision_records().validate_json(text))


def judge(ask: Ask, facts: Facts, touch: Touch | None = None) -> Decision:
    """The decision. Raises IdConflict when the id stands for another touch, and StoreError when the store broke its
    contract, or took a slot that its own facts forbid: give it back.
    """
    try:
        broken = breach(ask, facts)
        if broken is None:
            # ours: taken by this call, run twice
            if passes(ask, facts) or (facts.taken and facts.holder is Holder.OURS):
                return Decision(ask, facts, touch, allowed=True)
            broken = breach_of_no(ask, facts)
    except FORMLESS as error:
        raise StoreError(
            f"the store answered in a form that nobody agreed on ({type(error).__name__}); nothing may be sent"
        ) from error
    if broken is not None:
        raise StoreError(f"the store {broken}; nothing may be sent")
    if facts.holder is Holder.OTHER_CONTENT:
        raise IdConflict(ask.entry.id)
    if not facts.taken and fails(ask, facts):
        return Decision(ask, facts, touch, allowed=False)
    reasons = _reasons(ask, facts)
    if facts.taken and reasons:
        raise StoreError(
            f"the store took a slot that its own answer forbids ({', '.join(reason.rule for reason in reasons)}); "
            "nothing may be sent, and the slot is given back"
        )
    return Decision(ask, facts, touch, allowed=not reasons)


def _reasons(ask: Ask, facts: Facts) -> tuple[Reason, ...]:
    found = checks(ask, facts, briefly=True)
    return tuple(reason for check in found if (reason := check.reason) is not None)


def _reservation(ask: Ask, taken: Entry) -> Reservation:
    entry = ask.entry
    return Reservation(
        id=entry.id,
        token=entry.token.hex(),
        at=from_ms(taken.at),
        send_before=from_ms(taken.lease_end),
        customer=ask.customer.hex(),
        shape=ask.plan.shape,
        subject=entry.subject,
        address=None if entry.address is None else entry.address.hex(),
    )


def _basis(ask: Ask, facts: Facts) -> Basis:
    ending = [rule.after for rule in ask.plan.consents if rule.after is not None and rule.enforced(facts.now)]
    return Basis(
        consent=standing(ask.plan.scopes[: len(MASKS)], ask.plan.words(facts.said)[: len(MASKS)], ending, facts.now),
        zones=ask.plan.zones,
        zone_source=ask.plan.zone_source,
        policy_name=ask.plan.policy.name,
        versions=ask.plan.policy.versions,
    )
