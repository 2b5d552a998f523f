"""When Redis is not honest the store is: what surfaces is StoreUnavailable or StoreError, and nothing is done twice."""

from __future__ import annotations

import logging
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from fairtouch import FairtouchError, Governor, Refused, StoreError, StoreUnavailable, Touch
from fairtouch.stores.redis import RedisStore
from fairtouch.stores.redis_calls import Keys
from fairtouch.stores.redis_documents import document_of
from tests.redis_servers import LOSE, PASS, SWALLOW, Network, Server, free_port
from tests.workers import answer, codes, govern, in_threads, used
from tests.workers.redis_troubles import Heard, import_in_trouble, reserve_in_trouble

SLOTS = 5
WEEKLY = {"caps": {"weekly": {"limit": f"{SLOTS} per 7 days"}}}
DEADLINE = 0.25  # of a call, unless it is said otherwise
SLACK = 1.0  # of a machine that has other things to do
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
_numbers = count()

Own = Callable[..., Server]


def fresh(name: str = "customer") -> str:
    """A customer of whom nothing is known yet."""
    return f"{name}-{next(_numbers)}"


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that these tests may hang and starve."""
    server = Server(tmp_path_factory.mktemp("rough"))
    yield server
    server.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    """Starts servers that a test may end."""
    started: list[Server] = []

    def start(*options: str) -> Server:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Server(folder, *options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def network(redis_server: Server) -> Iterator[Network]:
    """A network before the server of all tests."""
    network = Network(redis_server.port)
    yield network
    network.close()


@pytest.fixture
def prefix(redis_url: str) -> str:
    """The prefix of an empty store on that server."""
    return redis_url.partition("prefix=")[2].partition("&")[0]


@contextmanager
def unavailable_in_time(seconds: float = DEADLINE) -> Iterator[None]:
    """The block raises StoreUnavailable, and does so about when it should."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        yield
    assert time.monotonic() - started < seconds + SLACK


def stands(governor: Governor, customer: str) -> Counter[tuple[str, str, str | None, str]]:
    """What a ledger holds, without instants."""
    return Counter((entry.channel, entry.id, entry.event, entry.state) for entry in governor.history(customer))


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


def verbs(governor: Governor, customer: str, reservation: Any) -> dict[str, Callable[[], Any]]:
    """Every verb, for one customer."""
    address = f"{customer}@example.com"
    return {
        "check": lambda: governor.check(customer, channel="email", address=address),
        "reserve": lambda: governor.reserve(customer, channel="email", id="again", address=address),
        "check_many": lambda: list(governor.check_many([Touch(customer, channel="email"), Touch("b", channel="sms")])),
        "reserve_many": lambda: list(
            governor.reserve_many([Touch(customer, channel="email", id="many"), Touch("b", channel="sms", id="many")])
        ),
        "confirm": lambda: governor.confirm(reservation),
        "release": lambda: governor.release(reservation),
        "record": lambda: governor.record(customer, YESTERDAY, channel="email", id="recorded"),
        "history": lambda: governor.history(customer),
        "prune": governor.prune,
        "opt_in": lambda: governor.consent.opt_in(customer, topic="news"),
        "opt_out": lambda: governor.consent.opt_out(customer, topic="news", evidence={"source": "link"}),
        "request": lambda: governor.consent.request(customer, channel="email"),
        "status": lambda: governor.consent.status(customer, channel="email"),
        "words": lambda: governor.consent.history(customer),
        "suppress": lambda: governor.suppressions.add(address, "email", "manual"),
        "unsuppress": lambda: governor.suppressions.remove(address, "email"),
        "suppressed": lambda: governor.suppressions.contains(address, "email"),
        "set": lambda: governor.customers.set(customer, timezone="Europe/Paris"),
        "get": lambda: governor.customers.get(customer),
        "feedback": lambda: governor.feedback("reply", customer=customer, channel="email", id="reply"),
        "complaint": lambda: governor.feedback("complaint", address=address, channel="email", id="complaint"),
    }


# Answers that get lost


ROWS = 8


