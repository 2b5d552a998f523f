"""From plan and facts to a decision: allowed, deferred or refused, with every reason.

Rule 1: the verdict is judged again from the facts, also when the store said yes; if the two disagree the store broke
its contract, and nothing goes out. Rule 2: what a caller may never look at (checks, basis, the next instant) is built
when it is looked at.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from fairtouch.bounds import HORIZON_DAYS
from fairtouch.checks import Check, checks, passes
from fairtouch.consent import MASKS, standing
from fairtouch.errors import StoreError
from fairtouch.explaining import explanation, summary
from fairtouch.facts import Ask, Entry, Facts, Holder
from fairtouch.instants import DAY, NEVER, from_ms
from fairtouch.reasons import SENTENCES, Code, Reason
from fairtouch.records import Basis, DecisionRecord, Outcome, Reservation, decision_records
from fairtouch.touch import Touch
from fairtouch.waiting import next_allowed

Evidence = tuple[tuple[Check, ...], Basis | None]
"""What a decision can show for itself."""


class Decision:
    """Whether a touch is welcome: true when it is allowed.

    `reasons`: every enforced rule that says no. `next_allowed_at`: the earliest instant (UTC) at which this touch
    would pass if nothing else happens; None when time does not help. `reservation`: the slot, when one was taken.
    `unverified`: the store did not answer, and the policy lets this category out all the same; no slot is held.
    `touch`: what was asked, for observers; never part of the repr or the JSON.
    """

    __slots__ = (
        "_build_evidence",
        "_evidence",
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
        build_evidence: Callable[[], Evidence],
    ) -> None:
        self.outcome, self.at, self.policy_revision = outcome, at, policy_revision
        self.next_allowed_at, self.reasons, self.reservation = next_allowed_at, reasons, reservation
        self.unverified, self.touch = unverified, touch
        self._build_evidence = build_evidence
        self._evidence: Evidence | None = None

    @property
    def allowed(self) -> bool:
        """Whether the touch is welcome now."""
        return self.outcome is Outcome.ALLOWED

    def __bool__(self) -> bool:
        return self.allowed

    def _shown(self) -> Evidence:
        if self._evidence is None:
            self._evidence = self._build_evidence()
        return self._evidence

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every rule that applies, passing or not, enforced or only reported."""
        return self._shown()[0]

    @property
    def basis(self) -> Basis | None:
        """What the decision rests on; None when the store did not answer."""
        return self._shown()[1]

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
    def from_json(cls, text: str | bytes) -> "Decision":
        """From JSON that `to_json` made. Raises pydantic.ValidationError."""
        record: DecisionRecord = decision_records().validate_json(text)
        return cls(
            outcome=record.outcome,
            at=record.at,
            policy_revision=record.policy_revision,
            unverified=record.unverified,
            next_allowed_at=record.next_allowed_at,
            reservation=record.reservation,
            reasons=record.reasons,
            build_evidence=lambda: (record.checks, record.basis),
        )


def judge(ask: Ask, facts: Facts, touch: Touch | None = None) -> Decision:
    """The decision. Raises StoreError when the store took a slot that its own facts forbid: give it back."""
    if passes(ask, facts) or (facts.taken and facts.holder is Holder.OURS):  # ours: taken by this call, run twice
        return _decision(ask, facts, touch, Outcome.ALLOWED, facts.now, ())
    found = tuple(checks(ask, facts))
    reasons = tuple(reason for check in found if (reason := check.reason) is not None)
    if facts.taken and (reasons or not ask.plan.since <= facts.now < ask.plan.until):
        raise StoreError(
            "the store took a slot that its own answer forbids "
            f"({', '.join(reason.rule for reason in reasons) or 'at another time than the plan is for'}); "
            "nothing may be sent, and the slot is given back"
        )
    if not reasons:
        return _decision(ask, facts, touch, Outcome.ALLOWED, facts.now, ())
    at = next_allowed(ask, facts)
    if at <= facts.now + HORIZON_DAYS * DAY:
        return _decision(ask, facts, touch, Outcome.DEFERRED, at, reasons)
    if at < NEVER:
        reasons = (*reasons, Reason(Code.HORIZON, "horizon", SENTENCES[Code.HORIZON]))
    return _decision(ask, facts, touch, Outcome.REFUSED, None, reasons)


def _decision(  # noqa: PLR0917 - what was asked, what was found, what it comes to
    ask: Ask, facts: Facts, touch: Touch | None, outcome: Outcome, next_at: int | None, reasons: tuple[Reason, ...]
) -> Decision:
    if facts.taken and facts.entry is None:
        raise StoreError("the store took a slot and did not say which; nothing may be sent")
    return Decision(
        outcome=outcome,
        at=from_ms(facts.now),
        policy_revision=ask.plan.policy.revision,
        next_allowed_at=None if next_at is None else from_ms(next_at),
        reasons=reasons,
        reservation=_reservation(ask, facts.entry) if facts.taken and facts.entry is not None else None,
        touch=touch,
        build_evidence=partial(_evidence, ask, facts),
    )


def _evidence(ask: Ask, facts: Facts) -> Evidence:
    return tuple(checks(ask, facts)), _basis(ask, facts)


def _reservation(ask: Ask, entry: Entry) -> Reservation:
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
