"""What Redis acknowledged, and how safe it is: required, reached, or an error; and what a server's settings say."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from fairtouch import AsyncGovernor, Governor, Policy, StoreError, StoreUnavailable
from fairtouch.stores.redis import RedisStore
from tests.in_a_loop import in_a_loop
from tests.redis_servers import Server

TOUCH = {"channel": "email", "category": "marketing"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers keep their files."""
    return tmp_path_factory.mktemp("durable")


@pytest.fixture(scope="module")
def primary(folder: Path) -> Iterator[Server]:
    """A server with an append-only file that is on the disk before it answers."""
    (folder / "primary").mkdir()
    server = Server(folder / "primary", "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.stop()


@pytest.fixture
def replica(primary: Server, tmp_path: Path) -> Iterator[Server]:
    """A replica of it."""
    server = Server(tmp_path, "--replicaof", "127.0.0.1", str(primary.port))
    with server.client() as client, primary.client() as first:
        while client.info("replication")["master_link_status"] != "up" or not first.wait(1, 100):
            pass
    yield server
    server.stop()


def test_a_word_that_replicas_must_confirm_is_acknowledged_when_one_has_it(primary, replica):
    """With `replicated(1)` an opt-out that was acknowledged stands on the replica too."""
    url = f"{primary.url}?prefix=confirmed&durability=replicated(1)&deadline_seconds=2"
    with Governor(Policy(), url) as governor:
        governor.consent.opt_out("ada")
        governor.suppressions.add("ada@example.com", "email")
    with replica.client() as client:
        assert client.keys("confirmed:{*}")
        assert client.keys("confirmed:{*}:s")


def test_a_word_that_no_replica_confirmed_is_not_acknowledged(primary):
    """Without a replica each word that requires one raises, says what was reached, and may be said again."""
    store = RedisStore(redis.Redis(port=primary.port), prefix="alone", durability="replicated(1)")
    with Governor(Policy(), store) as governor:
        for say in (
            lambda: governor.consent.opt_out("ada"),
            lambda: governor.suppressions.add("ada@example.com", "email"),
            lambda: governor.customers.set("ada", timezone="Europe/Paris"),
        ):
            with pytest.raises(StoreUnavailable, match="0 of 1 replicas have it"):
                say()
        assert not governor.check("ada", **TOUCH)  # it is no acknowledgement, and it is honoured
        assert governor.reserve("grace", **TOUCH)  # reservations require nothing
    store.close()


@in_a_loop
async def test_an_awaited_word_requires_the_same(primary):
    """The asynchronous store raises as the other does."""
    async with AsyncGovernor(Policy(), f"{primary.url}?prefix=awaited&durability=replicated(1)") as governor:
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas have it"):
            await governor.consent.opt_out("ada")
        assert not await governor.check("ada", **TOUCH)


def test_a_word_on_the_disk_needs_a_server_that_can_tell(primary):
    """`fsynced` is acknowledged by Redis 7.2 and later; an older one is an error that says so."""
    with primary.client() as client:
        version = tuple(map(int, client.info("server")["redis_version"].split(".")[:2]))
    with Governor(Policy(), f"{primary.url}?prefix=synced&durability=fsynced&deadline_seconds=2") as governor:
        if version >= (7, 2):
            governor.consent.opt_out("ada")
        else:
            with pytest.raises(StoreError, match=r"WAITAOF.*7\.2"):
                governor.consent.opt_out("ada")


def test_a_word_says_what_it_has_reached(primary, replica, redis_url, tmp_path):
    """What `opt_out` returns names the durability that was reached; what is read again does not claim to know."""
    reached = {
        "memory://": "memory",
        f"sqlite:///{tmp_path}/touches.db": "fsynced",
        redis_url: "memory",
        f"{primary.url}?prefix=reached&durability=replicated(1)&deadline_seconds=2": "replicated(1)",
    }
    for url, durability in reached.items():
        with Governor(Policy(), url) as governor:
            assert governor.consent.opt_out("ada").durability == durability
            assert [event.durability for event in governor.consent.history("ada")] == [None]


@pytest.mark.parametrize("durability", ["", "replicated", "replicated(0)", "replicated(100)", "disk"])
def test_a_durability_that_is_none_is_said_so(primary, durability):
    """Another word for a durability is an error before anything is opened."""
    with pytest.raises(StoreError, match="replicated"):
        Governor(Policy(), f"{primary.url}?durability={durability}")


def test_a_server_that_may_evict_opt_outs_is_said_so(tmp_path, caplog):
    """A memory limit with a policy that evicts any key is warned of, or refused if that is wanted."""
    server = Server(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes")
    try:
        with caplog.at_level(logging.WARNING, "fairtouch"):
            Governor(Policy(), server.url).close()
        assert ["may evict opt-outs" in record.message for record in caplog.records] == [True]
        with pytest.raises(StoreError, match="allkeys-lru"):
            Governor(Policy(), f"{server.url}?on_eviction=refuse")
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
        caplog.clear()
        Governor(Policy(), f"{server.url}?on_eviction=refuse").close()
        assert [] == caplog.records
    finally:
        server.stop()


def test_a_server_without_an_append_only_file_is_said_so(redis_url, caplog):
    """A server that forgets on a restart is warned of."""
    with caplog.at_level(logging.WARNING, "fairtouch"):
        Governor(Policy(), redis_url).close()
    assert ["appendonly yes" in record.message for record in caplog.records] == [True]
