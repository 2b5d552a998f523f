"""Whatever happens in whatever order, memory, SQLite and Redis say the same, and what the model says where it knows."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairtouch import Decision, Governor, Policy, Touch
from fairtouch.instants import from_ms, to_ms
from fairtouch.stores import redis_documents, sqlite_heads
from fairtouch.stores.memory import MemoryStore
from fairtouch.testing import FrozenClock
from tests.model.model import Asked, IdConflictError
from tests.model.rules import Cap, selects
from tests.oracle import Oracle
from tests.redis_servers import Server
from tests.small_world import (
    ADDRESSES,
    CUSTOMERS,
    DAY,
    KEEP,
    MODELLED,
    NOW,
    OTHERS,
    OWN_HOURS,
    STARTS,
    TOUCHES,
    WISHES,
    addresses,
    afterwards,
    ages,
    ages_told,
    bounces,
    customers,
    events,
    just_about,
    places,
    scopes,
    seasons,
    touches,
    waits,
)
from tests.twins import Each, Twins

T = TypeVar("T")
Row = dict[str, Any]

ONLY_STORES_TELL = {"in_flight": "duplicate", "in_doubt": "duplicate", "consent_pending": "consent_missing"}
"""What the model has one word for."""

BEYOND = {("horizon", "horizon")}
"""Only the model tells hours that never open from those that open after the horizon."""


@dataclass
class Slot:
    """A touch that was reserved, and how it stands: since when and under which handle it is in the ledger, if it is."""

    touch: Row
    reservations: Each = field(repr=False)
    at: int = 0
    handle: int | None = None
    confirmed: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it waits to be settled."""
        return self.handle is not None and not self.confirmed


@dataclass(frozen=True)
class Admitted:
    """A touch that the modelled policy let through, as it judged it."""

    at: int
    touch: Asked


SERVERS: list[Server] = []
PREFIXES = count()


@pytest.fixture(scope="module", autouse=True)
def _redis(redis_server: Server) -> None:
    SERVERS.append(redis_server)


