"""A Redis that hangs, or is not there: each verb is StoreUnavailable in time, never Refused; nothing is done twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress

import pytest
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from fairtouch import Refused, StoreError, StoreUnavailable, Touch
from fairtouch.stores.redis import RedisStore
from tests.every_verb import DEADLINE, SLACK, WEEKLY, fresh, stands, unavailable_in_time, verbs
from tests.redis_servers import Server, free_port
from tests.workers import answer, codes, govern, used
from tests.workers.redis_troubles import Heard

# A server that hangs

CLIENTS: dict[str, Callable[[Server], RedisStore | str]] = {
    "Redis()": lambda server: RedisStore(redis.Redis(port=server.port)),
    "Redis(retry=)": lambda server: RedisStore(
        redis.Redis(port=server.port, socket_timeout=60, retry=Retry(ExponentialBackoff(), 10))
    ),
    "from_url()": lambda server: RedisStore(redis.Redis.from_url(server.url)),
    "Redis(connection_pool=)": lambda server: RedisStore(
        redis.Redis(connection_pool=redis.ConnectionPool(port=server.port, decode_responses=True))
    ),
    "URL": lambda server: server.url,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_hangs(client, rough):
    """However the client was made, a hanging server is StoreUnavailable in time, and what is repeated counts once."""
    ada, bob, store = fresh(), fresh(), CLIENTS[client](rough)
    with govern(store, WEEKLY) as governor:
        governor.reserve(bob, channel="email")
        with rough.paused():
            for _ in range(2):
                with unavailable_in_time():
                    governor.reserve(ada, channel="email", id="news")
            with unavailable_in_time():
                governor.consent.opt_out(bob)
            with unavailable_in_time():
                governor.suppressions.add(f"{bob}@example.com", "email")
        heard = Heard()
        decision = heard.until_known(lambda: governor.reserve(ada, channel="email", id="news"))
        heard.until_known(lambda: governor.consent.opt_out(bob))
        assert answer(decision) in {"allowed", "in_flight"}
        assert {("email", "news", None, "reserved"): 1} == stands(governor, ada)
        assert ({"weekly": 1}, ["opted_out"]) == (
            used(governor.check(ada, channel="email")),
            codes(governor.check(bob, channel="email")),
        )
    if isinstance(store, RedisStore):
        store.close()


# A server that is not there


def test_nobody_listens():
    """Where nobody listens, opening a governor is StoreUnavailable in time, and not a refusal."""
    with unavailable_in_time():
        govern(f"redis://127.0.0.1:{free_port()}/0", WEEKLY)


def test_a_port_that_never_answers():
    """A port that takes connections and never answers is the same."""
    with socket.create_server(("127.0.0.1", 0)) as silent, unavailable_in_time():
        govern(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", WEEKLY)


def test_a_port_of_another_service():
    """A port where something else answers is a StoreError, or StoreUnavailable in time."""

    def answer_all() -> None:
        with suppress(OSError):
            while True:
                client, _ = other.accept()
                with client:
                    client.recv(1 << 16)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as other:
        thread = threading.Thread(target=answer_all)
        thread.start()
        with pytest.raises((StoreError, StoreUnavailable)):
            govern(f"redis://127.0.0.1:{other.getsockname()[1]}/0", WEEKLY)
        other.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert time.monotonic() - started < DEADLINE + SLACK


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_a_server_that_goes_away(how, own):
    """Every verb is StoreUnavailable in time then, never Refused; what may fail open is allowed and unverified."""
    server, deadline = own(), 0.1
    url = f"{server.url}?deadline_seconds={deadline}"
    with govern(url, WEEKLY | {"fail_open": ["transactional"]}) as governor:
        reservation = governor.reserve("ada", channel="email").reservation
        if how == "gone":
            server.stop()
        with server.paused() if how == "silent" else nullcontext():
            for verb in verbs(governor, "ada", reservation).values():
                with unavailable_in_time(deadline):
                    verb()
            with unavailable_in_time(deadline):
                governor.guard(lambda: Touch("ada", channel="email"), on_refused="skip")(int)()
            started = time.monotonic()
            for decide in (governor.check, governor.reserve):
                decision = decide("ada", channel="email", category="transactional")
                assert (True, True, None) == (decision.allowed, decision.unverified, decision.reservation)
            assert time.monotonic() - started < 2 * (deadline + SLACK)
            with governor.touch("ada", channel="email", category="transactional") as decision:
                assert decision.unverified
            with pytest.raises(StoreUnavailable) as raised, governor.touch("ada", channel="email"):
                pass
            assert not isinstance(raised.value, Refused)
