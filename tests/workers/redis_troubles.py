"""A sender that meets trouble: it repeats what failed, under the same id, until it knows, and keeps what it heard."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from fairtouch import Governor, StoreUnavailable
from tests.workers import PATIENCE, Ready, answer

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
