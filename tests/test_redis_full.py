"""A Redis without memory, or that takes no writes now: what writes is StoreUnavailable, and nothing of it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fairtouch import FairtouchError, StoreUnavailable
from tests.every_verb import WEEKLY, WRITES, fresh, verbs, whole_state
from tests.redis_servers import Server, free_port
from tests.workers import govern

# No memory


@pytest.fixture
def starved(rough: Server) -> Iterator[Callable[[int], None]]:
    """Leaves a server so many bytes more than it uses; or none at all."""
    with rough.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        yield lambda spare: client.config_set("maxmemory", max(1, client.info("memory")["used_memory"] + spare))
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("verb", WRITES)
def test_no_memory(verb, rough, starved):
    """Where Redis has no memory a verb that writes is StoreUnavailable, and nothing of it is there."""
    name = fresh("starved")
    with govern(f"{rough.url}?prefix=starved", WEEKLY) as governor:
        reservation = governor.reserve(name, channel="email", id="news").reservation
        before = whole_state(governor, name)
        starved(-(10**9))
        with pytest.raises(StoreUnavailable):
            verbs(governor, name, reservation)[verb]()
        with rough.client() as client:
            client.config_set("maxmemory", 0)
        assert before == whole_state(governor, name)
        verbs(governor, name, reservation)[verb]()
        assert before != whole_state(governor, name)


def test_memory_runs_out(rough, starved):
    """While memory runs out, what was acknowledged is there, and what raised is not, not even by half."""
    acknowledged, raised = set(), set()
    with govern(f"{rough.url}?prefix=runs-out", WEEKLY) as governor:
        reader = govern(f"{rough.url}?prefix=runs-out", WEEKLY)
        starved(300_000)
        for index in range(400):
            name = f"customer-{index}"
            for verb, call in (
                ("reserve", lambda name=name: governor.reserve(name, channel="email", id="news")),
                ("opt_out", lambda name=name: governor.consent.opt_out(name, evidence={"text": "x" * 2_000})),
                ("suppress", lambda name=name: governor.suppressions.add(name + "@example.com", "email")),
            ):
                try:
                    call()
                    acknowledged.add((verb, name))
                except StoreUnavailable:
                    raised.add((verb, name))
        with rough.client() as client:
            client.config_set("maxmemory", 0)
        for index in range(400):
            name = f"customer-{index}"
            found = {
                "reserve": bool(reader.history(name)),
                "opt_out": reader.consent.status(name).state == "opted_out",
                "suppress": reader.suppressions.contains(name + "@example.com", "email"),
            }
            assert {verb: (verb, name) in acknowledged for verb in found} == found
            assert found["opt_out"] == bool(reader.consent.history(name))
        reader.close()
    assert {"reserve", "opt_out", "suppress"} == {verb for verb, _ in acknowledged} == {verb for verb, _ in raised}


# Writes that are not taken now


@pytest.fixture(params=["READONLY", "NOREPLICAS"])
def forbids_writes(request: pytest.FixtureRequest, rough: Server) -> Iterator[Callable[[bool], None]]:
    """Makes a server a replica, or one that waits for replicas; and back."""

    def forbid(is_forbidden: bool) -> None:
        with rough.client() as client:
            if request.param == "NOREPLICAS":
                client.config_set("min-replicas-to-write", int(is_forbidden))
            elif is_forbidden:
                client.replicaof("127.0.0.1", free_port())
            else:
                client.replicaof("no", "one")

    yield forbid
    forbid(False)


def test_a_server_that_takes_no_writes(rough, forbids_writes):
    """On a replica, or where replicas are missing, what writes is StoreUnavailable, and nothing of it is there."""
    name = fresh("frozen")
    with govern(f"{rough.url}?prefix=frozen", WEEKLY) as governor:
        reservation = governor.reserve(name, channel="email", id="news").reservation
        before = whole_state(governor, name)
        forbids_writes(True)
        raised = {}
        for verb in WRITES:
            with pytest.raises(FairtouchError) as error:
                verbs(governor, name, reservation)[verb]()
            raised[verb] = type(error.value)
        forbids_writes(False)
        assert before == whole_state(governor, name)
        assert dict.fromkeys(WRITES, StoreUnavailable) == raised
