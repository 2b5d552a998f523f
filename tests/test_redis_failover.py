"""A primary dies, and a sentinel promotes its replica: what was acknowledged as replicated is there, ids count once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairtouch import AsyncGovernor, Governor, Policy, StoreError, StoreUnavailable
from tests.dying_servers import PATIENCE_SECONDS, reserve, until_it_answers
from tests.in_a_loop import in_a_loop
from tests.redis_servers import Sentinel, Server

CUSTOMERS = 200
CAP = 3
POLICY = Policy(name="failover", caps={"weekly": {"limit": f"{CAP} per 7 days"}})


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server, Sentinel]]:
    """A primary, its replica, and a sentinel that watches them."""
    for name in ("primary", "replica", "sentinel"):
        (tmp_path / name).mkdir()
    primary = Server(tmp_path / "primary")
    replica = Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(primary.port))
    with replica.client() as client:
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.02)
    sentinel = Sentinel(tmp_path / "sentinel", primary)
    yield primary, replica, sentinel
    for server in (sentinel, replica, primary):
        server.stop()


def test_a_failover_loses_no_opt_out_that_was_reported_durable(pair):
    """Opt-outs that `replicated(1)` acknowledged are honoured by the new primary, also those said while it died; caps
    hold but for reservations that had not reached it.
    """
    primary, replica, sentinel = pair
    with Governor(POLICY, f"{sentinel.url}?durability=replicated(1)&deadline_seconds=0.5") as governor:
        taken = sum(reserve(governor, customer, number).allowed for customer in range(CUSTOMERS) for number in (0, 1))
        acknowledged = []
        for customer in range(0, CUSTOMERS, 2):
            if customer == CUSTOMERS // 2:
                primary.process.kill()
            try:
                governor.consent.opt_out(f"customer-{customer}")
            except StoreUnavailable:
                continue
            acknowledged.append(customer)
        back = until_it_answers(lambda: governor.check("customer-1", channel="email"))
        assert back.allowed
        assert CUSTOMERS // 4 <= len(acknowledged)
        for customer in acknowledged:
            assert [reason.code for reason in reserve(governor, customer, 2).reasons] == ["opted_out"]
        with replica.client() as client:
            assert client.info("replication")["role"] == "master"
        again = 0
        for customer in range(1, CUSTOMERS, 2):
            allowed = [reserve(governor, customer, number).allowed for number in range(10, 10 + CAP + 1)]
            again += sum(allowed)
            assert len(governor.history(f"customer-{customer}")) == CAP
        lost = again - CUSTOMERS // 2 * (CAP - 2)
        assert (taken, 0) <= (2 * CUSTOMERS, lost)  # what was not replicated yet may be taken once more, and no more
        assert lost <= 2 * CUSTOMERS


@in_a_loop
async def test_an_awaited_store_finds_the_new_primary(pair):
    """The asynchronous store asks the sentinel as well."""
    primary, _, sentinel = pair
    async with AsyncGovernor(POLICY, sentinel.url) as governor:
        assert await governor.reserve("ada", channel="email", id="news-1")
        time.sleep(0.5)  # noqa: ASYNC251 - let it reach the replica
        primary.process.kill()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                decision = await governor.reserve("ada", channel="email", id="news-2")
                break
            except StoreUnavailable:
                assert time.monotonic() < deadline
        assert (True, 2) == (decision.allowed, len(await governor.history("ada")))


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://localhost",
        "redis+sentinel://localhost:x/shop",
        "redis+sentinel://localhost/shop/x",
        "redis+sentinel://localhost/shop?db=1",
        "redis://localhost?deadline_seconds=soon",
        "redis://localhost?nonsense=1",
    ],
)
def test_a_url_that_cannot_be_used_is_said_so(url):
    """What is wrong with a URL is an error before anything is opened."""
    with pytest.raises(StoreError, match="nothing was opened"):
        Governor(POLICY, url)
