"""Where deferred touches are kept: what each store promises, and what happens when it fails."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairtouch import StoreError, StoreUnavailable
from fairtouch.deferral import Deferrals
from fairtouch.stores import open_store
from fairtouch.stores.deferral_port import Claimed, DeferralStore, Standing, Turns
from fairtouch.stores.redis_calls import CLAIM, DECIDE
from tests.deferring import BY_DAY, DAY, HOUR, MORNING, Shop, counts, fates
from tests.redis_servers import LOSE, PASS, Network, Server
from tests.workers import await_that, govern

Own = Callable[..., Server]
QUEUE, OTHER = b"q" * 16, b"o" * 16
NOW, LEASE = 1_000_000, 900
HOSTILE = "a*[a\\?"  # a digest may be anything, also what means more than itself in a pattern
FIRST, SECOND = b"1" * 8, b"2" * 8  # tokens


def item(customer: str, number: int = 0) -> bytes:
    """An item of a customer; any bytes may occur."""
    return customer.encode().ljust(16, b"\n") + bytes([number, 0, 255, 42, 91, 92, 10, 63]) * 2


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeferralStore]:
    """Where an empty store keeps deferred touches."""
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/touches.db"}.get(
        request.param
    ) or request.getfixturevalue("redis_url" if request.param == "redis" else "cluster_url")
    opened: Any = open_store(url)
    yield opened.deferrals
    opened.close()


# The port


def test_what_is_kept_stays(store):
    """The first content under an item stays, and is what everybody is told."""
    assert Standing(NOW, b"first") == store.keep(QUEUE, item("ada"), NOW, b"first")
    assert Standing(NOW, b"first") == store.keep(QUEUE, item("ada"), NOW + 1, b"second")
    assert Standing(NOW + 1, b"third") == store.keep(OTHER, item("ada"), NOW + 1, b"third")


def test_claims_in_order(store):
    """What is due is claimed, the longest due first, as many as are wanted, and by one worker only."""
    for number in (3, 1, 2, 0, 4):
        store.keep(QUEUE, item("ada", number), NOW + number, bytes([number]))
    clock, claimed = store.claim(QUEUE, FIRST, 2, LEASE, NOW + 3)
    assert (NOW + 3, [Claimed(item("ada", number), bytes([number]), Turns()) for number in (0, 1)]) == (clock, claimed)
    assert [b"\2", b"\3"] == [each.content for each in store.claim(QUEUE, SECOND, 9, LEASE, NOW + 3)[1]]
    assert (NOW + 3, []) == store.claim(QUEUE, b"3" * 8, 9, LEASE, NOW + 3)
    assert (NOW + 5, []) == store.claim(OTHER, b"4" * 8, 9, LEASE, NOW + 5)


def test_a_claim_ends(store):
    """When a claim ends the item is due for anybody, and its old token changes nothing any more."""
    store.keep(QUEUE, item("ada"), NOW, b"content")
    store.claim(QUEUE, FIRST, 1, LEASE, NOW)
    assert [] == store.claim(QUEUE, SECOND, 1, LEASE, NOW + LEASE - 1)[1]
    assert 1 == len(store.claim(QUEUE, SECOND, 1, LEASE, NOW + LEASE)[1])
    store.take_out(QUEUE, FIRST, item("ada"))
    store.put_back(QUEUE, FIRST, item("ada"), NOW, Turns(9, 9))
    assert Standing(NOW + 2 * LEASE, b"content") == store.keep(QUEUE, item("ada"), NOW, b"")
    store.take_out(QUEUE, SECOND, item("ada"))
    assert Standing(NOW, b"another") == store.keep(QUEUE, item("ada"), NOW, b"another")


def test_what_is_put_back_remembers_its_turns(store):
    """An item that was put back is due when it was said, and tells how often it was."""
    store.keep(QUEUE, item("ada"), NOW, b"content")
    store.claim(QUEUE, FIRST, 1, LEASE, NOW)
    for _ in range(2):  # as when its answer was lost
        store.put_back(QUEUE, FIRST, item("ada"), NOW + 50, Turns(300_000, 99))
    assert [] == store.claim(QUEUE, SECOND, 1, LEASE, NOW + 49)[1]
    assert [Claimed(item("ada"), b"content", Turns(300_000, 99))] == store.claim(QUEUE, SECOND, 1, LEASE, NOW + 50)[1]


def test_cancelling_a_customers_items(store):
    """All items that begin so are taken out, claimed or not, and no others."""
    for number in range(150):
        store.keep(QUEUE, item(HOSTILE, number), NOW, b"hers")
        store.keep(QUEUE, item("adam", number), NOW, b"his")
        store.keep(OTHER, item(HOSTILE, number), NOW, b"elsewhere")
    store.claim(QUEUE, FIRST, 10, LEASE, NOW)
    assert 1 == store.cancel(QUEUE, item(HOSTILE, 0))
    assert 149 == store.cancel(QUEUE, item(HOSTILE)[:16])
    assert 0 == store.cancel(QUEUE, item(HOSTILE)[:16])
    assert {b"his"} == {each.content for each in store.claim(QUEUE, SECOND, 999, LEASE, NOW + LEASE)[1]}
    assert 150 == store.cancel(OTHER, item(HOSTILE)[:16])


def test_every_queue_is_found(store):
    """Whatever stands in a queue can be found by whoever does not know the queue."""
    assert [] == store.queues()
    for queue in (QUEUE, OTHER):
        store.keep(queue, item("ada"), NOW, b"content")
    assert {QUEUE, OTHER} == set(store.queues())
    assert 2 == sum(store.cancel(queue, item("ada")[:16]) for queue in store.queues())


def test_large_contents(store):
    """A content of the largest size comes back byte for byte."""
    content = os.urandom(70_000)
    store.keep(QUEUE, item("ada"), NOW, content)
    assert [content] == [each.content for each in store.claim(QUEUE, FIRST, 1, LEASE, NOW)[1]]


def test_the_stores_own_time(store):
    """Without a clock of the caller's the store's own counts."""
    now = int(datetime.now(UTC).timestamp() * 1_000)
    store.keep(QUEUE, item("ada"), now - 1_000, b"due")
    store.keep(QUEUE, item("bob"), now + 600_000, b"later")
    clock, claimed = store.claim(QUEUE, FIRST, 9, LEASE, None)
    assert [b"due"] == [each.content for each in claimed]
    assert now - 5_000 < clock < now + 60_000


@pytest.mark.parametrize("place", ["memory", "sqlite", "redis", "cluster"])
def test_a_worker_that_is_late(place, request, tmp_path):
    """A worker whose claims ended while it was sending sends nothing that another one sent since, and undoes nothing
    that the other did.
    """
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/touches.db"}.get(place) or request.getfixturevalue(
        f"{place}_url"
    )
    shop, went = Shop(url), []
    for number in range(6):
        shop.defer(f"customer-{number}", number)
    others = []

    def send(touch: Any, number: int) -> None:
        went.append(number)
        if len(went) == 1:
            shop.clock.advance(timedelta(minutes=16))
            others.append(shop.queue.run_due(lambda _, number: went.append(number)))
            shop.defer("customer-9", 9)

    mine = shop.run_at(MORNING + HOUR, send)
    assert {"sent": 1, "already_sent": 5} == counts(mine)
    assert {"sent": 5, "in_doubt": 1} == counts(others[0])
    assert list(range(6)) == sorted(went)
    assert {"sent": 1} == counts(shop.run())
    assert ["confirmed"] * 6 == [shop.governor.history(f"customer-{number}")[0].state for number in range(6)]
    shop.close()


def test_a_worker_that_knows_that_it_is_late(monkeypatch, redis_url):
    """A worker whose claims ended goes on with what it can claim anew, and leaves to others what is theirs by now."""
    shop, went, others = Shop(redis_url), [], []
    running = [0.0]
    for module in ("queue", "queue_async"):
        monkeypatch.setattr(f"fairtouch.deferral.{module}.seconds_running", lambda: running[0])
    for number in range(50):
        shop.defer(f"customer-{number}", number)

    def send(touch: Any, number: int) -> None:
        went.append(number)
        if len(went) == 10:
            shop.clock.advance(timedelta(minutes=16))
            running[0] += 16 * 60
            others.append(shop.queue.run_due(lambda _, number: went.append(number), limit=35))

    mine = shop.run_at(MORNING + HOUR, send)
    assert {"sent"} == set(counts(mine))
    assert 30 < others[0].sent <= 35
    assert list(range(50)) == sorted(went)
    shop.close()


# SQLite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet."""
    return tmp_path / "touches.db"


