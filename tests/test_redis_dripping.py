"""A reply that comes byte by byte holds nobody for longer than the deadline, however long it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairtouch import Governor, StoreUnavailable, Touch
from tests.every_verb import DEADLINE, SLACK, YESTERDAY, fresh
from tests.in_a_loop import GovernorInALoop
from tests.redis_servers import DRIP, PASS, Network
from tests.workers import govern, worded

CAPS = {f"cap-{number}": {"limit": f"{1_000 + number} per 7 days"} for number in range(30)}
LEDGER = 8
BATCH = 5
CALLS_TO_OPEN = 6
FRONTS: dict[str, Callable[..., Any]] = {"sync": Governor, "async": GovernorInALoop}


@pytest.fixture(params=FRONTS)
def dripping(request: pytest.FixtureRequest, network: Network, prefix: str) -> Iterator[Any]:
    """A governor, called or awaited, before a network that can drip; its usual deadline; each reply is a long one."""
    governor = FRONTS[request.param](worded({"caps": CAPS}), f"{network.url}?prefix={prefix}")
    yield governor
    governor.close()


def answered_in_time(call: Callable[[], Any]) -> Any:
    """What a call returns, or StoreUnavailable, within the deadline and a little grace."""
    started = time.monotonic()
    try:
        result = call()
    except StoreUnavailable as error:
        result = error
    assert time.monotonic() - started < DEADLINE + SLACK
    return result


CALLS: dict[str, Callable[[Any, str, Any], Any]] = {
    "check": lambda governor, name, _: governor.check(name, channel="email"),
    "reserve": lambda governor, name, _: governor.reserve(name, channel="email", id="news"),
    "confirm": lambda governor, _, reservation: governor.confirm(reservation),
    "record": lambda governor, name, _: governor.record(Touch(name, channel="email", id="news"), YESTERDAY),
    "history": lambda governor, name, _: governor.history(name),
    "opt_out": lambda governor, name, _: governor.consent.opt_out(name),
    "get": lambda governor, name, _: governor.customers.get(name),
    "check_many": lambda governor, name, _: list(governor.check_many(batch(name))),
    "reserve_many": lambda governor, name, _: list(governor.reserve_many(batch(name))),
    "prune": lambda governor, *_: governor.prune(),
}


def batch(name: str) -> list[Touch]:
    """Touches for many customers, which go in one message."""
    return [Touch(f"{name}-{number}", channel="email", id="news") for number in range(BATCH)]


@pytest.mark.parametrize("call", CALLS)
def test_a_reply_that_drips_is_not_waited_for(call, dripping, network, redis_url):
    """Whatever is asked, a reply that drips is StoreUnavailable in time; repeated, it is done once."""
    name = fresh()
    with govern(redis_url, {}) as direct:
        for number in range(LEDGER):  # so that there is much to say of her
            direct.record(name, YESTERDAY, channel="push", id=str(number))
        reservation = dripping.reserve(name, channel="email", id="held").reservation
        network.fate = lambda request, reply: DRIP if b"EVAL" in request or b"SCAN" in request else PASS
        for _ in range(2):
            assert isinstance(answered_in_time(lambda: CALLS[call](dripping, name, reservation)), StoreUnavailable)
        network.fate = lambda request, reply: PASS
        CALLS[call](dripping, name, reservation)
        expected = ["held", "news"] if call in {"reserve", "record"} else ["held"]
        assert expected == sorted(entry.id for entry in direct.history(name) if entry.channel == "email")
        counts = [len(direct.history(touch.customer)) for touch in batch(name)]
        assert [int(call == "reserve_many")] * BATCH == counts


def open_and_check(front: Callable[..., Any], url: str) -> None:
    """Meets the store, and closes what was opened."""
    governor = front(worded({}), url)
    try:
        governor.check("ada", channel="email")
    finally:
        governor.close()


@pytest.mark.parametrize("front", FRONTS)
def test_a_governor_is_not_opened_drop_by_drop(front, network, prefix):
    """Where everything drips, greetings too, a governor is not opened: StoreUnavailable, one deadline per call."""
    network.fate = lambda request, reply: DRIP
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        open_and_check(FRONTS[front], f"{network.url}?prefix={prefix}")
    assert time.monotonic() - started < CALLS_TO_OPEN * DEADLINE + SLACK
