"""A cluster: addresses that stand on other servers than their customers, slots that move, servers that die."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from fairtouch import AsyncGovernor, Governor, Policy, StoreError, StoreUnavailable, Touch
from fairtouch.digests import Digests
from fairtouch.stores.redis import RedisStore
from fairtouch.stores.redis_async import AsyncRedisStore
from fairtouch.stores.redis_calls import Keys
from tests.dying_servers import PATIENCE_SECONDS, reserve, until_it_answers
from tests.in_a_loop import in_a_loop
from tests.redis_clusters import Cluster

CAP = 3
CUSTOMERS = 60
POLICY = Policy(name="cluster", caps={"weekly": {"limit": f"{CAP} per 7 days"}})


# Addresses


def test_a_suppressed_address_stops_a_touch_wherever_it_stands(cluster_url):
    """Addresses of every server stop customers of every server, and nothing stays taken."""
    with Governor(POLICY, cluster_url) as governor:
        for number in range(30):
            governor.suppressions.add(f"ada-{number}@example.org", "email", "complaint")
            touch = Touch(f"ada-{number}", channel="email", address=f"ada-{number}@example.org", id="news")
            assert [reason.code for reason in governor.reserve(touch).reasons] == ["suppressed"]
            assert [reason.code for reason in governor.check(touch).reasons] == ["suppressed"]
            assert governor.history(f"ada-{number}") == []
            governor.suppressions.remove(f"ada-{number}@example.org", "email")
            assert governor.reserve(touch).allowed  # its id is free again


@in_a_loop
async def test_an_awaited_store_looks_at_addresses_too(cluster_url):
    """The asynchronous store takes, reads the address, and gives back."""
    async with AsyncGovernor(POLICY, cluster_url) as governor:
        await governor.suppressions.add("ada@example.org", "email", "complaint")
        for number in range(20):
            decision = await governor.reserve(f"ada-{number}", channel="email", address="ada@example.org")
            assert [reason.code for reason in decision.reasons] == ["suppressed"]
            assert await governor.history(f"ada-{number}") == []


def test_a_suppression_is_heeded_once_it_is_acknowledged(cluster_url):
    """While others reserve for an address, it is suppressed: whatever is asked after the acknowledgement is refused."""
    heard = threading.Event()
    late: list[bool] = []

    def send(worker: int) -> None:
        with Governor(Policy(name="busy"), cluster_url) as governor:
            for number in range(400):
                was_heard = heard.is_set()
                decision = governor.reserve(f"ada-{worker}", channel="email", address="ada@example.org", id=f"{number}")
                if was_heard:
                    late.append(decision.allowed)

    workers = [threading.Thread(target=send, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(0.1)
    with Governor(Policy(name="busy"), cluster_url) as governor:
        governor.suppressions.add("ada@example.org", "email", "manual")
        heard.set()
        for worker in workers:
            worker.join()
    assert late
    assert not any(late)


# Where things are


def test_customers_are_spread_and_each_keeps_together(redis_cluster, cluster_url):
    """Every server holds some customers; all keys of one share a slot."""
    with Governor(POLICY, cluster_url) as governor:
        assert all(governor.reserve_many(Touch(f"ada-{number}", channel="email") for number in range(90)))
        prefix = cluster_url.partition("prefix=")[2].partition("&")[0]
        for server in redis_cluster.primaries:
            with server.client() as client:
                assert list(client.scan_iter(f"{prefix}:{{*"))
        slots = {key_slot(f"{prefix}:{{tag}}{end}".encode()) for end in ("", ":o", ":d", ":t", ":w")}
        assert len(slots) == 1


def test_pruning_reaches_every_server(redis_cluster, cluster_url):
    """Facts beyond the horizon go, wherever their customers are."""
    with Governor(POLICY, cluster_url) as governor:
        began = time.time()
        assert all(governor.reserve_many(Touch(f"ada-{number}", channel="email") for number in range(50)))
        assert governor.prune() == 0
        with Governor(POLICY, cluster_url, clock=lambda: _later(began)) as later:
            assert later.prune() == 50
        assert [governor.history(f"ada-{number}") for number in range(50)] == [[]] * 50


def _later(began: float) -> object:
    from datetime import UTC, datetime, timedelta

    return datetime.fromtimestamp(began, UTC) + timedelta(days=800)


def test_the_apps_own_client_lends_its_addresses(redis_cluster):
    """A `RedisCluster` of the app's, and an awaited one in another governor, share what is kept."""
    client = redis_cluster.client()
    store = RedisStore(client, prefix="lent", deadline_seconds=5)
    with Governor(POLICY, store) as governor:
        assert governor.reserve("ada", channel="email").allowed
    store.close()
    client.close()

    found = []

    @in_a_loop
    async def look() -> None:
        awaited = redis.asyncio.RedisCluster(host="127.0.0.1", port=redis_cluster.servers[1].port)
        store = AsyncRedisStore(awaited, prefix="lent", deadline_seconds=5)
        async with AsyncGovernor(POLICY, store) as governor:
            found.extend(await governor.history("ada"))
        await store.aclose()
        await awaited.aclose()

    look()
    assert len(found) == 1


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://localhost:x",
        "redis+cluster://localhost/1",
        "redis+cluster://localhost?db=1",
    ],
)
def test_a_url_that_cannot_be_used_is_said_so(url):
    """What is wrong with a URL is an error before anything is opened."""
    with pytest.raises(StoreError, match="nothing was opened"):
        Governor(POLICY, url)


