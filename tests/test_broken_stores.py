"""A store that breaks its word, or does not answer, never makes a message go out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fairtouch import Governor, Policy, Refused, StoreError, StoreUnavailable, Touch
from fairtouch.consent import NOTHING, Said, Scope
from fairtouch.facts import Ask, Facts, Stale
from fairtouch.instants import DAY, MINUTE
from fairtouch.stores.memory import MemoryStore
from fairtouch.stores.port import Settlement
from fairtouch.testing import FrozenClock

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY = Policy(caps={"daily": {"limit": "1 per 24 hours"}}, fail_open=("transactional",))


class Overbooking(MemoryStore):
    """Takes slots that are not there."""

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        roomy = [replace(condition, limit=99) for condition in asks[0].plan.conditions]
        return super().decide([ask._replace(plan=replace(ask.plan, conditions=tuple(roomy))) for ask in asks])


class Refusing(MemoryStore):
    """Refuses what its own facts allow."""

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        return super().decide([ask._replace(take=False) for ask in asks])


class Fickle(MemoryStore):
    """Calls every plan stale."""

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        return [Stale(ask.plan.since + index, "") for index, ask in enumerate(asks)]


class Twisted(MemoryStore):
    """Answers something else than what it found and did."""

    def __init__(self, twist: Callable[[Ask, Any], Any]) -> None:
        super().__init__()
        self.twist = twist

    def decide(self, asks: Sequence[Ask]) -> list[Any]:
        return [self.twist(ask, answer) for ask, answer in zip(asks, super().decide(asks), strict=True)]


class Eager(MemoryStore):
    """Takes slots also where it is only asked."""

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        return super().decide([ask._replace(take=True) for ask in asks])


class Hasty(MemoryStore):
    """Answers fewer asks than there are."""

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        return super().decide(asks)[:-1]


class Absent(MemoryStore):
    """Does not answer while `absent`."""

    absent = True

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        if self.absent:
            raise StoreUnavailable("nobody is there")
        return super().decide(asks)

    def confirm(self, *args: object) -> Settlement:
        if self.absent:
            raise StoreUnavailable("nobody is there")
        return super().confirm(*args)


def govern(store: MemoryStore) -> Governor:
    """A governor at noon, over a store that may be broken."""
    return Governor(POLICY, store, clock=FrozenClock(NOON))


def test_an_overbooked_slot_is_an_error_and_goes_back():
    """A store that takes a slot against its own counts is caught, nothing is sent, and the slot is given back."""
    store = Overbooking()
    governor = govern(store)
    governor.reserve("ada", channel="email", id="1")
    with pytest.raises(StoreError, match="its own answer forbids"):
        governor.reserve("ada", channel="email", id="2")
    assert ["1"] == [entry.id for entry in governor.history("ada")]


def test_a_store_that_refuses_what_it_allows_is_an_error():
    """A store whose refusal has no reason is not believed to have refused."""
    with pytest.raises(StoreError, match="its own answer allows"):
        govern(Refusing()).reserve("ada", channel="email")


def test_a_store_that_never_settles_on_a_plan_is_an_error():
    """The plan is made anew a few times, then the store is called broken."""
    with pytest.raises(StoreError, match="stale"):
        govern(Fickle()).check("ada", channel="email")


def entry_with(**changes: Any) -> Callable[[Ask, Facts], Facts]:
    """Tells of another entry than the one it took."""
    return lambda _, facts: facts._replace(entry=facts.entry and facts.entry._replace(**changes))


BREACHES: dict[str, Callable[[Ask, Facts], Any]] = {
    "no consents": lambda _, facts: facts._replace(said=None),
    "consents without scopes": lambda ask, facts: facts._replace(said=(NOTHING,) * len(ask.plan.scopes)),
    "consents at scopes that are texts": lambda _, facts: facts._replace(said={"marketing": Said(opted_out=5)}),
    "consents that are instants": lambda _, facts: facts._replace(said={Scope(None, None, None): 5}),
    "no counts": lambda _, facts: facts._replace(counts=None),
    "a count too few": lambda _, facts: facts._replace(counts=[]),
    "a count that is none": lambda _, facts: facts._replace(counts=[None]),
    "a count below zero": lambda _, facts: facts._replace(counts=[-1]),
    "counts by index": lambda _, facts: facts._replace(counts={0: 99}),
    "no now": lambda _, facts: facts._replace(now=None),
    "a now before the plan": lambda ask, facts: facts._replace(now=ask.plan.since - 1),
    "a now after the plan": lambda ask, facts: facts._replace(now=ask.plan.until),
    "a now of its own": lambda _, facts: facts._replace(now=facts.now + 1),
    "no holder": lambda _, facts: facts._replace(holder=None),
    "a holder in other words": lambda _, facts: facts._replace(holder="nobody"),
    "a suppression without a cause": lambda _, facts: facts._replace(suppressed=""),
}
NO_FACTS: dict[str, Callable[[Ask, Facts], Any]] = {
    "nothing": lambda _, __: None,
    "a tuple": lambda _, facts: tuple(facts),
}
BREACHES_OF_TAKING: dict[str, Callable[[Ask, Facts], Any]] = {
    "no entry": lambda _, facts: facts._replace(entry=None),
    "another id": entry_with(id="2"),
    "another token": entry_with(token=b"12345678"),
    "another instant": lambda _, facts: facts._replace(entry=facts.entry._replace(at=facts.now - 1)),
    "a lease too long": lambda ask, facts: facts._replace(entry=facts.entry._replace(lease_end=facts.now + DAY)),
}


@pytest.mark.parametrize("twist", (BREACHES | NO_FACTS).values(), ids=BREACHES | NO_FACTS)
def test_what_breaks_the_contract_is_no_yes(twist):
    """An answer that the contract rules out is an error, for a check and for a reservation."""
    with pytest.raises(StoreError, match="nothing may be sent"):
        govern(Twisted(twist)).check("ada", channel="email")
    with pytest.raises(StoreError, match="nothing may be sent"):
        govern(Twisted(twist)).reserve("ada", channel="email")


@pytest.mark.parametrize("twist", (BREACHES | BREACHES_OF_TAKING).values(), ids=BREACHES | BREACHES_OF_TAKING)
def test_a_slot_that_cannot_be_believed_goes_back(twist):
    """What was taken under an answer that breaks the contract is given back, by the ask's own token."""
    store = Twisted(twist)
    with pytest.raises(StoreError, match="nothing may be sent"):
        govern(store).reserve("ada", channel="email", id="1")
    assert [] == govern(store).history("ada")


