"""What pruning leaves on Redis: words, evidence, profiles, totals; whoever reserves meanwhile, and whatever is lost."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import redis

from fairtouch import Governor, StoreError, Touch
from fairtouch.stores import redis_documents
from fairtouch.testing import FrozenClock
from tests.redis_servers import LOSE, PASS, Network, Server
from tests.workers import HOUR, NOON, answer, govern, in_threads, used

DAY = timedelta(days=1)
TOUCHES = 30
CUSTOMERS = 400
OFTEN = {"ledger": {"keep": "60 days"}, "caps": {"ever": {"limit": f"{TOUCHES} per lifetime"}}}
FREE = {"ledger": {"keep": "60 days"}}
MAIL = {"channel": "email", "category": "marketing"}


@pytest.fixture
def client(redis_server: Server) -> Any:
    """The server of all tests, without fairtouch in between."""
    with redis_server.client() as client:
        yield client


@pytest.fixture
def prefix(redis_url: str) -> str:
    """The prefix of an empty store."""
    return redis_url.partition("prefix=")[2].partition("&")[0]


def keys(client: redis.Redis, prefix: str) -> Counter[str]:
    """How many keys of customers there are, by how they end; a document that goes by itself has gone."""
    found = list(client.scan_iter(f"{prefix}:{{*"))
    for key in found:
        if client.ttl(key) > 0:
            client.expire(key, 0)
    return Counter(key.decode().rpartition("}")[2] for key in client.scan_iter(f"{prefix}:{{*"))


def fill(governor: Governor, clock: FrozenClock, customers: range, touches: int = TOUCHES) -> None:
    """So many touches of each, one a day."""
    for number in range(touches):
        touches_now = (Touch(f"customer-{customer}", id=str(number), **MAIL) for customer in customers)
        assert all(governor.reserve_many(touches_now))
        clock.advance(DAY)


def commands(client: redis.Redis, name: str) -> int:
    """How often the server was asked for something."""
    return int(client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])


def test_only_what_was_said_and_totals_are_left(redis_url, client, prefix):
    """Beyond the horizon of customers with thirty touches only words, evidence, profiles and totals are left."""
    clock = FrozenClock(NOON)
    silent, told, out, known = (range(first, CUSTOMERS, 4) for first in range(4))
    with govern(redis_url, FREE, clock=clock) as governor:
        for customer in (*told, *out):
            governor.consent.opt_in(f"customer-{customer}", channel="email")
        for customer in known:
            governor.customers.set(f"customer-{customer}", timezone="Asia/Tokyo")
        fill(governor, clock, range(CUSTOMERS))
        for customer in out:
            governor.consent.opt_out(f"customer-{customer}")
        assert {"": CUSTOMERS, ":w": len(told) + len(out)} == keys(client, prefix)
        clock.advance(61 * DAY)
        progress: list[int] = []
        assert TOUCHES * CUSTOMERS == governor.prune(progress=progress.append) == progress[-1]
    left = {"": CUSTOMERS - len(silent), ":w": len(told) + len(out), ":t": CUSTOMERS}
    assert left == keys(client, prefix)
    with govern(redis_url, OFTEN, clock=clock) as governor:
        for customers, expected in ((silent, "cap_reached"), (out, "cap_reached, opted_out"), (known, "cap_reached")):
            name = f"customer-{customers[-1]}"
            assert (expected, []) == (
                ", ".join(sorted(answer(governor.check(name, **MAIL)).split(", "))),
                governor.history(name),
            )
        assert "Asia/Tokyo" == governor.customers.get(f"customer-{known[0]}").timezone
        assert [1, 2] == [len(governor.consent.history(f"customer-{customers[0]}")) for customers in (told, out)]
        assert (0, left) == (governor.prune(), keys(client, prefix))


@pytest.mark.parametrize("days", [1, 40, 100, 149, 150])
def test_ledgers_longer_than_a_document(days, redis_url, client, prefix):
    """However much is old of a ledger that is longer than a document, just that goes, and all of it counts for ever."""
    clock = FrozenClock(NOON)
    sections = {"ledger": {"keep": "400 days"}, "caps": {"ever": {"limit": "1000 per lifetime"}}}
    with govern(redis_url, sections, clock=clock) as governor:
        fill(governor, clock, range(2), 150)
        governor.record("customer-1", clock(), id="last", **MAIL)
        clock.set(NOON + (399 + days) * DAY + HOUR)
        assert 2 * days == governor.prune()
        assert [150 - days, 151 - days] == [len(governor.history(f"customer-{number}")) for number in range(2)]
        assert [150, 151] == [used(governor.check(f"customer-{number}", **MAIL))["ever"] for number in range(2)]
        assert (2 if days < 80 else 0) == keys(client, prefix)[":d"]


def test_a_night(redis_url):
    """What is old goes, and what is younger stays as it was."""
    clock = FrozenClock(NOON)
    with govern(redis_url, OFTEN, clock=clock) as governor:
        fill(governor, clock, range(2), 5)
        kept = governor.history("customer-1")[2:]
        clock.set(NOON + 61 * DAY + HOUR)
        assert (4, kept, 5) == (
            governor.prune(),
            governor.history("customer-1"),
            used(governor.check("customer-1", **MAIL))["ever"],
        )


def test_somebody_comes_in_between(redis_server, redis_url):
    """A customer who is changed after she was read is looked at again: what was old goes, and what is new stays."""
    network = Network(redis_server.port)
    clock = FrozenClock(NOON)
    with govern(redis_url, OFTEN, clock=clock) as direct:
        fill(direct, clock, range(1), 3)
        clock.advance(61 * DAY)
        waiting = [lambda: direct.reserve("customer-0", id="new", **MAIL)]

        def fate(request: bytes, _: bytes) -> str:
            if b"$3\r\nGET\r\n" in request and waiting:
                waiting.pop()()
            return PASS

        network.fate = fate
        try:
            with govern(f"{network.url}?{redis_url.partition('?')[2]}", OFTEN, clock=clock) as governor:
                assert (3, []) == (governor.prune(), waiting)
        finally:
            network.close()
        assert ["new"] == [entry.id for entry in direct.history("customer-0")]
        assert 4 == used(direct.check("customer-0", **MAIL))["ever"]


def test_a_customer_of_whom_nothing_is_old_costs_a_read(redis_url, client):
    """A pruning that finds nothing old runs no script and writes nothing."""
    clock = FrozenClock(NOON)
    with govern(redis_url, FREE, clock=clock) as governor:
        fill(governor, clock, range(20), 2)
        before = [commands(client, name) for name in ("evalsha", "set", "zadd")]
        assert 0 == governor.prune()
        assert before == [commands(client, name) for name in ("evalsha", "set", "zadd")]


def test_what_says_nothing_goes_unless_somebody_says_something(redis_url, client, prefix):
    """A document without a word, a fact or a touch goes by itself; whatever is written first keeps it."""
    clock = FrozenClock(NOON)
    with govern(redis_url, FREE, clock=clock) as governor:
        reservation = governor.reserve("ada", id="one", **MAIL).reservation
        governor.release(reservation)
        governor.reserve("bob", id="one", **MAIL)
        governor.reserve("cyd", id="one", **MAIL)
        clock.advance(61 * DAY)
        assert 2 == governor.prune()
        governor.reserve("ada", id="two", **MAIL)
        governor.consent.opt_in("bob", channel="email")
        assert {"": 2, ":w": 1, ":t": 2} == keys(client, prefix)
        assert (["two"], "opted_in") == (
            [entry.id for entry in governor.history("ada")],
            governor.consent.status("bob", channel="email").state,
        )


def test_totals_never_change_their_meaning(redis_url, client, prefix):
    """Where nothing but totals is left of a customer, a lost table of names is an error as well."""
    clock = FrozenClock(NOON)
    with govern(redis_url, OFTEN, clock=clock) as governor:
        governor.reserve("ada", id="one", **MAIL)
        clock.advance(61 * DAY)
        governor.prune()
    assert {":t": 1} == keys(client, prefix)
    client.delete(f"{prefix}:names")
    with govern(redis_url, OFTEN, clock=clock) as governor, pytest.raises(StoreError, match="names"):
        governor.check("ada", **MAIL)


def test_whichever_answer_of_a_pruning_is_lost_it_tells_what_went(redis_server, redis_url):
    """Every touch is told once and counted once, also where nothing but its total is left."""
    network = Network(redis_server.port)
    clock = FrozenClock(datetime.now(UTC))
    sections = {"ledger": {"keep": "2 days"}, "caps": {"ever": {"limit": "1000 per lifetime"}}}
    through = f"{network.url}?{redis_url.partition('?')[2]}"
    try:
        with govern(redis_url, sections, clock=clock) as direct:
            for which in range(10):
                for number in range(3):
                    direct.record(f"customer-{which}", id=str(number), at=clock(), **MAIL)
                clock.advance(3 * DAY)
                with govern(through, sections, clock=clock) as governor:
                    replies = count()
                    network.fate = lambda request, reply, replies=replies, which=which: (
                        LOSE if b"SETINFO" not in request and next(replies) == which else PASS
                    )
                    gone = governor.prune()
                    network.fate = lambda request, reply: PASS
                assert (3, 3) == (gone, used(direct.check(f"customer-{which}", **MAIL))["ever"])
    finally:
        network.close()


ROUNDS, WRITERS, SHARED = 40, 4, 8  # an hour each; at the same instant four try to reach the same eight customers
CAPPED = {
    "ledger": {"keep": "12 hours"},
    "caps": {"often": {"limit": "10 per 6 hours"}, "ever": {"limit": "57 per lifetime"}},
}


@pytest.mark.parametrize("entries_max", [64, 4])
def test_pruning_while_others_reserve(entries_max, redis_url, monkeypatch):
    """While somebody prunes all the time, every hour admits as many touches as in memory, where nobody disturbs."""
    monkeypatch.setattr(redis_documents, "ENTRIES_MAX", entries_max)
    clock, alone = FrozenClock(NOON), FrozenClock(NOON)

    def reserve(governor: Governor, writer: int, round_number: int) -> Counter[str]:
        touches = [Touch(f"customer-{n}", id=f"{round_number}-{writer}", **MAIL) for n in range(SHARED)]
        return Counter(touch.customer for touch in touches if governor.reserve(touch))

    def work(ready: Any, number: int) -> list[Counter[str]]:
        admitted = []
        for round_number in range(ROUNDS):
            ready()
            if number == WRITERS:
                clock.advance(HOUR)
            ready()
            if number == WRITERS:
                governor.prune()
                governor.prune()
            else:
                admitted.append(reserve(governor, number, round_number))
        return admitted

    expected = []
    with govern("memory://", CAPPED, clock=alone) as model:
        for round_number in range(ROUNDS):
            alone.advance(HOUR)
            expected.append(sum((reserve(model, writer, round_number) for writer in range(WRITERS)), Counter()))
            model.prune()
        with govern(redis_url, CAPPED, clock=clock) as governor:
            admitted = in_threads(work, parties=WRITERS + 1)
            assert expected == [sum(hour, Counter()) for hour in zip(*admitted[:WRITERS], strict=True)]
            governor.prune()
            for customer in (f"customer-{number}" for number in range(SHARED)):
                facts = [
                    (used(one.check(customer, **MAIL)), [entry.at for entry in one.history(customer)])
                    for one in (model, governor)
                ]
                assert facts[0] == facts[1]
                assert 57 == facts[1][0]["ever"]
