"""From a touch to an ask, and from the store's answer to the next ask or the decision: all of a governor that needs
no store.

Rule 1: pure, but for the random tokens; both fronts share every line. Rule 2: a guess (profile, now, consents) is
verified by the store inside its atomic step; when it was wrong the answer holds the truth, and the ask is made anew.
"""

import os
from collections.abc import Sequence
from typing import Any, Final

from fairtouch.bounds import LEASE_SECONDS_MAX, REPLANS_MAX
from fairtouch.checks import lifts
from fairtouch.consent import MASKS, expires_at, granting
from fairtouch.decision import Decision, judge
from fairtouch.digests import Digests
from fairtouch.errors import PolicyError, StoreError, TouchError
from fairtouch.facts import Ask, Entry, Facts, Stage, Stale
from fairtouch.instants import DAY, SECOND, from_ms, to_ms
from fairtouch.planning import Planner
from fairtouch.policy import Policy
from fairtouch.records import DecisionRecord, Outcome, Reservation
from fairtouch.touch import Touch

_tuple: Final = tuple.__new__  # a NamedTuple's own constructor costs four times as much
_PROFILES_MAX: Final = 16_384


class Question:
    """One touch on its way to a decision: the ask that stands, the last answer, and the decision once there is one."""

    __slots__ = ("answer", "ask", "decision", "rounds", "touch")

    touch: Touch | None
    ask: Ask
    rounds: int
    answer: Facts | Stale | None
    decision: Decision  # not there before it is made

    def __init__(self, touch: Touch | None, ask: Ask) -> None:
        self.touch = touch
        self.ask = ask
        self.rounds = 0
        self.answer = None

    def taken(self) -> Entry | None:
        """The slot that the last answer took: under our own token, whatever else the answer says."""
        return self.ask.entry if isinstance(self.answer, Facts) and self.answer.taken else None

    def perhaps_taken(self) -> Entry | None:
        """The slot that was taken, or asked for without an answer yet."""
        return self.ask.entry if self.answer is None and self.ask.take else self.taken()


class Asker:
    """Turns touches into asks for one policy, namespace and lease, and answers into decisions."""

    def __init__(self, policy: Policy, digests: Digests, lease_seconds: float) -> None:
        """Raises PolicyError for what is no policy, TouchError for a lease that is not above zero and at most a day."""
        if not isinstance(policy, Policy):
            raise PolicyError(
                f"policy is a {type(policy).__name__}; make one by Policy.load(path) or Policy.model_validate(dict)"
            )
        _check_lease(lease_seconds)
        self.policy, self.digests = policy, digests
        self.lease = int(lease_seconds * SECOND)
        self.planner = Planner(policy, self.lease)
        self._profiles: dict[bytes, str] = {}

    def question(self, touch: Touch, *, take: bool, clock: int, now: int | None) -> Question:
        """A touch with its first ask; `clock` is the guess at the store's now. Raises TouchError."""
        customer = self.digests.customer(touch.customer)
        plan = self.planner.plan(touch, self._profiles.get(customer, ""), clock)
        address = None if touch.address is None else self.digests.address(touch.address, touch.channel)
        touch_id, token = touch.id, b""
        if take:
            token = os.urandom(8)
            touch_id = touch_id or os.urandom(16).hex()
        entry = _tuple(
            Entry, (0, plan.shape.kind, touch.subject, touch_id or "", token, Stage.RESERVED, self.lease, address)
        )
        return Question(touch, _tuple(Ask, (plan, customer, entry, take, now, None)))

    def hear(self, questions: Sequence[Question], answers: Sequence[Facts | Stale]) -> list[Question]:
        """Takes the store's answers. The questions that have not come to their decision have another ask.

        Raises IdConflict when an id stands for another touch, StoreError when the store contradicts itself.
        """
        try:
            for question, answer in zip(questions, answers, strict=True):
                question.answer = answer  # all of them before the first error: what was taken must be known
        except (TypeError, ValueError) as error:
            raise StoreError("the store did not answer each ask once; nothing may be sent") from error
        asked_again = []
        for question in questions:
            found = question.answer
            if isinstance(found, Facts):
                question.decision = decision = judge(question.ask, found, question.touch)
                if found.taken or not question.ask.take or not decision.allowed:
                    continue
            self._ask_again(question)
            asked_again.append(question)
        return asked_again

    def _ask_again(self, question: Question) -> None:
        """Makes the next ask from what the store told instead of a verdict, or in spite of it."""
        ask, answer = question.ask, question.answer
        question.rounds += 1
        if question.rounds >= REPLANS_MAX:
            raise StoreError(
                f"the store called {REPLANS_MAX} plans stale, each made from its own last answer; nothing was taken"
            )
        question.answer = None
        if isinstance(answer, Stale):
            question.ask = self._replan(ask, answer)
        elif not isinstance(answer, Facts):
            raise StoreError(
                f"the store answered a {type(answer).__name__}, which decides nothing; nothing may be sent"
            )
        elif ask.seen is None:
            question.ask = _with_consents_seen(ask, answer)
        else:
            raise StoreError("the store refuses what its own answer allows; nothing was taken, and nothing may be sent")

    def _replan(self, ask: Ask, truth: Stale) -> Ask:
        """The same ask, for the profile and the now that the store told."""
        if len(self._profiles) >= _PROFILES_MAX:
            self._profiles.clear()
        plan = self.planner.plan_for(ask.plan.shape, truth.profile, truth.now)
        self._profiles[ask.customer] = truth.profile  # one that can be read: it is the guess of the next question
        return ask._replace(plan=plan, seen=None, entry=ask.entry._replace(lease_end=self.lease))

    def reserved(self, reservation: Reservation, *, clock: int, now: int | None) -> Question:
        """What a reservation was for, to settle it and to look at its rules again. Raises TouchError for anything
        else.
        """
        if not isinstance(reservation, Reservation):
            raise TouchError(
                f"a {type(reservation).__name__} is no reservation; pass decision.reservation, which is None when no "
                "slot was taken (nothing was recorded)"
            )
        customer = bytes.fromhex(reservation.customer)
        plan = self.planner.plan_for(reservation.shape, self._profiles.get(customer, ""), clock)
        kind = reservation.shape.kind
        entry = Entry(
            to_ms(reservation.at),
            kind,
            reservation.subject,
            reservation.id,
            bytes.fromhex(reservation.token),
            Stage.RESERVED,
            to_ms(reservation.send_before),
            None if reservation.address is None else bytes.fromhex(reservation.address),
        )
        return Question(None, Ask(plan, customer, entry, take=False, now=now))


