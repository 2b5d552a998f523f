"""A touch that is deferred is kept, judged again when it is due, and sent once; or its end is told."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fairtouch import IdConflict, Refused, Touch, TouchError
from fairtouch.bounds import DROPPED_MAX, PAYLOAD_BYTES_MAX
from fairtouch.deferral import AsyncDeferrals, Deferrals
from fairtouch.stores.memory import MemoryStore
from tests.deferring import BY_DAY, DAY, EVENING, HOUR, MINUTE, MORNING, SENDS_AGAIN, Shop, counts, fates, raising
from tests.redis_clusters import Cluster
from tests.workers import codes, govern, govern_async

PLACES = ["memory", "sqlite", "redis", "cluster"]
ShopOf = Callable[..., Shop]


@pytest.fixture(params=[f"{place}, {front}" for place in PLACES for front in ("called", "awaited")])
def shop_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ShopOf]:
    """Makes shops on one store, closed at the end."""
    place, front = request.param.split(", ")
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/touches.db"}.get(place) or request.getfixturevalue(
        "redis_url" if place == "redis" else "cluster_url"
    )
    shops = []

    def make(*args: Any, **options: Any) -> Shop:
        shops.append(Shop(url, *args, front=front, **options))
        return shops[-1]

    yield make
    for shop in shops:
        shop.close()


@pytest.fixture
def shop(shop_of: ShopOf) -> Shop:
    """One that is closed from 20:00 to 9:00."""
    return shop_of()


# Deferring


def test_what_is_deferred_goes_when_it_may(shop):
    """A touch that is deferred in the evening is due in the morning, within its share of ten minutes, and goes once."""
    kept = shop.defer("ada", {"template": "news", "numbers": [1, 2.5, None, "ü"]}, address="ada@example.org")
    assert MORNING <= kept.due_at < MORNING + 10 * MINUTE
    assert {} == counts(shop.run_at(kept.due_at - timedelta(milliseconds=1)))
    assert {"sent": 1} == counts(shop.run_at(kept.due_at))
    assert [("ada", {"template": "news", "numbers": [1, 2.5, None, "ü"]})] == shop.sent
    assert ["confirmed"] == [entry.state for entry in shop.governor.history("ada")]
    assert {} == counts(shop.run_at(kept.due_at + DAY))


def test_the_touch_comes_back_as_it_was(shop):
    """The sender gets the touch with everything that it was deferred with."""
    touch = Touch(
        "ada",
        channel="email",
        category="marketing",
        topic="news",
        campaign="spring",
        subject="s",
        tags=("a", "b"),
        id="1",
        address="ada@example.org",
        timezone="Europe/Vienna",
        country="AT",
        region="AT-9",
        priority=3,
    )
    came = []
    shop.run_at(shop.queue.defer(touch, None).due_at, lambda *each: came.append(each))
    assert [(touch, None)] == came


def test_what_is_allowed_is_due_now(shop_of):
    """A touch that is allowed now is due now."""
    shop = shop_of(start=MORNING)
    assert MORNING == shop.defer("ada").due_at
    assert {"sent": 1} == counts(shop.run())


def test_what_time_does_not_help_is_refused(shop):
    """A touch that waiting does not help raises Refused, and nothing is kept."""
    shop.governor.consent.opt_out("ada")
    with pytest.raises(Refused) as refused:
        shop.defer("ada")
    assert ["opted_out"] == [code for code in codes(refused.value.decision) if code != "quiet_hours"]
    assert 0 == shop.queue.cancel("ada")


def test_the_id_is_the_key(shop):
    """The same id keeps one touch, the first; the same id of somebody else is another one."""
    first = shop.defer("ada", "first")
    again = shop.defer("ada", "second")
    assert (first.is_new, again.is_new, shop.defer("ada", "first").is_new) == (True, False, False)
    assert first.due_at == again.due_at
    assert shop.defer("bob", "his").is_new
    assert {"sent": 2} == counts(shop.run_at(MORNING + HOUR))
    assert {("ada", "first"), ("bob", "his")} == set(shop.sent)


def test_a_touch_without_an_id_gets_one(shop):
    """Touches without an id are kept each under its own."""
    ids = {shop.defer("ada", number, id=None).id for number in range(3)}
    assert 3 == len(ids)
    assert {"sent": 3} == counts(shop.run_at(MORNING + HOUR))
    assert ids == {entry.id for entry in shop.governor.history("ada")}


@pytest.mark.parametrize("other", [{"topic": "offers"}, {"address": "ada@example.net"}, {"tags": ("b",)}])
def test_an_id_for_something_else(other, shop):
    """The same id for a touch with other content is an IdConflict, and the first one stays."""
    first = {"topic": "news", "address": "ada@example.org", "tags": ("a",)}
    shop.defer("ada", "first", **first)
    with pytest.raises(IdConflict):
        shop.defer("ada", "second", **(first | other))
    shop.run_at(MORNING + HOUR)
    assert [("ada", "first")] == shop.sent


def test_not_before_an_instant(shop):
    """A touch may be kept until an instant; then it is judged, and worth sending from then on."""
    friday = MORNING + 7 * DAY
    kept = shop.defer("ada", not_before=friday)
    assert friday <= kept.due_at < friday + 10 * MINUTE
    assert {} == counts(shop.run_at(MORNING + DAY))
    assert {"sent": 1} == counts(shop.run_at(friday + 2 * DAY))


def test_an_instant_that_is_none(shop):
    """An instant without a zone, or years ahead, is an error; one that has passed is now."""
    for wrong in (datetime(2026, 3, 3), MORNING + 500 * DAY):  # noqa: DTZ001 - that is the point
        with pytest.raises(TouchError, match="not_before"):
            shop.defer("ada", not_before=wrong)
    assert MORNING <= shop.defer("ada", not_before=EVENING - DAY).due_at < MORNING + HOUR


@pytest.mark.parametrize("payload", [{1, 2}, b"bytes", float("nan"), "x" * PAYLOAD_BYTES_MAX, "\ud800", object()])
def test_a_payload_that_cannot_be_kept(payload, shop):
    """A payload that is no JSON, or too long, is an error that does not show it; nothing is kept."""
    with pytest.raises(TouchError, match="Nothing was kept"):
        shop.defer("ada", payload)
    assert 0 == shop.queue.cancel("ada")


def test_cancelling(shop):
    """A touch can be taken out of the queue, by its id or with all of the customer's; others stay."""
    for customer in ("ada", "bob"):
        for touch_id in ("1", "2", "3"):
            shop.defer(customer, touch_id, id=touch_id)
    assert (1, 0, 2) == (shop.queue.cancel("ada", "2"), shop.queue.cancel("ada", "2"), shop.queue.cancel("ada"))
    assert {"sent": 3} == counts(shop.run_at(MORNING + HOUR))
    assert {"bob"} == {customer for customer, _ in shop.sent}


