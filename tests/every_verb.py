"""Every verb of a governor, and all that can be known of a customer, for tests in which something goes wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from operator import attrgetter
from typing import Any

import pytest

from fairtouch import Governor, StoreUnavailable, Touch
from fairtouch.deferral import Deferrals
from tests.workers import govern, used

SLOTS = 5
WEEKLY = {"caps": {"weekly": {"limit": f"{SLOTS} per 7 days"}}}
DEADLINE = 0.25  # of a call, unless it is said otherwise
SLACK = 1.0  # of a machine that has other things to do
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
_numbers = count()


def fresh(name: str = "customer") -> str:
    """A customer of whom nothing is known yet."""
    return f"{name}-{next(_numbers)}"


@contextmanager
def unavailable_in_time(seconds: float = DEADLINE) -> Iterator[None]:
    """The block raises StoreUnavailable, and does so about when it should."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        yield
    assert time.monotonic() - started < seconds + SLACK


def stands(governor: Governor, customer: str) -> Counter[tuple[str, str, str | None, str]]:
    """What a ledger holds, without instants."""
    return Counter((entry.channel, entry.id, entry.event, entry.state) for entry in governor.history(customer))


def verbs(governor: Governor, customer: str, reservation: Any) -> dict[str, Callable[[], Any]]:
    """Every verb, for one customer."""
    address = f"{customer}@example.com"
    return {
        "check": lambda: governor.check(customer, channel="email", address=address),
        "reserve": lambda: governor.reserve(customer, channel="email", id="again", address=address),
        "check_many": lambda: list(governor.check_many([Touch(customer, channel="email"), Touch("b", channel="sms")])),
        "reserve_many": lambda: list(
            governor.reserve_many([Touch(customer, channel="email", id="many"), Touch("b", channel="sms", id="many")])
        ),
        "confirm": lambda: governor.confirm(reservation),
        "release": lambda: governor.release(reservation),
        "record": lambda: governor.record(customer, YESTERDAY, channel="email", id="recorded"),
        "history": lambda: governor.history(customer),
        "prune": governor.prune,
        "opt_in": lambda: governor.consent.opt_in(customer, topic="news"),
        "opt_out": lambda: governor.consent.opt_out(customer, topic="news", evidence={"source": "link"}),
        "request": lambda: governor.consent.request(customer, channel="email"),
        "status": lambda: governor.consent.status(customer, channel="email"),
        "words": lambda: governor.consent.history(customer),
        "suppress": lambda: governor.suppressions.add(address, "email", "manual"),
        "unsuppress": lambda: governor.suppressions.remove(address, "email"),
        "suppressed": lambda: governor.suppressions.contains(address, "email"),
        "set": lambda: governor.customers.set(customer, timezone="Europe/Paris"),
        "get": lambda: governor.customers.get(customer),
        "feedback": lambda: governor.feedback("reply", customer=customer, channel="email", id="reply"),
        "complaint": lambda: governor.feedback("complaint", address=address, channel="email", id="complaint"),
    }


def whole_state(governor: Governor, name: str) -> tuple[Any, ...]:
    """All that is known of a customer and her address, without instants."""
    words = [(word.word, word.scope, tuple(word.evidence)) for word in governor.consent.history(name)]
    state = governor.consent.status(name, channel="email", topic="news").state
    profile = governor.customers.get(name)
    is_suppressed = governor.suppressions.contains(f"{name}@example.com", "email")
    return stands(governor, name), words, state, profile.timezone, profile.groups, is_suppressed


WRITES = [
    "reserve",
    "reserve_many",
    "confirm",
    "record",
    "opt_in",
    "opt_out",
    "request",
    "suppress",
    "set",
    "feedback",
    "complaint",
]


def run_everything(governor: Governor) -> None:
    """Every verb in every branch that asks Redis for something else."""
    name = "ada"
    reservation = governor.reserve(name, channel="email", id="news").reservation
    for verb in verbs(governor, name, reservation).values():
        verb()
    governor.consent.confirm(name, channel="email")
    for index in range(150):  # so many that the older half stands beside the document
        governor.record("old", YESTERDAY, channel="email", id=str(index))
        governor.reserve("busy", channel="email", category="service", id=str(index))
    assert (150, 150) == (len(governor.history("old")), len(governor.history("busy")))
    touch = governor.reserve("full", channel="email", id="in-a-full-document").reservation
    for index in range(100):
        governor.reserve("full", channel="push", id=str(index))
    governor.release(touch)
    queue_everything(governor)


def queue_everything(governor: Governor) -> None:
    """Every verb of a queue in every branch that asks Redis for something else."""
    queue = Deferrals(governor, expires_after_seconds=3_600)
    for number in range(4):
        queue.defer("queued", number, channel="email", id=f"queued-{number}")
    assert (1, 3) == (queue.cancel("queued", "queued-0"), queue.cancel("queued"))
    queue.defer("sent", None, channel="email", id="sent")
    queue.defer("failing", None, channel="email", id="failing")
    assert (1, 1) == attrgetter("sent", "retried")(queue.run_due(_send_or_fail))


def _send_or_fail(touch: Touch, payload: Any) -> None:
    if touch.customer == "failing":
        raise ValueError


MUCH = {"caps": {"ever": {"limit": "1000000 per lifetime"}}, "ledger": {"keep": "2 days"}}


def run_and_prune(url: str) -> None:
    """Run everything; then collapse all of it, and count it."""
    with govern(url, MUCH) as governor:
        run_everything(governor)
    later = datetime.now(UTC) + timedelta(days=4)
    with govern(url, MUCH, clock=lambda: later) as governor:
        assert governor.prune() > 150
        assert 150 == used(governor.check("old", channel="email"))["ever"]
        governor.consent.history("ada")