def _check_lease(seconds: object) -> None:
    if not isinstance(seconds, int | float) or not 0 < seconds <= LEASE_SECONDS_MAX:
        raise TouchError(f"lease_seconds={seconds!r} must be a number above 0 and at most {LEASE_SECONDS_MAX} (a day)")


def check_history(policy: Policy, complete_since: int, now: int) -> None:
    """Raises PolicyError for a cap that looks back into a time whose facts were pruned under another policy.

    Its count would be too low until enough time has passed.
    """
    for rule in policy.rules.caps:
        usable_from = complete_since + rule.period.reach
        if rule.period.reach and max(now, rule.effective_from) < usable_from:
            raise PolicyError(
                f"{rule.name} counts {rule.period.text} back, and this store's history is complete only since "
                f"{from_ms(complete_since):%Y-%m-%d %H:%M} UTC (an earlier policy kept less). Give the rule "
                f"effective_from = {from_ms(usable_from + DAY):%Y-%m-%d}, or a shorter period"
            )


def as_touch(touch: Touch | str, fields: dict[str, Any]) -> Touch:
    """A touch, from itself or from a customer and fields. Raises TouchError."""
    if isinstance(touch, Touch):
        if fields:
            raise TouchError(
                f"a Touch was passed together with {', '.join(fields)}; pass one or the other (nothing was recorded)"
            )
        return touch
    try:
        return Touch(touch, **fields)
    except TypeError as error:
        raise TouchError(f"{str(error).replace('Touch.__init__()', 'a touch')} (nothing was recorded)") from None


def _with_consents_seen(ask: Ask, facts: Facts) -> Ask:
    """The same ask, for exactly these consents, with a lease that ends before they or the hours do."""
    ends = [facts.now + ask.entry.lease_end]
    words, alive = ask.plan.words(facts.said), lifts(ask, facts.now)
    for rule in ask.plan.consents:
        given = granting(words[: len(MASKS)], alive, double=rule.double)
        if given is not None and rule.after is not None and rule.enforced(facts.now):
            ends.append(expires_at(words[given].confirmed if rule.double else words[given].opted_in, rule.after))
    for part in ask.plan.hours:
        span = part.span(facts.now) if part.rule.enforced(facts.now) and not part.lifted(words) else None
        if span is not None:
            ends.append(span[1])
    return ask._replace(entry=ask.entry._replace(lease_end=min(ends) - facts.now), seen=facts.said)


def as_unverified(questions: Sequence[Question], clock: int) -> bool:
    """When the store did not answer: allows what the policy lets out unverified; whether that was all of them."""
    for question in questions:
        policy = question.ask.plan.policy
        if question.ask.plan.shape.kind.category not in policy.fail_open:
            return False
        at = from_ms(clock)
        record = DecisionRecord(
            outcome=Outcome.ALLOWED,
            at=at,
            policy_revision=policy.revision,
            unverified=True,
            next_allowed_at=at,
            reservation=None,
            reasons=(),
            checks=(),
            basis=None,
        )
        question.decision = Decision.from_record(record, question.touch)
    return True


def waves(questions: Sequence[Question]) -> list[list[Question]]:
    """The order in which a batch is judged: groups that hold each customer once, by priority, then by order."""
    turns: list[list[Question]] = []
    taken: dict[bytes, int] = {}
    for question in sorted(questions, key=lambda question: -question.ask.plan.shape.priority):
        customer = question.ask.customer
        turn = taken[customer] = taken.get(customer, -1) + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(question)
    return turns