def test_a_cancelled_touch_may_be_deferred_again(shop):
    """What was cancelled is not remembered: the id may stand for something else."""
    shop.defer("ada", "first", topic="news")
    shop.queue.cancel("ada", "1")
    assert shop.defer("ada", "second", topic="offers").is_new


# Judged again


def test_an_opt_out_stops_what_waits(shop):
    """A customer who opts out between `defer` and its turn gets nothing, and the report says why."""
    shop.defer("ada", {"number": 1})
    shop.defer("bob")
    shop.governor.consent.opt_out("ada")
    report = shop.run_at(MORNING + HOUR)
    assert {"sent": 1, "refused": 1} == counts(report)
    (dropped,) = report.dropped
    assert ("ada", {"number": 1}, "refused") == (dropped.touch.customer, dropped.payload, dropped.fate)
    assert ["opted_out"] == codes(dropped.decision)
    assert [("bob", "news")] == shop.sent
    assert {} == counts(shop.run())


def test_a_cap_that_filled_puts_back(shop_of):
    """Of ten deferred touches a cap lets one go a day; the others are put back, and go on the next days or expire."""
    shop = shop_of({**BY_DAY, "caps": {"daily": {"limit": "1 per calendar day"}}})
    for number in range(10):
        shop.defer("ada", number, id=str(number))
    days = [counts(shop.run_at(MORNING + HOUR + day * DAY)) for day in range(5)]
    assert [{"sent": 1, "deferred": 9}, {"sent": 1, "deferred": 8}, {"sent": 1, "expired": 7}, {}, {}] == days
    assert 3 == len({number for _, number in shop.sent})


