"""A sender that meets trouble: it repeats what failed, under the same id, until it knows, and keeps what it heard."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from fairtouch import Governor, StoreUnavailable
from tests.workers import PARTIES, PATIENCE, Ready, Sections, answer, codes, govern, used

T = TypeVar("T")
Named = tuple[str, str]  # a customer, and an id of hers


@dataclass
class Heard:
    """What one sender was told."""

    answers: Counter[str] = field(default_factory=Counter)
    kept: set[Named] = field(default_factory=set)  # reserved, or in flight from a try whose answer was lost
    refused: set[Named] = field(default_factory=set)
    confirmed: set[Named] = field(default_factory=set)
    released: set[Named] = field(default_factory=set)
    recorded: set[Named] = field(default_factory=set)
    left: set[str] = field(default_factory=set)  # customers whose opt-out was acknowledged
    suppressed: set[str] = field(default_factory=set)  # addresses whose suppression was acknowledged
    overheard: int = 0  # touches allowed after the opt-out of their customer was acknowledged
    unavailable: int = 0  # calls that surfaced as StoreUnavailable

    def until_known(self, call: Callable[[], T]) -> T:
        """The result of a call that is repeated as long as the store does not answer. Nothing else may surface."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return call()
            except StoreUnavailable:
                self.unavailable += 1
                assert time.monotonic() < deadline, "the store did not come back"

    def reserve(self, governor: Governor, name: str, touch_id: str) -> str:
        """Reserve one touch, and settle every third one in either way."""
        decision = self.until_known(lambda: governor.reserve(name, channel="email", id=touch_id))
        told = answer(decision)
        self.answers[told] += 1
        if told not in {"allowed", "in_flight"}:
            self.refused.add((name, touch_id))
            return told
        reservation = decision.reservation
        if reservation is not None and self.answers[told] % 3 == 0:
            self.until_known(lambda: governor.confirm(reservation))
            self.confirmed.add((name, touch_id))
        elif reservation is not None and self.answers[told] % 3 == 1:
            self.until_known(lambda: governor.release(reservation))
            self.released.add((name, touch_id))
            return told
        self.kept.add((name, touch_id))
        return told


def persistently(url: str, sections: Sections) -> Governor:
    """A governor, opened as often as it takes."""
    return Heard().until_known(lambda: govern(url, sections))


def reserve_in_trouble(ready: Ready, number: int, governor: Governor, customers: int, tries: int) -> Heard:
    """Decide for random customers, every fiftieth of whom leaves; go on when the store does."""
    heard, chance = Heard(), random.Random(number)
    ready()
    for index in range(tries):
        name = f"customer-{chance.randrange(customers)}"
        if index % 50 == 49:
            gone = f"{name}-of-{number}"  # nobody else sends to her
            heard.until_known(lambda gone=gone: governor.consent.opt_out(gone))
            heard.left.add(gone)
            heard.overheard += heard.reserve(governor, gone, f"after-{index}") == "allowed"
        elif index % 50 == 24:
            address = f"{number}-{index}@example.com"
            heard.until_known(lambda address=address: governor.suppressions.add(address, "email", "complaint"))
            heard.suppressed.add(address)
        else:
            heard.reserve(governor, name, f"{number}-{index}")
    return heard


def reserve_in_trouble_in_process(  # noqa: PLR0917 - a crew tells everything by its place
    ready: Ready, number: int, url: str, sections: Sections, customers: int, tries: int, turn: int = 0
) -> Heard:
    """The same with a governor of the process's own; `turn` tells several such pieces of work apart."""
    with persistently(url, sections) as governor:
        return reserve_in_trouble(ready, turn * PARTIES + number, governor, customers, tries)


def import_in_trouble(ready: Ready, number: int, governor: Governor, rows: int, at: datetime) -> Heard:
    """Record touches, words and complaints that each have an id or an instant, each until the store has answered."""
    heard = Heard()
    ready()
    for index in range(rows):
        name, touch_id, address = f"imported-{number}", f"row-{index}", f"import-{number}-{index}@example.com"
        heard.until_known(lambda name=name, key=touch_id: governor.record(name, at, channel="sms", id=key))
        heard.recorded.add((name, touch_id))
        leaver = f"leaver-{number}-{index}"
        heard.until_known(lambda name=leaver: governor.consent.opt_in(name, channel="email", at=at))
        heard.until_known(lambda name=leaver: governor.consent.opt_out(name))
        heard.left.add(leaver)
        event = f"complaint-{index}"
        heard.until_known(
            lambda to=address, key=event: governor.suppressions.add(to, "email", "complaint", event_id=key)
        )
        if index % 2:
            heard.suppressed.add(address)
        else:  # lifted, and the same event is told again: it was heard of
            heard.until_known(lambda to=address: governor.suppressions.remove(to, "email"))
            heard.until_known(
                lambda to=address, key=event: governor.suppressions.add(to, "email", "complaint", event_id=key)
            )
    return heard


def import_in_trouble_in_process(  # noqa: PLR0917 - the same
    ready: Ready, number: int, url: str, sections: Sections, rows: int, at: datetime
) -> Heard:
    """The same with a governor of the process's own."""
    with persistently(url, sections) as governor:
        return import_in_trouble(ready, number, governor, rows, at)


def assert_all_once(governor: Governor, heard: list[Heard], slots: int) -> None:
    """Every id that was taken stands once, no other id stands, and no cap is exceeded."""
    kept = set().union(*(one.kept for one in heard))
    names = {name for one in heard for name, _ in one.kept | one.released | one.refused}
    ledgers = {name: governor.history(name) for name in names}
    found = Counter((name, entry.id) for name, entries in ledgers.items() for entry in entries)
    assert ({1}, kept) == (set(found.values()), set(found))
    per_customer = {name: len(entries) for name, entries in ledgers.items()}
    assert max(per_customer.values()) <= slots
    assert per_customer == {name: used(governor.check(name, channel="email"))["weekly"] for name in names}
    states = {(name, entry.id): entry.state for name, entries in ledgers.items() for entry in entries}
    assert {"confirmed"} == {states[named] for one in heard for named in one.confirmed}
    assert {"allowed", "in_flight", "cap_reached", "opted_out"} >= {told for one in heard for told in one.answers}


def assert_all_heard(governor: Governor, heard: list[Heard]) -> None:
    """Every opt-out and every suppression that was acknowledged stands, and held from then on."""
    assert 0 == sum(one.overheard for one in heard)
    left = set().union(*(one.left for one in heard))
    suppressed = set().union(*(one.suppressed for one in heard))
    assert {"opted_out"} == {governor.consent.status(name, channel="email").state for name in left}
    assert set() == {name for name in left if "opted_out" not in codes(governor.check(name, channel="email"))}
    assert all(governor.suppressions.contains(address, "email") for address in suppressed)
