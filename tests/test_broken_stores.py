"""A store that breaks its word, or does not answer, never makes a message go out."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fairtouch import Governor, Policy, Refused, StoreError, StoreUnavailable, Touch
from fairtouch.facts import Ask, Facts, Stale
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