def test_hours_shorter_than_the_spread(shop_of):
    """What the spread carries past short hours has half the share the next day: in the end all go, within the hours."""
    shop = shop_of(
        {"quiet_hours": {"short": {"open": {"mon-sun": "09:00-09:10"}}}},
        spread_seconds=7_200,
        expires_after_seconds=DAY.total_seconds() * 30,
    )
    for number in range(60):
        shop.defer(f"customer-{number}")
    minutes = (MORNING + day * DAY + minute * MINUTE for day in range(12) for minute in range(0, 125, 5))
    reports = [shop.run_at(at) for at in minutes]
    assert 60 == sum(report.sent for report in reports) == len(set(shop.sent))
    assert 30 < sum(report.deferred for report in reports)
    assert {"sent", "deferred"} == {name for report in reports for name in counts(report)}


def test_what_went_out_otherwise(shop):
    """A touch that was sent with the same id meanwhile is not sent again, and the report says so."""
    shop.defer("ada")
    shop.clock.set(MORNING)
    shop.governor.confirm(shop.governor.reserve("ada", channel="email", id="1").reservation)
    report = shop.run_at(MORNING + HOUR)
    assert {"already_sent": 1} == counts(report)
    assert [("ada", "already_sent")] == fates(report)
    with pytest.raises(Refused):
        shop.defer("ada")


def test_an_id_that_became_something_else(shop):
    """A touch whose id stands for something else by now cannot be judged: it failed, and the others go."""
    shop.defer("ada", topic="news")
    shop.defer("bob")
    shop.clock.set(MORNING)
    shop.governor.reserve("ada", channel="email", id="1", topic="offers")
    report = shop.run_at(MORNING + HOUR)
    assert {"sent": 1, "failed": 1} == counts(report)
    assert isinstance(report.dropped[0].error, IdConflict)


def test_what_is_in_flight_waits(shop):
    """A touch whose id another caller holds waits for the end of the lease, also when she has opted out meanwhile."""
    shop.defer("ada")
    shop.defer("bob")
    shop.clock.set(MORNING)
    for customer in ("ada", "bob"):
        shop.governor.reserve(customer, channel="email", id="1")
    shop.governor.consent.opt_out("bob")
    assert {"deferred": 2} == counts(shop.run_at(MORNING + 14 * MINUTE))
    report = shop.run_at(MORNING + HOUR)
    assert [("ada", "in_doubt"), ("bob", "in_doubt")] == fates(report)


def test_what_is_in_flight_waits_for_its_lease_alone(shop_of):
    """A touch that is in flight, and whose cap is full for days by now, is known to be in doubt after the lease."""
    shop = shop_of({"caps": {"weekly": {"limit": "1 per 7 days"}}}, expires_after_seconds=30 * 86_400)
    shop.defer("ada", id="1")
    shop.governor.reserve("ada", channel="email", id="1")
    shop.governor.record("ada", EVENING, channel="email", id="another")
    assert {"deferred": 1} == counts(shop.run())
    assert [("ada", "in_doubt")] == fates(shop.run_at(EVENING + HOUR))


# Expiry


def test_what_is_not_sent_in_time_expires(shop):
    """A touch that nobody came for until it was stale is dropped and reported, and takes no slot though one is free."""
    shop.defer("ada")
    report = shop.run_at(MORNING + 3 * DAY)
    assert [("ada", "expired")] == fates(report)
    assert [] == shop.sent == shop.governor.history("ada")
    assert {} == counts(shop.run())


def test_what_would_expire_before_is_refused(shop_of):
    """A touch that is not allowed before it expires is refused at once; one that is put back for too long expires."""
    shop = shop_of({"caps": {"weekly": {"limit": "1 per 7 days"}}})
    shop.defer("ada", id="1")
    shop.defer("ada", id="2")
    assert {"sent": 1, "expired": 1} == counts(shop.run())
    with pytest.raises(Refused) as refused:
        shop.defer("ada", id="3")
    assert EVENING + 7 * DAY == refused.value.decision.next_allowed_at
    assert shop.defer("ada", id="3", not_before=EVENING + 5 * DAY).due_at >= EVENING + 7 * DAY