def tables(path: Path) -> set[str]:
    """What tables a file has."""
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_a_file_without_a_queue_has_no_table(path):
    """The table is made when a queue is first used, and the layout keeps its number: an older fairtouch reads it."""
    with govern(f"sqlite:///{path}", {}) as governor:
        queue = Deferrals(governor)
        assert "deferrals" not in tables(path)
        queue.defer("ada", None, channel="email")
        assert "deferrals" in tables(path)
    with closing(sqlite3.connect(path)) as connection:
        assert (2,) == connection.execute("PRAGMA user_version").fetchone()


def test_what_was_sent_is_erased(path):
    """Nothing of what a queue held is left in the file when it was sent or cancelled, and the log was written back."""
    shop = Shop(f"sqlite:///{path}")
    shop.defer("ada", "the-payload" * 3_000, address="ada-lovelace@example.org")
    shop.defer("bob", "the-payload")
    assert b"the-payload" in path.read_bytes() + path.with_name("touches.db-wal").read_bytes()
    shop.queue.cancel("bob")
    shop.run_at(MORNING + HOUR)
    shop.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    assert b"the-payload" not in content
    assert b"lovelace" not in content


@pytest.mark.parametrize("wrong", [b"", b"{}", b"nonsense", b"\xff", b'{"touch": {"customer": 1}, "payload": 1}'])
def test_a_damaged_item(wrong, path):
    """What fairtouch never wrote is a StoreError that shows none of it; the others go with the next run."""
    shop = Shop(f"sqlite:///{path}")
    for customer in ("ada", "bob", "eve"):
        shop.defer(customer)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = "(SELECT item FROM deferrals ORDER BY due_at LIMIT 1)"
        connection.execute(f"UPDATE deferrals SET content = ? WHERE item = {rows}", (wrong,))
    with pytest.raises(StoreError, match="never wrote"):
        shop.run_at(MORNING + HOUR)
    assert {"sent": 2} == counts(shop.run())
    shop.close()