def test_a_slot_of_somebody_else_is_not_given_back():
    """A store that answers with another caller's reservation does not make the governor release it."""
    store = Twisted(lambda _, facts: facts)
    ours = govern(store).reserve("ada", channel="email", id="1").reservation
    entry = store.history(bytes.fromhex(ours.customer))[0]
    store.twist = lambda _, facts: facts._replace(taken=True, entry=entry)
    with pytest.raises(StoreError, match="nothing may be sent"):
        govern(store).reserve("ada", channel="email", id="2")
    assert ["1"] == [kept.id for kept in govern(store).history("ada")]


def test_a_lease_ends_with_the_open_hours():
    """A store that lets a reservation outlast the open hours would let it be sent at night."""
    hours = {"decent": {"open": {"mon-sun": "09:00-12:05"}}}
    policy = Policy(customer={"timezones": ["UTC"]}, quiet_hours=hours)
    late = Twisted(lambda _, facts: facts._replace(entry=facts.entry._replace(lease_end=facts.now + 6 * MINUTE)))
    with pytest.raises(StoreError, match="nothing may be sent"):
        Governor(policy, late, clock=FrozenClock(NOON)).reserve("ada", channel="email")


def test_a_full_condition_shows_what_fills_it():
    """A refusal names the very touches that used the slots; a store that leaves them out is not believed."""
    store = Twisted(lambda _, facts: facts)
    governor = govern(store)
    governor.reserve("ada", channel="email", id="1")
    for touches in ({}, {0: ()}, None):
        store.twist = lambda _, facts, touches=touches: facts._replace(touches=touches)
        with pytest.raises(StoreError, match="nothing may be sent"):
            governor.check("ada", channel="email", id="2")


def test_a_slot_that_nobody_asked_for_goes_back():
    """A check takes nothing; a store that does is an error, and its slot is given back."""
    store = Eager()
    with pytest.raises(StoreError, match="nothing may be sent"):
        govern(store).check("ada", channel="email")
    assert [] == govern(store).history("ada")


def test_a_store_that_answers_fewer_asks_is_an_error():
    """No touch of a batch goes without an answer, and what was told to be taken goes back."""
    store = Hasty()
    with pytest.raises(StoreError, match="nothing may be sent"):
        list(govern(store).reserve_many([Touch(name, channel="email") for name in ("ada", "grace")]))
    assert [] == govern(store).history("ada")


def test_an_absent_store_is_no_refusal():
    """By default nothing goes out, and the error is not a refusal."""
    with pytest.raises(StoreUnavailable) as caught, govern(Absent()).touch("ada", channel="email"):
        pytest.fail("the body must not run")
    assert not isinstance(caught.value, Refused)


def test_a_category_that_the_policy_lets_out_goes_unverified():
    """The decision is allowed and says that it was not verified; it holds no reservation and queues nothing."""
    store = Absent()
    governor = govern(store)
    decision = governor.reserve("ada", channel="email", category="transactional")
    store.absent = False
    assert (True, True, None) == (decision.allowed, decision.unverified, decision.reservation)
    assert "did not answer" in decision.explain()
    assert [] == governor.history("ada")


def test_a_batch_with_one_category_that_may_not_go_out_fails_as_a_whole():
    """Letting one category out never lets another one slip through with it."""
    touches = [Touch("ada", channel="email", category=category) for category in ("transactional", "marketing")]
    with pytest.raises(StoreUnavailable):
        list(govern(Absent()).reserve_many(touches))


def test_a_store_that_fails_after_the_send_does_not_make_the_caller_send_again(caplog):
    """The body has run, so no error is raised; the slot stays taken, the id is held, and the log says so."""
    store = Absent()
    governor = govern(store)
    store.absent = False
    with governor.touch("ada", channel="email", id="1"):
        store.absent = True
    store.absent = False
    assert ["cap_reached"] == [reason.code for reason in governor.check("ada", channel="email").reasons]
    assert ["in_flight"] == [reason.code for reason in governor.check("ada", channel="email", id="1").reasons]
    assert "could not be settled" in caplog.text
    assert "ada" not in caplog.text