def test_what_expired_in_doubt_is_told_as_in_doubt(shop):
    """A touch that may have gone out is named as that, also after it expired."""
    shop.defer("ada")
    send, _ = raising(TimeoutError())
    assert {"retried": 1} == counts(shop.run_at(MORNING + HOUR, send))
    assert [("ada", "in_doubt")] == fates(shop.run_at(MORNING + 30 * DAY))


# Sends that fail


def test_a_send_that_certainly_failed(shop):
    """A send that raises gives its slot back and is tried again after a growing pause; the others go on."""
    shop.defer("ada")
    shop.defer("bob")
    send, calls = raising(ValueError("no such template"), None)
    assert {"sent": 1, "retried": 1} == counts(shop.run_at(MORNING + HOUR, send))
    assert {"ada", "bob"} == set(calls)
    assert 1 == len(shop.governor.history("ada")) + len(shop.governor.history("bob"))
    assert {} == counts(shop.run_at(MORNING + HOUR + timedelta(seconds=59), send))
    assert {"sent": 1} == counts(shop.run_at(MORNING + HOUR + MINUTE, send))
    assert calls[0] == calls[2]


def test_a_send_that_always_fails(shop):
    """After so many attempts a touch is dropped, with what its last send raised."""
    shop.queue = shop.opened(attempts=4)
    shop.defer("ada")
    send, calls = raising(ValueError("1"), ValueError("2"), ValueError("3"), ValueError("4"))
    at, reports = MORNING + HOUR, []
    for pause in (0, 1, 4, 16):
        at += pause * MINUTE
        assert not pause or {} == counts(shop.run_at(at - timedelta(seconds=1), send))
        reports.append(shop.run_at(at, send))
    assert [{"retried": 1}] * 3 + [{"failed": 1}] == list(map(counts, reports))
    assert "4" == str(reports[-1].dropped[0].error)
    assert {} == counts(shop.run_at(MORNING + DAY, send))
    assert (4, []) == (len(calls), shop.governor.history("ada"))


def test_a_send_that_fails_until_it_is_stale(shop_of):
    """A touch that would be stale when it could be tried again is dropped with what its send raised."""
    shop = shop_of({}, expires_after_seconds=90)
    shop.defer("ada")
    send, _ = raising(ValueError("1"), ValueError("2"))
    assert {"retried": 1} == counts(shop.run(send))
    report = shop.run_at(EVENING + MINUTE, send)
    assert [("ada", "failed")] == fates(report)
    assert "2" == str(report.dropped[0].error)


def test_a_send_that_may_have_gone_out_is_held(shop):
    """After a time-out the slot stays taken; when its lease ends the touch is reported as in doubt, and not sent."""
    shop.defer("ada")
    send, calls = raising(TimeoutError())
    assert {"retried": 1} == counts(shop.run_at(MORNING + HOUR, send))
    assert ["reserved"] == [entry.state for entry in shop.governor.history("ada")]
    assert {} == counts(shop.run_at(MORNING + HOUR + 14 * MINUTE, send))
    report = shop.run_at(MORNING + HOUR + 15 * MINUTE, send)
    assert [("ada", "in_doubt")] == fates(report)
    assert "1" == report.dropped[0].touch.id
    assert 1 == len(calls)


def test_a_send_that_may_have_gone_out_is_sent_again(shop_of):
    """Where the policy says `resend`, it is sent again when its lease ends; so many times at most."""
    shop = shop_of(SENDS_AGAIN, attempts=3)
    shop.defer("ada")
    shop.defer("bob")
    sent = []

    def send(touch, payload):
        sent.append(touch.customer)
        if touch.customer == "ada" or sent.count("bob") == 1:
            raise ConnectionResetError

    reports = [counts(shop.run_at(MORNING + HOUR + 15 * number * MINUTE, send)) for number in range(4)]
    assert [{"retried": 2}, {"sent": 1, "retried": 1}, {"in_doubt": 1}, {}] == reports
    assert (3, 2) == (sent.count("ada"), sent.count("bob"))