class StoresAgree(RuleBasedStateMachine):
    """Two policies on each of three stores, all driven by one clock, and the model beside one of the policies."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="stores-")
        self.stores = [
            MemoryStore(),
            f"sqlite:///{Path(self.folder.name, 'touches.db')}",
            f"{SERVERS[0].url}?prefix=agree-{next(PREFIXES)}&deadline_seconds=5",
        ]
        self.clock = FrozenClock(STARTS[0])
        self.oracle = Oracle(MODELLED)
        self.modelled, self.other = self.govern(MODELLED), self.govern(OTHERS[0])
        self.slots: list[Slot] = []
        self.admitted: dict[int, Admitted] = {}
        self.promised: tuple[Row, datetime] | None = None
        self.turn = 0

    def govern(self, policy: Row) -> Twins:
        """A governor on each store."""
        loaded = Policy.model_validate(policy)
        return Twins([Governor(loaded, store, clock=self.clock) for store in self.stores])

    def teardown(self) -> None:
        """Close the files."""
        self.modelled.close()
        self.other.close()
        self.folder.cleanup()

    # Time

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: datetime) -> None:
        """The calendar has something in store, and both customers agreed to everything."""
        self.earliest = start
        self.clock.set(start)
        for customer in CUSTOMERS:
            self.say("opt_in", customer, {}, NOW)

    @property
    def now(self) -> int:
        """The instant, in milliseconds."""
        return to_ms(self.clock())

    def go(self, at: datetime) -> None:
        """Now is that instant, or a day back at most, and not before one at which something was forgotten."""
        self.clock.set(max(at, self.earliest, self.clock() - DAY))
        old = to_ms(self.clock() - KEEP)
        if self.oracle.oldest() < old:
            self.oracle.forget(old)
            self.slots = [slot for slot in self.slots if slot.handle is None or slot.at >= old]
            self.earliest = self.clock()

    @rule(by=waits)
    def wait(self, by: timedelta) -> None:
        """Time passes, or the clock is set back and believed."""
        self.go(self.clock() + by)

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), off=just_about)
    def wait_for_the_end_of_a_lease(self, data: st.DataObject, off: timedelta) -> None:
        """A reservation falls in doubt, or almost."""
        self.go(data.draw(st.sampled_from(self.slots)).reservations.one.send_before + off)

    @rule(by=seasons)
    def let_a_season_pass(self, by: timedelta) -> None:
        """Everything is old, and collapses into totals that count as before."""
        self.go(self.clock() + by)
        self.modelled("prune")
        self.earliest = self.clock()

    @rule(policy=st.sampled_from(OTHERS))
    def change_the_other_policy(self, policy: Row) -> None:
        """Another policy comes to the same stores."""
        self.other.close()
        self.other = self.govern(policy)

    # Deciding

    @rule(several=st.lists(touches(), min_size=1, max_size=3), then=afterwards)
    def reserve_several(self, several: list[Row], then: str | None) -> None:
        """Some touches of anybody's, the last of which is settled at once, or left open."""
        for touch in several:
            self.reserve(touch)
        if then and self.slots:
            self.settle(self.slots[-1], then)

    @rule(customer=customers, several=st.lists(touches(), min_size=2, max_size=5))
    def reserve_for_one(self, customer: str, several: list[Row]) -> None:
        """Many touches of one customer's, whose caps fill."""
        for touch in several:
            self.reserve({**touch, "customer": customer})

    @precondition(lambda self: self.promised is not None)
    @rule(off=just_about, then=afterwards)
    def try_again(self, off: timedelta, then: str | None) -> None:
        """The next instant of a decision has come, or almost."""
        touch, at = self.promised
        self.go(at + off)
        self.reserve_several([touch], then)

    def reserve(self, touch: Row) -> None:
        """What is admitted is what the model admits; a check, or a touch that is not admitted, leaves no trace."""
        before = self.ledger(touch["customer"])
        asked = self.modelled("check", Touch(**touch))
        self.compare(asked, touch)
        self.compare_next(asked.one, touch)
        assert before == self.ledger(touch["customer"])
        taken = self.modelled("reserve", Touch(**touch))
        self.compare(taken, touch)
        if taken.is_mistake or not taken.one:
            assert before == self.ledger(touch["customer"])
        self.remember(taken, touch, by_model=True)

    @rule(touch=touches())
    def reserve_elsewhere(self, touch: Row) -> None:
        """The other policy fills the same ledgers."""
        self.remember(self.other("reserve", Touch(**touch)), touch, by_model=False)

    @rule(batch=st.lists(touches(), min_size=2, max_size=4))
    def reserve_many(self, batch: list[Row]) -> None:
        """A batch is judged by priority, in one step or not at all."""
        answers = self.modelled("reserve_many", [Touch(**touch) for touch in batch])
        if not answers.is_mistake:
            for index in sorted(range(len(batch)), key=lambda index: -batch[index].get("priority", 0)):
                decisions = Each([decided[index] for decided in answers.things])
                self.remember(decisions, batch[index], by_model=True)

    def remember(self, decisions: Each, touch: Row, *, by_model: bool) -> None:
        """What was admitted stands in the ledger, in place of a touch in doubt under the same id."""
        if decisions.is_mistake:
            return
        if not decisions.one:
            self.promise(touch, decisions.one)
            return
        replaced = self.open_slot(touch)
        if replaced is not None:
            self.take_out(replaced)
        slot = Slot(touch, Each([decision.reservation for decision in decisions.things]))
        self.enter(slot)
        self.slots.append(slot)
        if by_model:
            self.admitted[slot.handle] = Admitted(slot.at, self.oracle.taken[touch["customer"]][-1].touch)

    def promise(self, touch: Row, decision: Decision) -> None:
        """A touch that is deferred may be tried again."""
        if decision.next_allowed_at is not None:
            self.promised = touch, decision.next_allowed_at

    def open_slot(self, touch: Row) -> Slot | None:
        """The unsettled reservation under the touch's id."""
        name = (touch["customer"], touch["id"])
        mine = (slot for slot in self.slots if slot.is_open and name == (slot.touch["customer"], slot.touch["id"]))
        return next(mine, None)

    def enter(self, slot: Slot) -> None:
        """The touch is in the ledger from now on."""
        slot.at = self.now
        slot.handle = self.oracle.take(slot.touch, slot.at)

    def take_out(self, slot: Slot) -> None:
        """The touch is no longer in the ledger."""
        self.oracle.release(slot.handle)
        self.admitted.pop(slot.handle, None)
        slot.handle = None

    # Settling

    @precondition(lambda self: self.slots)
    @rule(data=st.data(), verbs=st.lists(st.sampled_from(["confirm", "release"]), min_size=1, max_size=3))
    def settle_some(self, data: st.DataObject, verbs: list[str]) -> None:
        """Any reservation may be settled, also late, again, or the other way."""
        for verb in verbs:
            self.settle(data.draw(st.sampled_from(self.slots)), verb)

    def settle(self, slot: Slot, verb: str) -> None:
        """The caller knows what became of the send."""
        (self.confirm if verb == "confirm" else self.release)(slot)

    def confirm(self, slot: Slot) -> None:
        """A send is a fact: it is entered, whatever became of its slot."""
        settled = self.modelled("confirm", slot.reservations).one
        assert settled.changed == (not slot.confirmed)
        if slot.handle is None:
            self.enter(slot)
        slot.confirmed = True

    def release(self, slot: Slot) -> None:
        """An open reservation is given back; a confirmed touch stays."""
        settled = self.modelled("release", slot.reservations).one
        assert settled.changed == slot.is_open
        if slot.is_open:
            self.take_out(slot)

    # Facts

    @rule(touch=touches(), age=ages)
    def record(self, touch: Row, age: timedelta) -> None:
        """A touch that happened is inserted at its instant, or confirms a reservation, or was known."""
        at = self.clock() - age
        if self.modelled("record", Touch(**touch), at=at).one != "kept":
            return
        slot = self.open_slot(touch)
        if slot is None:
            self.oracle.take(touch, to_ms(at))
        else:
            slot.confirmed = True

    @rule(told=events, age=ages_told)
    def hear(self, told: Row, age: timedelta | None) -> None:
        """Something that a customer did, once per id."""
        at = None if age is None else self.clock() - age
        if self.modelled("feedback", **told, at=at).one is True:
            self.oracle.event(told["customer"], told["event"], at=to_ms(at or self.clock()), channel=told["channel"])

    @rule(told=bounces)
    def bounce(self, told: Row) -> None:
        """What befell an address suppresses it on the channel, once per id."""
        if self.modelled("feedback", **told).one is True:
            self.oracle.suppress(told["address"], channel=told["channel"])

    @rule(address=addresses, verb=st.sampled_from(["add", "remove", "remove"]))
    def suppress(self, address: str, verb: str) -> None:
        """An address is suppressed by hand on its channel, or freed."""
        channel = "email" if "@" in address else "sms"
        self.modelled(f"suppressions.{verb}", address, channel)
        (self.oracle.suppress if verb == "add" else self.oracle.unsuppress)(address, channel=channel)

    @rule(
        word=st.sampled_from(["opt_in", "opt_in", "opt_out", "request", "confirm"]),
        customer=customers,
        scope=scopes,
        age=ages_told,
    )
    def say(self, word: str, customer: str, scope: dict[str, str], age: timedelta | None) -> None:
        """A word of consent, told for an instant or as the latest one."""
        at = None if age is None else self.clock() - age
        said = self.modelled(f"consent.{word}", customer, **scope, at=at)
        if not said.is_mistake and word != "request":
            tell = self.oracle.opt_out if word == "opt_out" else self.oracle.opt_in
            tell(customer, **scope, at=to_ms(said.one.at))

    @rule(customer=customers, place=places, wishes=st.sampled_from(WISHES), hours=st.sampled_from(OWN_HOURS))
    def move(self, customer: str, place: Row, wishes: dict[str, str] | None, hours: Row | None) -> None:
        """A customer's own facts change."""
        self.modelled("customers.set", customer, **place, wishes=wishes, quiet_hours=hours)
        self.oracle.know(customer, **place)
        self.oracle.wish(customer, wishes or {}, hours)

    # What always holds

    def ledger(self, customer: str) -> list[Any]:
        """The customer's history, about which the stores agree."""
        return self.modelled("history", customer).one

    def compare(self, answers: Each, touch: Row) -> None:
        """The model decides the same, for the same reasons."""
        try:
            expected = self.oracle.judge(touch, self.now)
        except IdConflictError:
            assert "IdConflict" == type(answers.one).__name__
            return
        decision = answers.one
        assert isinstance(decision, Decision), decision
        reasons = {(ONLY_STORES_TELL.get(reason.code, str(reason.code)), reason.rule) for reason in decision.reasons}
        assert expected.reasons - BEYOND == reasons - BEYOND
        if not holds_id(decision):
            assert expected.outcome == decision.outcome

    def compare_next(self, decision: Any, touch: Row) -> None:
        """The model finds the same next instant."""
        if isinstance(decision, Decision) and not holds_id(decision):
            expected = self.oracle.next_allowed_at(touch, self.now)
            assert (None if expected is None else from_ms(expected)) == decision.next_allowed_at

    @invariant()
    def decisions_agree(self) -> None:
        """Both policies decide alike on both stores, and the modelled one as the model does."""
        for customer, fields in self.in_turn(1):
            touch = {"customer": customer, "id": "probe", **fields}
            self.compare(self.modelled("check", Touch(**touch)), touch)
            self.other("check", Touch(**touch))

    @invariant()
    def what_is_kept_agrees(self) -> None:
        """Ledgers, words, standings, customers' facts and suppressions are the same on both stores."""
        for customer, fields in self.in_turn(1):
            self.modelled("history", customer)
            self.modelled("consent.history", customer)
            self.modelled("customers.get", customer)
            scope = {part: fields[part] for part in ("category", "channel", "topic") if part in fields}
            self.modelled("consent.status", customer, **scope)
            self.other("consent.status", customer, channel=fields["channel"])
            for address in ADDRESSES:
                self.modelled("suppressions.contains", address, fields["channel"])

    def in_turn(self, count: int) -> Iterator[tuple[str, Row]]:
        """So many pairs of a customer and a touch; all of them in time."""
        for _ in range(count):
            self.turn += 1
            yield CUSTOMERS[self.turn % 2], TOUCHES[self.turn // 2 % len(TOUCHES)]

    @invariant()
    def no_cap_is_overfilled(self) -> None:
        """No window of any enforced cap holds more admitted touches than its limit."""
        for cap in self.oracle.rules.caps:
            for budget in budgets(cap, [one for one in self.admitted.values() if selects(cap.select, one.touch)]):
                assert cap.limit >= fullest(cap, budget), cap


def holds_id(decision: Decision) -> bool:
    """Whether the touch's id is taken and not confirmed, of which the model knows nothing."""
    return any(reason.code in ("in_flight", "in_doubt") for reason in decision.reasons)


def budgets(cap: Cap, judged: list[Admitted]) -> Iterator[list[tuple[int, Any]]]:
    """The touches that share a cap's slots: of one customer, about one subject, judged in one zone."""
    for customer in CUSTOMERS:
        hers = [one for one in judged if one.touch.customer == customer]
        for subject in {one.touch.subject for one in hers} if cap.per_subject else {None}:
            about = [one for one in hers if not cap.per_subject or one.touch.subject in (None, subject)]
            for zone in {zone for one in about for zone in one.touch.zones} if cap.period.is_local else {None}:
                yield [(one.at, zone) for one in about if zone is None or zone in one.touch.zones]


def fullest(cap: Cap, budget: list[tuple[int, Any]]) -> int:
    """The most touches in any window that ends with one of them."""
    windows = [(cap.period.start(at, zone), at) for at, zone in budget]
    return max((sum(start <= at <= end for at, _ in budget) for start, end in windows), default=0)


class StoresAgreeOnLongLedgers(StoresAgree):
    """The same on heads that hold two entries, so that nearly every touch is among the older rows."""

    def __init__(self) -> None:
        self.entries_max = sqlite_heads.ENTRIES_MAX
        sqlite_heads.ENTRIES_MAX = redis_documents.ENTRIES_MAX = 2
        super().__init__()

    def teardown(self) -> None:
        """As it was."""
        sqlite_heads.ENTRIES_MAX = redis_documents.ENTRIES_MAX = self.entries_max
        super().teardown()


TestStoresAgree = StoresAgree.TestCase
TestStoresAgreeOnLongLedgers = StoresAgreeOnLongLedgers.TestCase
TestStoresAgree.settings = TestStoresAgreeOnLongLedgers.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
