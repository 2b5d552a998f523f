"""What goes over the wire, and what becomes of a connection that tasks share."""

from __future__ import annotations

import asyncio

import pytest
import redis

from fairtouch import AsyncGovernor, Policy, StoreUnavailable
from fairtouch.stores.redis_calls import DECIDE, NAME, Call
from fairtouch.stores.redis_lines import by_digest, packed, whole
from tests.in_a_loop import in_a_loop
from tests.redis_servers import LOSE, PASS, SWALLOW, Network

POLICY = Policy(name="shared", caps={"weekly": {"limit": "3 per 7 days"}})
CALLS = [
    Call(None, (), (b"TIME",)),
    Call(None, (b"key",), (b"HSET", b"", b"\r\n$3\r\n*1\x00\xff")),
    Call(None, (b"key",), (b"SCAN", 0, b"COUNT", 1 << 40, -1)),
    Call(NAME, (b"a", b"b" * 70_000), (b"", 7)),
    Call(DECIDE, (), ()),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_a_command_goes_out_as_the_driver_would_send_it(call):
    """Byte for byte, by its digest and whole."""
    driver = redis.Connection()
    for command in (by_digest(call), whole(call)):
        assert packed(command) == b"".join(driver.pack_command(*command))


@pytest.fixture
def network(redis_server):
    """A network before the server, which may lose what it says."""
    network = Network(redis_server.port)
    yield network
    network.close()


@in_a_loop
async def test_tasks_that_share_a_connection_get_their_own_answers(redis_url):
    """Five hundred tasks at once, each about another customer or cap: nobody gets somebody else's answer."""
    async with AsyncGovernor(POLICY, redis_url) as governor:

        async def ask(number: int) -> list[bool]:
            return [(await governor.reserve(f"ada-{number}", channel="email")).allowed for _ in range(number % 5)]

        answers = await asyncio.gather(*(ask(number) for number in range(500)))
        assert answers == [([True] * 3 + [False])[: number % 5] for number in range(500)]
        histories = await asyncio.gather(*(governor.history(f"ada-{number}") for number in range(500)))
        assert [len(found) for found in histories] == [min(number % 5, 3) for number in range(500)]


@in_a_loop
async def test_a_connection_that_is_lost_among_tasks_costs_no_slot(network, redis_url):
    """Replies are lost while a hundred tasks share a connection: all calls come through, each counted once."""
    said = 0

    def fate(request: bytes, reply: bytes) -> str:
        nonlocal said
        said += 1
        return LOSE if said <= 30 and said % 2 else PASS

    url = network.url + redis_url[redis_url.index("?") :]
    async with AsyncGovernor(POLICY, url) as governor:
        network.fate = fate
        decisions = await asyncio.gather(
            *(governor.reserve(f"ada-{n}", channel="email", id=f"{turn}") for turn in range(5) for n in range(100))
        )
        network.fate = lambda request, reply: PASS
        assert network.lost >= 5
        assert sum(map(bool, decisions)) == 300
        histories = await asyncio.gather(*(governor.history(f"ada-{n}") for n in range(100)))
        assert [len(found) for found in histories] == [3] * 100


@in_a_loop
async def test_a_call_that_waits_in_vain_does_not_take_the_others_down(network, redis_url):
    """A reply is swallowed: within the deadline everybody has an answer or StoreUnavailable, and the store goes on."""
    url = network.url + redis_url[redis_url.index("?") :].replace("deadline_seconds=5", "deadline_seconds=0.3")
    async with AsyncGovernor(POLICY, url) as governor:
        assert await governor.check("ada", channel="email")
        network.fate = lambda request, reply: SWALLOW
        answers = await asyncio.gather(
            *(governor.reserve(f"ada-{n}", channel="email") for n in range(20)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        network.fate = lambda request, reply: PASS
        assert (await governor.reserve("grace", channel="email")).allowed


@in_a_loop
async def test_tasks_that_wait_for_a_connection_are_not_cancelled_by_one_that_gave_up(network, redis_url):
    """A connection is lost, and the server greets nobody any more: whoever came when, each task gets StoreUnavailable,
    and is not cancelled because an earlier one gave the new connection up.
    """
    url = network.url + redis_url[redis_url.index("?") :].replace("deadline_seconds=5", "deadline_seconds=0.3")
    async with AsyncGovernor(POLICY, url) as governor:
        network.fate = lambda request, reply: LOSE if network.lost == 0 else SWALLOW

        async def ask(number: int) -> type:
            await asyncio.sleep(number * 0.01)
            try:
                await governor.check(f"ada-{number}", channel="email")
            except BaseException as error:  # noqa: BLE001 - a cancellation is what must not come
                return type(error)
            return bool

        assert {StoreUnavailable} == set(await asyncio.gather(*(ask(number) for number in range(40))))
        network.fate = lambda request, reply: PASS
        assert (await governor.check("ada", channel="email")).allowed