def test_an_interruption_goes_on(shop):
    """Ctrl-C in a send reaches the caller; the touch is in doubt, and the others come up at once."""
    for number in range(6):
        shop.defer(f"customer-{number}")
    send, calls = raising(None, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        shop.run_at(MORNING + HOUR, send)
    assert 2 == len(calls)
    assert {"sent": 4} == counts(shop.run())
    assert [(calls[1], "in_doubt")] == fates(shop.run_at(MORNING + 2 * HOUR)) or [(calls[1], "in_doubt")] == fates(
        shop.run_at(MORNING + 3 * HOUR)
    )
    assert 5 == len({*calls[:1], *(customer for customer, _ in shop.sent)})


# Reports


def test_somebody_is_told_before_a_touch_leaves(shop):
    """`on_dropped` hears of each touch before it leaves the queue; if it fails, the touch stays and is told again."""
    shop.defer("ada")
    shop.defer("bob")
    shop.governor.consent.opt_out("ada")
    told = []

    def fail(dropped):
        told.append(dropped.touch.customer)
        raise ValueError

    assert {"sent": 1, "retried": 1} == counts(shop.run_at(MORNING + HOUR, on_dropped=fail))
    report = shop.run_at(MORNING + 2 * HOUR, on_dropped=lambda dropped: told.append(dropped.touch.customer))
    assert {"refused": 1} == counts(report)
    assert (["ada", "ada"], ()) == (told, report.dropped)
    assert {} == counts(shop.run_at(MORNING + 3 * HOUR))


def test_a_run_that_fails_drops_nothing_unheard(shop):
    """What a run would have reported, had it not been interrupted, is in the next report."""
    shop.defer("ada")
    shop.governor.consent.opt_out("ada")

    def interrupt(turns):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.run_at(MORNING + HOUR, progress=interrupt)
    assert [("ada", "refused")] == fates(shop.run_at(MORNING + 2 * HOUR))


def test_a_report_is_bounded(shop_of):
    """A run ends when its report is full, or at its limit; the rest comes in the next."""
    shop = shop_of({})
    for number in range(25):
        shop.defer(f"customer-{number}", id=str(number))
    turns = []
    report = shop.run(limit=21, progress=turns.append)
    assert (21, False, list(range(1, 22))) == (report.sent, report.is_whole, turns)
    report = shop.run()
    assert (4, True) == (report.sent, report.is_whole)


def test_a_full_report(tmp_path):
    """More touches are dropped than a report holds: it ends there, and another one has the rest."""
    shop = Shop("memory://", {})
    for number in range(DROPPED_MAX + 5):
        shop.defer(f"customer-{number}")
    reports = [shop.run_at(EVENING + 4 * DAY) for _ in range(2)]
    assert [(DROPPED_MAX, False), (5, True)] == [(len(each.dropped), each.is_whole) for each in reports]
    assert DROPPED_MAX + 5 == len({each.touch.customer for report in reports for each in report.dropped})
    shop.close()


def test_a_sender_that_nobody_awaited():
    """A sender that returns a coroutine has sent nothing: that is a failed send, and its slot is free."""

    async def awaited(touch, payload): ...

    shop = Shop("memory://", {}, attempts=1)
    shop.defer("ada")
    report = shop.run(lambda touch, payload: awaited(touch, payload))  # noqa: PLW0108 - a function that is none
    assert [("ada", "failed")] == fates(report)
    assert "awaited" in str(report.dropped[0].error)
    assert [] == shop.governor.history("ada")
    shop.close()


# Whose it is


def test_namespaces_are_apart(shop_of):
    """A queue sends nothing of another namespace, and knows nothing of its ids."""
    shop, other = shop_of(namespace="shop"), shop_of(namespace="other")
    if "Memory" in type(shop.governor._store).__name__:
        other.close()
        other = Shop("memory://", namespace="other")
    shop.defer("ada", "ours")
    assert other.defer("ada", "theirs").is_new
    assert {"sent": 1} == counts(other.run_at(MORNING + HOUR))
    assert {"sent": 1} == counts(shop.run_at(MORNING + HOUR))
    assert [("ada", "theirs")] == other.sent
    assert [("ada", "ours")] == shop.sent


def test_queues_are_apart(shop):
    """Two names are two queues of one governor: each sender gets what is its own, and both touches fill the caps."""
    other = shop.opened(name="other")
    shop.defer("ada", "ours")
    assert other.defer("ada", "theirs", channel="email", id="2").is_new
    assert (0, 1) == (other.cancel("ada", "1"), shop.queue.cancel("ada", "1"))
    shop.defer("ada", "ours")
    assert {"sent": 1} == counts(shop.run_at(MORNING + HOUR))
    assert [("ada", "ours")] == shop.sent
    shop.queue = other
    assert {"sent": 1} == counts(shop.run())
    assert 2 == len(shop.governor.history("ada"))
    with pytest.raises(TouchError, match="name"):
        shop.opened(name="")


def test_a_store_without_queues():
    """A store that keeps no deferred touches is a TypeError that says what it would need; so is the wrong front."""

    class Own(MemoryStore):
        deferrals = None

        def __init__(self):
            super().__init__()

        def __setattr__(self, name, value):
            if name != "deferrals":
                super().__setattr__(name, value)

    with govern(Own(), {}) as governor, pytest.raises(TypeError, match="DeferralStore"):
        Deferrals(governor)
    with pytest.raises(TypeError, match="AsyncDeferrals"):
        Deferrals(govern_async("memory://", {}))
    with govern("memory://", {}) as governor, pytest.raises(TypeError, match="AsyncGovernor"):
        AsyncDeferrals(governor)


def test_who_cannot_send(shop):
    """A coroutine function is no sender of a queue that does not await, nor the other way round; nor is a generator."""

    async def awaited(touch, payload): ...

    def plain(touch, payload): ...

    def generator(touch, payload):
        yield

    for wrong in (None, generator, *([plain, partial(plain)] if shop.is_awaited else [awaited, partial(awaited)])):
        with pytest.raises(TypeError):
            shop.queue.run_due(wrong)
    with pytest.raises(TypeError, match="on_dropped"):
        shop.run(on_dropped=awaited)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spread_seconds": -1},
        {"spread_seconds": 100_000},
        {"expires_after_seconds": 0},
        {"expires_after_seconds": 401 * 86_400},
        {"expires_after_seconds": float("inf")},
        {"lease_seconds": 0},
        {"attempts": 0},
        {"attempts": 101},
        {"attempts": True},
        {"spread_seconds": "600"},
        {"spread_seconds": float("nan")},
    ],
)
def test_options_out_of_bounds(wrong):
    """An option beyond its limit is an error that names it; a touch may not outlive the memory of its id."""
    with govern("memory://", {}) as governor, pytest.raises(TouchError, match=next(iter(wrong))):
        Deferrals(governor, **wrong)