@pytest.mark.parametrize("is_running", [True, False])
def test_a_server_that_is_no_cluster(redis_server, is_running):
    """No server, or one that is no cluster: an error in words."""
    port = redis_server.port if is_running else 1
    with pytest.raises(StoreError if is_running else StoreUnavailable, match=r"cluster.*nothing was opened"):
        Governor(POLICY, f"redis+cluster://127.0.0.1:{port}")


# Changes


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of one's own, with a replica for each primary."""
    cluster = Cluster(tmp_path, replicas=1)
    yield cluster
    cluster.stop()


def test_slots_move_while_touches_are_reserved(cluster):
    """A third of the slots goes to another server and back while others decide: caps hold exactly, every id counts
    once, and nothing surfaces but StoreUnavailable.
    """
    prefix, (source, target, _) = "moving", cluster.primaries
    url = f"{cluster.url}?prefix={prefix}&deadline_seconds=1"
    stop = threading.Event()
    allowed: list[int] = []
    errors: list[Exception] = []

    def send(worker: int) -> None:
        try:
            with Governor(POLICY, url) as governor:
                number = worker
                while not stop.is_set():
                    decisions = [reserve(governor, customer, number) for customer in range(CUSTOMERS)]
                    allowed.append(sum(map(bool, decisions)))
                    number += 3
        except Exception as error:  # noqa: BLE001 - whatever it is, the test tells
            errors.append(error)

    workers = [threading.Thread(target=send, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    with Governor(POLICY, url) as governor:
        time.sleep(0.2)
        with source.client() as client:
            keys = list(client.scan_iter(f"{prefix}:{{*"))
        slots = sorted({key_slot(key) for key in keys})
        cluster.move(slots, source, target)
        cluster.move(slots, target, source)
        stop.set()
        for worker in workers:
            worker.join()
        assert errors == []
        assert slots
        counts = [len(governor.history(f"customer-{customer}")) for customer in range(CUSTOMERS)]
    assert counts == [CAP] * CUSTOMERS
    assert sum(allowed) == CAP * CUSTOMERS


def test_a_failover_loses_no_opt_out_that_was_reported_durable(cluster):
    """A primary dies and its replica takes over: opt-outs that `replicated(1)` acknowledged are honoured, also those
    said meanwhile; no cap is exceeded but by reservations that had not reached the replica.
    """
    victim = cluster.primaries[1]
    url = f"{cluster.url}?durability=replicated(1)&deadline_seconds=0.5"
    with Governor(POLICY, url) as governor:
        for customer in range(CUSTOMERS):
            assert reserve(governor, customer, 0).allowed
        acknowledged, doubtful = [], []
        for customer in range(0, CUSTOMERS, 2):
            if customer == CUSTOMERS // 2:
                victim.process.kill()
            try:
                governor.consent.opt_out(f"customer-{customer}")
            except StoreUnavailable:
                doubtful.append(customer)
            else:
                acknowledged.append(customer)
        assert len(acknowledged) >= CUSTOMERS // 4
        for customer in acknowledged:
            assert [reason.code for reason in reserve(governor, customer, 1).reasons] == ["opted_out"]
        for customer in doubtful:  # said again, now that the replica has taken over
            until_it_answers(lambda customer=customer: _opt_out_as_far_as_possible(governor, customer))
        for customer in range(1, CUSTOMERS, 2):
            again = [reserve(governor, customer, number).allowed for number in range(10, 10 + CAP + 1)]
            assert len(governor.history(f"customer-{customer}")) == CAP
            assert CAP - 1 <= sum(again) <= CAP  # what was not replicated yet may be taken once more, and no more


def _opt_out_as_far_as_possible(governor: Governor, customer: int) -> None:
    """Says it again; a primary without a replica cannot make it as durable as required, and says so."""
    try:
        governor.consent.opt_out(f"customer-{customer}")
    except StoreUnavailable as error:
        if "less durable" not in str(error):
            raise


def customer_of(slots: range) -> str:
    """Somebody whose document lies in these slots."""
    keys, digests = Keys("apart"), Digests("default", None)
    return next(
        name
        for name in (f"ada-{number}" for number in range(10_000))
        if key_slot(keys.document(digests.customer(name))) in slots
    )


def address_of(slots: range) -> str:
    """An address that stands in these slots."""
    keys, digests = Keys("apart"), Digests("default", None)
    return next(
        address
        for address in (f"ada-{number}@example.org" for number in range(10_000))
        if key_slot(keys.suppression(digests.address(address, "email"))) in slots
    )


def reserve_one(governor: Governor, touch: Touch) -> None:
    """By itself."""
    governor.reserve(touch)


def reserve_two(governor: Governor, touch: Touch) -> None:
    """Together with somebody else's, who has no address."""
    list(governor.reserve_many([touch, Touch(customer_of(range(5_000, 6_000)), channel="email")]))


@pytest.mark.parametrize("verb", [reserve_one, reserve_two])
def test_a_slot_is_given_back_when_nobody_tells_of_the_address(cluster, verb):
    """The server of an address hangs: StoreUnavailable, and the slot that was taken on the customer's is free again."""
    customer, address = customer_of(range(5_000)), address_of(range(12_000, 16_000))
    touch = Touch(customer, channel="email", address=address, id="news")
    with Governor(POLICY, f"{cluster.url}?prefix=apart&deadline_seconds=0.5") as governor:
        assert governor.check(touch)
        with cluster.primaries[2].paused(), pytest.raises(StoreUnavailable):
            verb(governor, touch)
        assert governor.history(customer) == []
        assert reserve_again(governor, touch)


def reserve_again(governor: Governor, touch: Touch) -> bool:
    """Whether the touch is welcome when the cluster answers again."""
    return bool(until_it_answers(lambda: governor.reserve(touch)))


@in_a_loop
async def test_an_awaited_store_finds_who_took_over(cluster):
    """The asynchronous store goes on after a failover."""
    async with AsyncGovernor(POLICY, f"{cluster.url}?deadline_seconds=0.5") as governor:
        for customer in range(20):
            assert await governor.reserve(f"customer-{customer}", channel="email", id="news-1")
        time.sleep(0.3)  # noqa: ASYNC251 - let it reach the replicas
        cluster.primaries[0].process.kill()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for customer in range(20):
            while True:
                try:
                    decision = await governor.reserve(f"customer-{customer}", channel="email", id="news-2")
                    break
                except StoreUnavailable:
                    assert time.monotonic() < deadline
            assert (True, 2) == (decision.allowed, len(await governor.history(f"customer-{customer}")))