def test_a_damaged_ledger(path):
    """A customer whose ledger is damaged is tried again later, in case it is restored; the others go."""
    shop = Shop(f"sqlite:///{path}", attempts=2)
    for customer in ("ada", "bob"):
        shop.governor.record(customer, MORNING - DAY, channel="email", id="old")
        shop.defer(customer)
    ada = shop.governor._digests.customer("ada")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE heads SET details = x'00' WHERE customer = ?", (ada,))
    assert {"sent": 1, "retried": 1} == counts(shop.run_at(MORNING + HOUR))
    report = shop.run_at(MORNING + 2 * HOUR)
    assert [("ada", "failed")] == fates(report)
    assert isinstance(report.dropped[0].error, StoreError)
    shop.close()


def test_a_file_that_is_locked(path):
    """While another process holds the file nothing is kept, and that is said."""
    shop = Shop(f"sqlite:///{path}")
    shop.defer("ada")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="nothing was recorded"):
            shop.defer("bob")
    assert {"sent": 1} == counts(shop.run_at(MORNING + HOUR))
    shop.close()


# Redis


def test_a_server_that_stops_in_the_middle(own: Own):
    """A store that fails in a run is StoreUnavailable, which says what went out; after it came back the rest goes, and
    what was being sent is in doubt.
    """
    server = own("--appendonly", "yes", "--appendfsync", "always")
    shop = Shop(f"{server.url}?deadline_seconds=0.5", lease_seconds=60)
    for number in range(30):
        shop.defer(f"customer-{number}")
    sent = []

    def send(touch: Any, _: Any) -> None:
        sent.append(touch.customer)
        if len(sent) == 25:
            server.stop()

    with pytest.raises(StoreUnavailable, match=r"24 touches had gone out.*come up again within 60 s"):
        shop.run_at(MORNING + HOUR, send)
    with pytest.raises(StoreUnavailable):
        shop.run()
    with pytest.raises(StoreUnavailable):
        shop.defer("another")
    assert (25, []) == (len(sent), shop.sent)
    server.start()
    assert {"sent": 5, "deferred": 1} == counts(shop.run_at(MORNING + HOUR + timedelta(seconds=60)))
    assert [(sent[-1], "in_doubt")] == fates(shop.run_at(MORNING + 2 * HOUR))
    assert set() == {*sent} & {customer for customer, _ in shop.sent}
    shop.close()