@pytest.mark.parametrize("limit", [0, -1, 1.5, None])
def test_a_limit_that_is_none(limit, shop):
    """A run has a limit that is a whole number above 0."""
    with pytest.raises(TouchError, match="limit"):
        shop.run(limit=limit)


def test_nothing_personal_is_told(shop, caplog):
    """Logs, errors and reprs show neither customer nor address nor payload nor id."""
    secret = "ada-lovelace"
    told = []

    def forget(dropped):
        raise ValueError("elsewhere")

    send, _ = raising(ValueError(secret))
    with caplog.at_level(logging.DEBUG, "fairtouch"):
        shop.defer(secret, id="failing")
        shop.run_at(MORNING + HOUR, send)
        assert re.search(r"raised ValueError in \w+\.py, line \d+", caplog.text)
        told.append(repr(shop.defer(secret, secret, id=secret, address=f"{secret}@example.org")))
        with pytest.raises(IdConflict) as conflict:
            shop.defer(secret, id=secret, topic="news")
        shop.governor.consent.opt_out(secret)
        told.append(repr(shop.run_at(MORNING + HOUR, on_dropped=forget)))
        report = shop.run_at(MORNING + 2 * HOUR)
        told += [repr(report), str(conflict.value)]
    assert 2 == report.refused
    assert secret not in caplog.text + "".join(told)


def test_a_cluster_keeps_a_queue_in_one_place(redis_cluster: Cluster, cluster_url: str):
    """On a cluster the keys of a queue share a slot, and show digests only."""
    shop = Shop(cluster_url)
    shop.defer("ada", "payload", id="the-id")
    prefix = cluster_url.partition("prefix=")[2].partition("&")[0]
    with redis_cluster.client() as client:
        keys = [key for key in client.scan_iter(match=f"{prefix}:*") if b"}:q" in key]
        assert 3 == len(keys)
        assert 1 == len({client.keyslot(key) for key in keys})
        assert not any(word in key for word in (b"ada", b"the-id", b"default") for key in keys)
    shop.close()