def test_thousands_of_lost_answers(network, prefix):
    """However many answers are lost after the work was done, only StoreUnavailable surfaces and all is done once."""
    chance = random.Random(20261121)

    def fate(request: bytes, reply: bytes) -> str:
        number = chance.random()
        return PASS if number < 0.3 or b"SETINFO" in request else LOSE if number < 0.999 else SWALLOW

    with govern(f"{network.url}?prefix={prefix}", WEEKLY) as governor:
        network.fate = fate
        heard = in_threads(reserve_in_trouble, governor, 40, 50)
        imports = in_threads(import_in_trouble, governor, ROWS, YESTERDAY)
        network.fate = lambda request, reply: PASS
        assert_all_once(governor, heard)
        assert_all_heard(governor, heard + imports)
        for name, touch_id in set().union(*(one.recorded for one in imports)):
            assert 1 == stands(governor, name)["sms", touch_id, None, "confirmed"]
        for number, one in enumerate(imports):
            assert not any(
                governor.suppressions.contains(f"import-{number}-{index}@example.com", "email")
                for index in range(0, ROWS, 2)
            )
            for name in one.left:
                words = [
                    word
                    for word in governor.consent.history(name)
                    if word.at == YESTERDAY.replace(microsecond=YESTERDAY.microsecond // 1000 * 1000)
                ]
                assert ["opt_in"] == [word.word for word in words]
    assert network.lost > 2_000


def assert_all_once(governor: Governor, heard: list[Heard]) -> None:
    """Every id that was taken stands once, no other id stands, and no cap is exceeded."""
    kept = set().union(*(one.kept for one in heard))
    released = set().union(*(one.released for one in heard))
    names = {name for name, _ in kept | released | set().union(*(one.refused for one in heard))}
    found = Counter((name, entry.id) for name in names for entry in governor.history(name))
    assert ({1}, kept) == (set(found.values()), set(found))
    per_customer = Counter(name for name, _ in found)
    assert max(per_customer.values()) <= SLOTS
    counted = {name: used(governor.check(name, channel="email"))["weekly"] for name in per_customer}
    assert dict(per_customer) == counted
    states = {(name, entry.id): entry.state for name in names for entry in governor.history(name)}
    assert {"confirmed"} == {states[named] for one in heard for named in one.confirmed}
    assert {"allowed", "in_flight", "cap_reached", "opted_out"} >= {told for one in heard for told in one.answers}


def assert_all_heard(governor: Governor, heard: list[Heard]) -> None:
    """Every opt-out and every suppression that was acknowledged stands, and held from then on."""
    assert 0 == sum(one.overheard for one in heard)
    left = set().union(*(one.left for one in heard))
    suppressed = set().union(*(one.suppressed for one in heard))
    assert {"opted_out"} == {governor.consent.status(name, channel="email").state for name in left}
    assert set() == {name for name in left if "opted_out" not in codes(governor.check(name, channel="email"))}
    assert all(governor.suppressions.contains(address, "email") for address in suppressed)


Act = tuple[Callable[[Governor, str], Any], Callable[[Governor, str, Any], Any]]


def nothing(governor: Governor, name: str) -> None:
    """Nothing to arrange."""


def reserved(governor: Governor, name: str) -> Any:
    """A reservation to settle."""
    return governor.reserve(name, channel="email", id="news").reservation


def suppressed(governor: Governor, name: str) -> Any:
    """A suppression to lift."""
    return governor.suppressions.add(f"{name}@example.com", "email", "complaint", event_id="heard")


def settled(result: Any) -> tuple[Any, ...]:
    """How a reservation stands."""
    return result.state, result.changed, result.late, result.caps_exceeded


ACTS: dict[str, Act] = {
    "reserve": (nothing, lambda g, name, _: answer(g.reserve(name, channel="email", id="news"))),
    "reserve, the address is known": (
        nothing,
        lambda g, name, _: answer(g.reserve(name, channel="email", id="news", address=f"{name}@example.com")),
    ),
    "confirm": (reserved, lambda g, _, reservation: settled(g.confirm(reservation))),
    "release": (reserved, lambda g, _, reservation: settled(g.release(reservation))),
    "record": (nothing, lambda g, name, _: g.record(name, YESTERDAY, channel="email", id="news")),
    "record what was reserved": (reserved, lambda g, name, _: g.record(name, YESTERDAY, channel="email", id="news")),
    "feedback by customer": (nothing, lambda g, name, _: g.feedback("reply", customer=name, channel="email", id="r")),
    "opt_in": (nothing, lambda g, name, _: g.consent.opt_in(name, topic="news").word),
    "opt_out": (nothing, lambda g, name, _: g.consent.opt_out(name, evidence={"link": 1}).word),
    "request": (nothing, lambda g, name, _: g.consent.request(name, channel="email").word),
    "opt_out with an instant": (nothing, lambda g, name, _: g.consent.opt_out(name, at=YESTERDAY).word),
    "set": (nothing, lambda g, name, _: g.customers.set(name, timezone="Europe/Paris", groups=["a"]).groups),
    "suppress": (nothing, lambda g, name, _: g.suppressions.add(f"{name}@example.com", "email", "manual")),
    "suppress by an event": (
        nothing,
        lambda g, name, _: g.suppressions.add(f"{name}@example.com", "email", "complaint", event_id="heard"),
    ),
    "suppress again": (
        suppressed,
        lambda g, name, _: g.suppressions.add(f"{name}@example.com", "email", "manual", event_id="heard"),
    ),
    "unsuppress": (suppressed, lambda g, name, _: g.suppressions.remove(f"{name}@example.com", "email")),
}


def losing(which: int, meanwhile: Callable[[], Any]) -> Callable[[bytes, bytes], str]:
    """Loses one reply, counted from now on, after something else has happened; and no greeting of a connection."""
    replies = count()

    def fate(request: bytes, reply: bytes) -> str:
        if b"SETINFO" in request or next(replies) != which:
            return PASS
        meanwhile()
        return LOSE

    return fate


def whole_state(governor: Governor, name: str) -> tuple[Any, ...]:
    """All that is known of a customer and her address, without instants."""
    words = [(word.word, word.scope, tuple(word.evidence)) for word in governor.consent.history(name)]
    state = governor.consent.status(name, channel="email", topic="news").state
    profile = governor.customers.get(name)
    is_suppressed = governor.suppressions.contains(f"{name}@example.com", "email")
    return stands(governor, name), words, state, profile.timezone, profile.groups, is_suppressed


def each_answer_lost(
    act: Act, network: Network, url: str, direct: Governor, meanwhile: Callable[[str], Any]
) -> Iterator[tuple[Any, Any]]:
    """What a verb comes to when its first answer is lost, its second, and so on: answer and state, per turn; and
    first of all when none is.
    """
    arrange, do = act
    with govern(through(network, url), WEEKLY) as governor:
        for which in (None, *range(20)):
            name = fresh("lost")
            thing = arrange(direct, name)
            governor.history("somebody else")  # the connection stands
            before = network.lost
            if which is None:
                meanwhile(name)
            else:
                network.fate = losing(which, lambda name=name: meanwhile(name))
            result = do(governor, name, thing)
            network.fate = lambda request, reply: PASS
            if which is not None and network.lost == before:
                assert which > 0
                return
            yield result, whole_state(direct, name)


def through(network: Network, url: str) -> str:
    """The same store, seen through a network."""
    return f"{network.url}?{url.partition('?')[2]}"


@pytest.mark.parametrize("act", ACTS)
def test_an_answer_that_was_lost_is_given_again(act, network, redis_url):
    """Whichever one answer of a verb is lost, the store tries again, and all ends as if it had not been lost."""
    with govern(redis_url, WEEKLY) as direct:
        undisturbed, *others = each_answer_lost(ACTS[act], network, redis_url, direct, lambda name: None)
        assert [undisturbed] * len(others) == others


@pytest.mark.parametrize("act", ACTS)
def test_an_answer_that_was_lost_while_others_act(act, network, redis_url):
    """The same state comes about when somebody else changes the customer before the store tries again."""
    with govern(redis_url, WEEKLY) as direct:
        (_, undisturbed), *others = each_answer_lost(
            ACTS[act],
            network,
            redis_url,
            direct,
            lambda name: direct.record(name, YESTERDAY, channel="push", id="meanwhile"),
        )
        assert [undisturbed] * len(others) == [state for _, state in others]


def test_an_opt_in_is_not_said_again_after_an_opt_out(network, redis_url):
    """An opt-in whose answer was lost does not come after an opt-out that was acknowledged meanwhile."""
    with govern(redis_url, WEEKLY) as direct:
        opt_in: Act = (nothing, lambda g, name, _: g.consent.opt_in(name, channel="email").word)
        _, *others = each_answer_lost(
            opt_in, network, redis_url, direct, lambda name: direct.consent.opt_out(name, channel="email")
        )
        # The last call is the one that writes: before it the opt-in had not been given yet, and was the later word.
        assert "opted_out" == others[-1][1][2]


def test_a_suppression_is_not_lifted_again(network, redis_url):
    """A lifting whose answer was lost does not lift a suppression that was acknowledged meanwhile."""
    with govern(redis_url, WEEKLY) as direct:
        _, *others = each_answer_lost(
            ACTS["unsuppress"],
            network,
            redis_url,
            direct,
            lambda name: direct.suppressions.add(f"{name}@example.com", "email", "hard_bounce"),
        )
        assert [True] * len(others) == [state[-1] for _, state in others]


def test_a_pruning_whose_answers_are_lost(network, redis_url):
    """Whichever answer of a pruning is lost, every touch is counted once in its total."""
    sections = {"ledger": {"keep": "2 days"}, "caps": {"ever": {"limit": "1000 per lifetime"}}}
    with govern(redis_url, sections) as direct:
        for which in range(12):
            name = fresh("old")
            later = datetime.now(UTC) + timedelta(days=3)
            for index in range(3):
                direct.record(name, datetime.now(UTC), channel="email", id=str(index))
            with govern(through(network, redis_url), sections, clock=lambda later=later: later) as governor:
                network.fate = losing(
                    which, lambda name=name: direct.record(name, YESTERDAY, channel="email", id="meanwhile")
                )
                governor.prune()
                network.fate = lambda request, reply: PASS
                governor.prune()
                assert used(governor.check(name, channel="email"))["ever"] in {3, 4}
                assert not governor.history(name)
                direct.record(name, datetime.now(UTC), channel="email", id="meanwhile")


# Scripts flushed, clients killed, servers restarted

CUSTOMERS = 1_000
TRIES = 1_300  # of each of eight threads


def test_flushes_kills_and_restarts(own):
    """Over some ten thousand decisions during which Redis forgets its scripts, kills its clients and is killed itself,
    only StoreUnavailable surfaces, every id counts once, no cap is overshot and every acknowledged opt-out stands.
    """
    server = own("--appendonly", "yes", "--appendfsync", "always")
    finished = threading.Event()
    troubles: Counter[str] = Counter()

    def trouble() -> None:
        chance = random.Random(20261121)
        while not finished.wait(chance.uniform(0, 0.3)):
            kind = chance.choice(["flush", "kill", "restart"])
            troubles[kind] += 1
            if kind == "restart":
                server.restart()
                continue
            with server.client() as client:
                if kind == "flush":
                    client.script_flush()
                else:
                    client.client_kill_filter(_type="normal", skipme=True)

    with govern(server.url, WEEKLY) as governor:
        thread = threading.Thread(target=trouble)
        thread.start()
        try:
            heard = in_threads(reserve_in_trouble, governor, CUSTOMERS, TRIES)
        finally:
            finished.set()
            thread.join()
        assert_all_once(governor, heard)
        assert_all_heard(governor, heard)
    assert {"flush", "kill", "restart"} == set(troubles)
    assert sum(sum(one.answers.values()) for one in heard) > 10_000


# No memory


@pytest.fixture
def starved(rough: Server) -> Iterator[Callable[[int], None]]:
    """Leaves a server so many bytes more than it uses; or none at all."""
    with rough.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        yield lambda spare: client.config_set("maxmemory", max(1, client.info("memory")["used_memory"] + spare))
        client.config_set("maxmemory", 0)


WRITES = [
    "reserve",
    "reserve_many",
    "confirm",
    "record",
    "opt_in",
    "opt_out",
    "request",
    "suppress",
    "set",
    "feedback",
    "complaint",
]


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


# Rights

RIGHTS = [
    "evalsha",
    "eval",
    "time",
    "scan",
    "get",
    "set",
    "setnx",
    "del",
    "exists",
    "hget",
    "hset",
    "hsetnx",
    "hmget",
    "hgetall",
    "hexists",
    "hincrby",
    "hdel",
    "zadd",
    "zscore",
    "info",
]
DENIED = "permission|can't run|can't access|not let this user"
User = Callable[..., str]


@pytest.fixture
def user(redis_server: Server, prefix: str) -> Iterator[User]:
    """Makes a user who has some rights on the keys of a store; the URL under which she comes."""
    name = f"user-{prefix}"

    def grant(*rights: str, keys: str = f"{prefix}:*") -> str:
        with redis_server.client() as client:
            client.acl_setuser(
                name,
                enabled=True,
                reset=True,
                passwords=["+secret"],
                keys=[keys],
                commands=[f"+{right}" for right in rights],
            )
        return f"redis://{name}:secret@127.0.0.1:{redis_server.port}/0?prefix={prefix}&deadline_seconds=5"

    yield grant
    with redis_server.client() as client:
        client.acl_deluser(name)


def run_everything(governor: Governor) -> None:
    """Every verb in every branch that asks Redis for something else."""
    name = "ada"
    reservation = governor.reserve(name, channel="email", id="news").reservation
    for verb in verbs(governor, name, reservation).values():
        verb()
    governor.consent.confirm(name, channel="email")
    for index in range(150):  # so many that the older half stands beside the document
        governor.record("old", YESTERDAY, channel="email", id=str(index))
        governor.reserve("busy", channel="email", category="service", id=str(index))
    assert (150, 150) == (len(governor.history("old")), len(governor.history("busy")))
    touch = governor.reserve("full", channel="email", id="in-a-full-document").reservation
    for index in range(100):
        governor.reserve("full", channel="push", id=str(index))
    governor.release(touch)


MUCH = {"caps": {"ever": {"limit": "1000000 per lifetime"}}, "ledger": {"keep": "2 days"}}


def run_and_prune(url: str) -> None:
    """Run everything; then collapse all of it, and count it."""
    with govern(url, MUCH) as governor:
        run_everything(governor)
    later = datetime.now(UTC) + timedelta(days=4)
    with govern(url, MUCH, clock=lambda: later) as governor:
        assert governor.prune() > 150
        assert 150 == used(governor.check("old", channel="email"))["ever"]
        governor.consent.history("ada")


def test_least_privilege(user):
    """A user who has no more than the rights that the documentation names can do everything."""
    run_and_prune(user(*RIGHTS))


def test_the_rights_that_are_documented():
    """The documentation names these rights, the one that a required durability takes, and no others."""
    text = (Path(__file__).parent.parent / "docs/howto/several-hosts.md").read_text(encoding="utf-8")
    granted = text.partition("ACL SETUSER")[2].partition("```")[0]
    assert {*RIGHTS, "wait"} == set(re.findall(r"\+(\S+)", granted))


@pytest.mark.parametrize("missing", [right for right in RIGHTS if right != "info"])
def test_a_right_that_is_missing(missing, user, redis_server):
    """Without any one of these rights something is a StoreError that says so."""
    url = user(*(right for right in RIGHTS if right != missing))
    with redis_server.client() as client:
        client.script_flush()
    with pytest.raises(StoreError, match=DENIED):
        run_and_prune(url)


def test_settings_that_may_not_be_read(user, caplog):
    """Without the right to look at the server's settings everything works, after a warning; or nothing, if wanted."""
    url = user(*(right for right in RIGHTS if right != "info"))
    with caplog.at_level(logging.WARNING, "fairtouch"):
        run_and_prune(url)
    assert any("could not be found out" in record.message for record in caplog.records)
    with pytest.raises(StoreError, match=DENIED):
        govern(f"{url}&on_eviction=refuse", WEEKLY)


def test_keys_that_are_somebody_elses(user, redis_url):
    """A user who may not touch the keys of the store is told so, whatever she does."""
    with govern(redis_url, WEEKLY):
        url = user(*RIGHTS, keys="other:*")
    with pytest.raises(StoreError, match=DENIED):
        govern(url, WEEKLY)


def test_a_wrong_password(user):
    """A user with another password is told so at once."""
    url = user(*RIGHTS).replace(":secret@", ":wrong@")
    with pytest.raises(StoreError, match="let this user in"):
        govern(url, WEEKLY)


@pytest.mark.parametrize("missing", ["set", "setnx", "hsetnx", "hset", "hincrby"])
@pytest.mark.parametrize("verb", ["opt_out", "complaint", "reserve", "record", "set"])
def test_what_a_right_prevents_is_not_half_there(verb, missing, user, redis_url):
    """What a missing right prevents is not there by half, and can be repeated once the right was given."""
    url = user(*RIGHTS)
    with govern(url, WEEKLY) as governor, govern(redis_url, WEEKLY) as reader:
        verbs(governor, "bob", None)[verb]()
        expected, before = whole_state(reader, "bob"), whole_state(reader, "ada")
        user(*(right for right in RIGHTS if right != missing))
        try:
            verbs(governor, "ada", None)[verb]()
        except StoreError:
            assert before == whole_state(reader, "ada")
            user(*RIGHTS)
            verbs(governor, "ada", None)[verb]()
        assert expected == whole_state(reader, "ada")


def test_a_right_that_a_full_document_needs(user, redis_url):
    """A touch whose document is full is either reserved, or not there: no slot is taken by a call that failed."""
    url = user(*RIGHTS)
    with govern(url, {}) as governor, govern(redis_url, {}) as reader:
        for index in range(64):
            governor.reserve("ada", channel="email", id=str(index))
        for index in range(64, 70):
            user(*(right for right in RIGHTS if right != "hset"))
            try:
                is_reserved = governor.reserve("ada", channel="email", id=str(index)).allowed
            except StoreError:
                is_reserved = False
            user(*RIGHTS)
            assert is_reserved == (str(index) in {entry.id for entry in reader.history("ada")})


# Clocks of workers

MINUTE, DAY = 60_000, 86_400_000
CLOCKS: dict[str, list[Callable[[int], int]]] = {
    "right": [lambda calls: 0],
    "two minutes": [lambda calls: 0, lambda calls: 2 * MINUTE, lambda calls: -2 * MINUTE],
    "a day": [lambda calls: DAY, lambda calls: -DAY],
    "backwards": [lambda calls: -calls * 10_000, lambda calls: calls * 7_000],
}


@pytest.mark.parametrize("clocks", CLOCKS)
def test_clocks_of_workers_do_not_matter(clocks, redis_url, monkeypatch):
    """Whatever the workers' clocks say, or if they run backwards, exactly as many are accepted as the caps admit."""
    mine = threading.local()

    def wrong_now() -> int:
        mine.calls = getattr(mine, "calls", 0) + 1
        return time.time_ns() // 1_000_000 + getattr(mine, "clock", lambda calls: 0)(mine.calls)

    for module in ("clock", "governor"):
        monkeypatch.setattr(f"fairtouch.{module}.system_now", wrong_now)
    hour = datetime.now(UTC).hour  # somewhere it is about noon, so that no day ends while this runs
    zone = f"Etc/GMT{hour - 12:+d}"
    sections = {
        "customer": {"timezones": [zone]},
        "caps": {
            "minute": {"limit": "5 per 1 minute", "select": {"channels": ["email"]}},
            "day": {"limit": "5 per calendar day", "select": {"channels": ["sms"]}},
        },
    }

    def work(ready: Callable[[], Any], number: int) -> Counter[tuple[str, str]]:
        mine.clock = CLOCKS[clocks][number % len(CLOCKS[clocks])]
        told: Counter[tuple[str, str]] = Counter()
        with govern(redis_url, sections) as governor:
            ready()
            for name in ("ada", "bob", "eve"):
                for channel in ("email", "sms"):
                    for _ in range(4):
                        told[channel, answer(governor.reserve(name, channel=channel))] += 1
        return told

    told = sum(in_threads(work, parties=4), Counter())
    assert {(channel, "allowed"): 15 for channel in ("email", "sms")} | {
        (channel, "cap_reached"): 33 for channel in ("email", "sms")
    } == told
    with govern(redis_url, sections) as governor:
        entries = [entry for name in ("ada", "bob", "eve") for entry in governor.history(name)]
    assert all(abs(datetime.now(UTC) - entry.at) < timedelta(minutes=1) for entry in entries)


# Names that are lost


def test_names_that_are_lost(redis_server, redis_url, prefix):
    """When the table of names is gone, every document is a StoreError to a new worker, whatever it says first."""
    with govern(redis_url, WEEKLY) as governor:
        for index in range(4):
            governor.reserve(f"customer-{index}", channel="email", id="news", campaign=f"campaign-{index}")
            governor.consent.opt_out(f"customer-{index}", topic=f"topic-{index}")
    with redis_server.client() as client:
        assert client.delete(f"{prefix}:names") == 1
    with govern(redis_url, WEEKLY) as governor:
        governor.reserve("new", channel="sms", campaign="another", id="news")  # gives the old numbers to others
        governor.consent.opt_in("new", topic="another")
        for index in range(4):
            for verb in (
                lambda name: governor.check(name, channel="email"),
                lambda name: governor.reserve(name, channel="push"),
                lambda name: governor.consent.opt_in(name, topic="topic-1"),
                governor.consent.opt_out,
                governor.consent.status,
                governor.consent.history,
                governor.history,
                governor.customers.get,
                lambda name: governor.customers.set(name, country="FR"),
                lambda name: governor.record(name, YESTERDAY, channel="email", id="other"),
            ):
                with pytest.raises(StoreError):
                    verb(f"customer-{index}")


def test_names_that_are_lost_under_a_governor(redis_server, redis_url, prefix):
    """A governor that knew the names gives old ones no new meaning, and says so when it needs a new one."""
    with govern(redis_url, WEEKLY) as governor, govern(redis_url, WEEKLY) as other:
        governor.consent.opt_out("ada", topic="news")
        other.check("eve", channel="sms")
        with redis_server.client() as client:
            assert client.delete(f"{prefix}:names") == 1
        with pytest.raises(StoreError):
            other.consent.status("ada", topic="news")
        with pytest.raises(StoreError):
            governor.reserve("bob", channel="email", campaign="never heard of")
        with pytest.raises(StoreError):
            governor.consent.opt_in("bob", topic="never heard of")
        assert "opted_out" == governor.consent.status("ada", topic="news").state


def test_names_that_are_half_lost(redis_server, redis_url, prefix):
    """A table of names that lost single names is a StoreError to a worker who meets their numbers."""
    with govern(redis_url, WEEKLY) as governor:
        governor.reserve("ada", channel="email", campaign="spring", id="news")
        governor.consent.opt_out("ada", topic="news")
    with redis_server.client() as client:
        gone = [name for name in client.hkeys(f"{prefix}:names") if name.startswith(b"<")]
        client.hdel(f"{prefix}:names", *gone)
    with govern(redis_url, WEEKLY) as governor:
        for verb in (governor.history, governor.consent.history, governor.consent.status):
            with pytest.raises(StoreError):
                verb("ada")


# Documents that are damaged

FLIPS = 100


@pytest.fixture
def damaged(redis_server: Server, redis_url: str, prefix: str) -> Iterator[tuple[Governor, bytes, Callable[..., None]]]:
    """A governor, the document of a customer who opted out, and a way to put another in its place."""
    with govern(redis_url, WEEKLY) as governor, redis_server.client() as client:
        governor.reserve("eve", channel="push", topic="news", campaign="spring")  # other names that numbers could mean
        governor.consent.opt_out("eve", channel="sms")
        governor.customers.set("ada", timezone="Europe/Paris", groups=["a"])
        governor.consent.opt_in("ada", channel="email")
        governor.consent.opt_in("ada", topic="news")
        reservation = governor.reserve("ada", channel="email", id="news", address="ada@example.com").reservation
        governor.record("ada", YESTERDAY, channel="voice", id="call", subject="debt")
        governor.confirm(reservation)
        governor.reserve("ada", channel="sms", id="sms")
        governor.consent.opt_out("ada")
        key = Keys(prefix).document(governor._digests.customer("ada"))
        document = client.get(key)
        beside = {name: client.dump(name) for name in client.keys(f"{prefix}:{{*") if name.startswith(key + b":")}

        def put(text: bytes) -> None:
            client.set(key, text)
            for name, dumped in beside.items():
                client.restore(name, 0, dumped, replace=True)

        yield governor, document, put


READS: dict[str, Callable[[Governor], Any]] = {
    "check": lambda governor: governor.check("ada", channel="email"),
    "history": lambda governor: governor.history("ada"),
    "status": lambda governor: governor.consent.status("ada", channel="email"),
    "words": lambda governor: governor.consent.history("ada"),
    "get": lambda governor: governor.customers.get("ada"),
}
CHANGES: dict[str, Callable[[Governor], Any]] = {
    "reserve": lambda governor: governor.reserve("ada", channel="email", id="new"),
    "record": lambda governor: governor.record("ada", YESTERDAY, channel="email", id="new"),
    "request": lambda governor: governor.consent.request("ada", channel="push"),
    "set": lambda governor: governor.customers.set("ada", country="FR"),
}


def after_damage(governor: Governor, verb: Callable[[Governor], Any]) -> Iterator[str]:
    """What is wrong with what a verb says, and with what is said of the opt-out afterwards."""
    calls = (verb,) if verb in READS.values() else (verb, READS["check"], READS["status"])
    for call in calls:
        try:
            said = call(governor)
        except FairtouchError as error:
            if not isinstance(error, StoreError):
                yield f"{type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - that there is none is what must hold
            yield f"{type(error).__name__}: {error}"
        else:
            if getattr(said, "allowed", False) or getattr(said, "state", "opted_out") != "opted_out":
                yield "the opt-out is lost"


def damage_done(
    governor: Governor, put: Callable[[bytes], None], documents: list[tuple[Any, bytes]]
) -> dict[str, list[tuple[str, Any]]]:
    """Everything that is wrong, and where."""
    wrong: dict[str, list[tuple[str, Any]]] = {}
    for where, document in documents:
        for name, verb in (READS | CHANGES).items():
            put(document)
            for complaint in after_damage(governor, verb):
                wrong.setdefault(complaint, []).append((name, where))
    return wrong


def flipped(document: bytes, bit: int) -> bytes:
    """The document with one bit the other way round."""
    place, which = divmod(bit, 8)
    return document[:place] + bytes((document[place] ^ 1 << which,)) + document[place + 1 :]


def test_a_document_that_is_cut(damaged):
    """A document that was cut off is a StoreError or answered rightly, and its opt-out is not lost."""
    governor, document, put = damaged
    assert {} == damage_done(governor, put, [(end, document[:end]) for end in range(1, len(document))])


def test_a_document_in_which_a_bit_is_flipped(damaged):
    """A document in which a bit is flipped is a StoreError or answered rightly, and its opt-out is not lost."""
    governor, document, put = damaged
    found = document_of(document)
    start = document.index(found.words)
    words = range(8 * (start - 4), 8 * (start + len(found.words)))  # where most is at stake: every bit
    rest = random.Random(20261121).sample(sorted({*range(8 * len(document))} - {*words}), FLIPS)
    assert {} == damage_done(governor, put, [(divmod(bit, 8), flipped(document, bit)) for bit in (*words, *rest)])


def test_a_document_of_somebody_else(damaged):
    """What fairtouch never wrote is a StoreError, whatever is asked."""
    governor, _, put = damaged
    chance = random.Random(20261121)
    texts = [b"x", b"{}", bytes(500), *(chance.randbytes(chance.randrange(1, 400)) for _ in range(50))]
    for text in texts:
        for verb in (READS | CHANGES).values():
            put(text)
            with pytest.raises(StoreError):
                verb(governor)


def test_a_key_of_another_type(redis_server, redis_url, prefix):
    """A key that holds something of another type is a StoreError."""
    with govern(redis_url, WEEKLY) as governor, redis_server.client() as client:
        key = Keys(prefix).document(governor._digests.customer("ada"))
        client.sadd(key, "member")
        for verb in (READS | CHANGES).values():
            with pytest.raises(StoreError):
                verb(governor)


def test_a_batch_with_a_damaged_document(redis_server, redis_url, prefix):
    """An error about one customer of a batch gives the slots of all others back."""
    with govern(redis_url, WEEKLY) as governor, redis_server.client() as client:
        key = Keys(prefix).document(governor._digests.customer("customer-5"))
        client.set(key, b"damaged")
        touches = [Touch(f"customer-{index}", channel="email", id="news") for index in range(10)]
        with pytest.raises(StoreError):
            list(governor.reserve_many(touches))
        assert [[]] * 9 == [governor.history(touch.customer) for touch in touches if touch.customer != "customer-5"]