def test_a_server_that_is_killed(own: Own):
    """What was deferred on a Redis whose log is on the disk survives a kill; so does its order."""
    server = own("--appendonly", "yes", "--appendfsync", "always")
    shop = Shop(f"{server.url}?deadline_seconds=1")
    due = [shop.defer(f"customer-{number}").due_at for number in range(20)]
    server.restart()
    assert {"sent": 20} == counts(shop.run_at(max(due)))
    assert [f"customer-{number}" for _, number in sorted(zip(due, range(20), strict=True))] == [
        customer for customer, _ in shop.sent
    ]
    shop.close()


def test_answers_that_are_lost(network: Network, prefix: str):
    """However many answers are lost, what is deferred is new once, goes once in one run, and is cancelled once."""
    dice = random.Random(20261122)
    network.fate = lambda request, _: LOSE if dice.random() < 0.4 and b"SETINFO" not in request else PASS
    shop = Shop(f"{network.url}?prefix={prefix}&deadline_seconds=10", lease_seconds=60)
    assert all(shop.defer(f"customer-{number}").is_new for number in range(60))
    assert {"sent": 60} == counts(shop.run_at(MORNING + HOUR))
    assert 60 == len(set(shop.sent))
    for number in range(20):
        shop.defer("ada", id=str(number), not_before=MORNING + DAY)
    assert (1, 19) == (shop.queue.cancel("ada", "7"), shop.queue.cancel("ada"))
    assert network.lost > 100
    shop.close()


def test_an_answer_to_a_claim_that_is_lost(network: Network, prefix: str):
    """A claim whose answer was lost is answered the same again: nothing waits for its end."""
    lost = []

    def fate(request: bytes, _: bytes) -> str:
        if CLAIM.sha in request and len(lost) < 3:
            lost.append(1)
            return LOSE
        return PASS

    shop = Shop(f"{network.url}?prefix={prefix}&deadline_seconds=10")
    shop.defer("ada")
    shop.run_at(MORNING - HOUR)  # the server knows the script from now on
    network.fate = fate
    assert {"sent": 1} == counts(shop.run_at(MORNING + HOUR))
    assert 3 == len(lost)
    shop.close()


def test_no_reservation_no_send(network: Network, prefix: str):
    """A category that the policy lets out unverified is not sent unverified by a queue, which can wait."""
    shop = Shop(f"{network.url}?prefix={prefix}", {**BY_DAY, "fail_open": ["marketing"]}, lease_seconds=60)
    shop.defer("ada")
    network.fate = lambda request, _: LOSE if DECIDE.sha in request or b"FAIRTOUCH" in request else PASS
    with pytest.raises(StoreUnavailable, match="waits until it does"):
        shop.run_at(MORNING + HOUR)
    network.fate = lambda request, reply: PASS
    assert [] == shop.sent
    assert {"in_doubt": 1} == counts(shop.run_at(MORNING + 2 * HOUR))  # the server took a slot, and nobody heard
    shop.close()


def test_what_must_be_durable(own: Own):
    """What is deferred has to reach what opt-outs have to, or it is StoreUnavailable."""
    primary = own()
    replica = own("--replicaof", "127.0.0.1", str(primary.port))
    with replica.client() as client:
        await_that(lambda: client.info("replication")["master_link_status"] == "up")
    shop = Shop(f"{primary.url}?durability=replicated(1)&deadline_seconds=2")
    assert shop.defer("ada").is_new
    replica.stop()
    with pytest.raises(StoreUnavailable, match="less durable"):
        shop.defer("bob")
    shop.close()


def test_a_queue_shows_digests(redis_server: Server, redis_url: str, prefix: str):
    """Keys and the names of items show neither customer nor id; a finished queue leaves nothing."""
    shop = Shop(redis_url, secret="s")
    shop.defer("ada-lovelace", id="the-id")
    with redis_server.client() as client:
        names = [key for key in client.scan_iter(match=f"{prefix}:*") if b"}:q" in key]
        shown = b"".join([*names, *client.zrange(names[0].partition(b"}")[0] + b"}:q", 0, -1)])
        assert 3 == len(names)
        assert b"ada" not in shown
        assert b"the-id" not in shown
        shop.run_at(MORNING + HOUR)
        shop.run_at(MORNING + DAY)
        left = [key for key in client.scan_iter(match=f"{prefix}:*") if b"}:q" in key]
        assert all(0 < client.ttl(key) <= 60 for key in left)  # claims are remembered for a minute
    shop.close()
