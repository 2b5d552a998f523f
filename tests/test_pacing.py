"""A provider never gets more than its rate, from threads, tasks and hosts; who waits, waits no longer than needed."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from fairtouch.errors import PolicyError, StoreError, StoreUnavailable, TouchError
from fairtouch.in_doubt import is_in_doubt
from fairtouch.pacing import AsyncPacer, Pacer, TooFast
from tests.in_a_loop import InALoop, in_a_loop
from tests.redis_servers import Server

Call = tuple[float, float]
"""When a call of `wait` began, and when it returned."""

PATIENCE_SECONDS = 3  # what a busy machine may add to a wait


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    """Where sends are remembered."""
    return "memory://" if request.param == "memory" else str(request.getfixturevalue("redis_url"))


@pytest.fixture(params=["called", "awaited"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes pacers of either kind, to be called, and closes them."""
    made: list[Any] = []
    runner = asyncio.Runner()

    def make(rates: Any, store: str = "memory://") -> Any:
        awaited = request.param == "awaited"
        made.append(InALoop(AsyncPacer(rates, store), runner) if awaited else Pacer(rates, store))
        return made[-1]

    yield make
    for pacer in made:
        pacer.close()
    runner.close()


@pytest.fixture
def client(redis_server: Server) -> Iterator[Redis]:
    """To look at what is on the server."""
    with redis_server.client() as found:
        yield found


def prefix(url: str) -> str:
    """Of the keys of one test."""
    return url.partition("prefix=")[2].partition("&")[0]


def timed(wait: Callable[[], float]) -> Call:
    """One wait, and when it was."""
    began = time.monotonic()
    waited = wait()
    returned = time.monotonic()
    assert 0 <= waited <= returned - began
    return began, returned


def most_in_a_window(calls: list[Call], period: float) -> int:
    """How many sends certainly lie in one half-open window of that length: calls that began and returned within it."""
    return max(sum(began >= start and returned < start + period for began, returned in calls) for start, _ in calls)


def check_pace(calls: list[Call], sends: int, period: float) -> None:
    """Never more than `sends` in a window, and not much slower than that either."""
    took = max(returned for _, returned in calls) - min(began for began, _ in calls)
    needed = (len(calls) - 1) // sends * period
    assert sends >= most_in_a_window(calls, period)
    assert needed <= took <= needed + PATIENCE_SECONDS


# Never more than the rate


def test_threads_keep_one_pace(store: str) -> None:
    """Eight threads that share a pacer never send more than the rate within any second."""
    with Pacer({"ses": "10/second"}, store) as pacer, ThreadPoolExecutor(8) as pool:
        calls = list(pool.map(lambda _: timed(lambda: pacer.wait("ses")), range(18)))
    check_pace(calls, 10, 1)


@in_a_loop
async def test_tasks_keep_one_pace_in_their_order() -> None:
    """Tasks of one loop never send more than the rate, and nobody overtakes."""
    order = []

    async def send(number: int) -> Call:
        began = time.monotonic()
        await pacer.wait("ses")
        order.append(number)
        return began, time.monotonic()

    async with AsyncPacer({"ses": "5/second"}) as pacer:
        calls = await asyncio.gather(*(send(number) for number in range(8)))
    check_pace(calls, 5, 1)
    assert list(range(8)) == order


HOST = """
import asyncio, json, sys, time
url, kind, ahead = sys.argv[1], sys.argv[2], float(sys.argv[3])
right = time.time
time.time, time.time_ns = lambda: right() + ahead, lambda: int((right() + ahead) * 1e9)  # a clock that is wrong
from fairtouch.pacing import AsyncPacer, Pacer
calls = []
def called():
    with Pacer({"ses": "10/second"}, url) as pacer:
        for _ in range(7):
            began = time.monotonic()
            pacer.wait("ses")
            calls.append((began, time.monotonic()))
async def awaited():
    async def send():
        began = time.monotonic()
        await pacer.wait("ses")
        calls.append((began, time.monotonic()))
    async with AsyncPacer({"ses": "10/second"}, url) as pacer:
        await asyncio.gather(*(send() for _ in range(7)))
called() if kind == "called" else asyncio.run(awaited())
print(json.dumps(calls))
"""


def test_hosts_keep_one_pace(redis_url: str, client: Redis) -> None:
    """Processes that share a Redis never send more than the rate within any second, whatever their clocks say."""
    hosts = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", HOST, redis_url, kind, ahead], stdout=subprocess.PIPE)
        for kind, ahead in (("called", "0"), ("called", "0.7"), ("awaited", "-3600"))
    ]
    sent: set[float] = set()
    try:
        while any(host.poll() is None for host in hosts):
            for key in client.keys(f"{prefix(redis_url)}:pace:*"):
                sent.update(map(float, client.lrange(key, 0, -1)))
            time.sleep(0.01)
        calls = [tuple(call) for host in hosts for call in json.loads(host.communicate()[0])]
    finally:
        for host in hosts:
            host.kill()
    check_pace(calls, 10, 1)
    instants = sorted(sent)
    assert 21 == len(instants)
    assert all(later - earlier > 1 for earlier, later in zip(instants, instants[10:], strict=False))


def test_a_new_rate_counts_what_went_out_under_the_old(make: Callable[..., Any], redis_url: str) -> None:
    """While workers are deployed with another rate, all keep to the higher one, and those with the lower to theirs."""
    old, new = make({"ses": "3/minute"}, redis_url), make({"ses": "5/minute"}, redis_url)
    for pacer in (new, old, new):
        pacer.wait("ses", timeout=0)
    with pytest.raises(TooFast):
        old.wait("ses", timeout=0)
    for _ in range(2):
        new.wait("ses", timeout=0)
    with pytest.raises(TooFast):
        new.wait("ses", timeout=0)


def test_each_sender_has_a_pace_of_its_own(make: Callable[..., Any], store: str) -> None:
    """A sender that is at its rate holds nobody else up."""
    pacer = make({"ses": "1/minute", "twilio": "1 per 2 minutes"}, store)
    assert 0 <= pacer.wait("ses", timeout=0) < PATIENCE_SECONDS
    assert 0 <= pacer.wait("twilio", timeout=0) < PATIENCE_SECONDS
    for sender in ("ses", "twilio"):
        with pytest.raises(TooFast):
            pacer.wait(sender, timeout=0)


SET_BACK = """
import time
right = time.time
def set_clock(ahead):
    time.time, time.time_ns = lambda: right() + ahead, lambda: int((right() + ahead) * 1e9)
from fairtouch.pacing import Pacer
pacer = Pacer({"ses": "2/second"})
for _ in range(2):
    pacer.wait("ses")
set_clock(-3600)
print(*(pacer.wait("ses") for _ in range(2)))
"""


def test_a_clock_that_is_set_back_stops_nobody() -> None:
    """When somebody sets this machine's clock back, a sender waits for a period, and not for an hour."""
    command = [sys.executable, "-W", "error", "-c", SET_BACK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    first, second = map(float, done.stdout.split())
    assert 0.9 < first < PATIENCE_SECONDS
    assert second < 0.9


def test_a_redis_whose_clock_is_set_back_stops_nobody(redis_url: str, client: Redis) -> None:
    """The same of the server's clock: as if what is remembered had been sent just now."""
    with Pacer({"ses": "2/second"}, redis_url) as pacer:
        pacer.wait("ses")
        (key,) = client.keys(f"{prefix(redis_url)}:pace:*")
        client.delete(key)
        client.rpush(key, time.time() + 3600, time.time() + 3599)
        assert 0.9 < pacer.wait("ses") < PATIENCE_SECONDS
    assert 0 < client.pttl(key) <= 1000


# Waiting


def test_a_wait_is_as_long_as_needed(make: Callable[..., Any], redis_url: str) -> None:
    """What fits goes at once; what does not waits until the oldest send is a period old."""
    pacer = make({"ses": "3/second"}, redis_url)
    waits = [pacer.wait("ses") for _ in range(4)]
    assert sum(waits[:3]) < 0.9
    assert 1 - sum(waits[:3]) - 0.1 < waits[3] < 1 + PATIENCE_SECONDS


def test_only_the_first_in_line_asks(redis_url: str, client: Redis) -> None:
    """However many threads wait, Redis is asked about twice for each send."""

    def asked() -> int:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])

    with Pacer({"ses": "4/second"}, redis_url) as pacer, ThreadPoolExecutor(8) as pool:
        pacer.wait("ses")
        before = asked()
        list(pool.map(lambda _: pacer.wait("ses"), range(7)))
    assert 7 < asked() - before <= 20


def test_a_time_out_is_raised_at_once(make: Callable[..., Any], store: str) -> None:
    """Nobody sleeps for a send that cannot fit in time; the error tells when it will, and nothing was taken."""
    pacer = make({"ses": "2/minute"}, store)
    pacer.wait("ses", timeout=5)
    pacer.wait("ses", timeout=5)
    began = time.monotonic()
    with pytest.raises(
        TooFast, match=r"'ses' cannot send within timeout=20 s: .* in (5\d|60)\.\d+ s; put the message back"
    ):
        pacer.wait("ses", timeout=20)
    with pytest.raises(TooFast) as caught:
        pacer.wait("ses", timeout=0)
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert "ses" == caught.value.sender
    assert 50 < caught.value.retry_after_seconds < 60.1
    assert not is_in_doubt(caught.value)


def test_a_time_out_counts_the_time_in_line() -> None:
    """A thread that stands behind another gives up when its own time is over."""
    pacer = Pacer({"ses": "1/second"})
    pacer.wait("ses")
    first = threading.Thread(target=pacer.wait, args=("ses",))
    first.start()
    while not pacer._turns["ses"].locked():
        time.sleep(0.001)
    with pytest.raises(TooFast, match="others have been waiting longer") as caught:
        pacer.wait("ses", timeout=0.2)
    first.join()
    pacer.close()
    assert caught.value.retry_after_seconds is None


@in_a_loop
async def test_a_task_in_line_gives_up_too() -> None:
    """The same of tasks; one that is cancelled leaves its place to the next and has taken nothing."""
    async with AsyncPacer({"ses": "1/second"}) as pacer:
        await pacer.wait("ses")
        first = asyncio.create_task(pacer.wait("ses"))
        await asyncio.sleep(0)
        for seconds in (0, 0.1):
            with pytest.raises(TooFast, match="others have been waiting longer"):
                await pacer.wait("ses", timeout=seconds)
        first.cancel()
        assert await pacer.wait("ses") < 1 + PATIENCE_SECONDS
    assert first.cancelled()


# What is wrong, in words


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({}, "rates: name at least one sender and its rate, such as {'ses': '14/second'}"),
        ("14/second", "rates: name at least one sender"),
        ({"": "14/second"}, "rates: a sender's name is a text of 1 to 64 characters"),
        ({7: "14/second"}, "rates: a sender's name is a text"),
        ({"ses": "fast"}, "rates['ses']: 'fast' is no rate; write '14/second' or '300 per 5 minutes'"),
        ({"ses": 14}, "rates['ses']: '14' is no rate"),
        ({"ses": "-1/second"}, "rates['ses']: '-1/second' is no rate"),
        ({"ses": "14/fortnight"}, "rates['ses']: '14/fortnight' is no rate"),
        ({"ses": "5/0 seconds"}, "rates['ses']: '5/0 seconds' is no rate"),
        ({"ses": "0/second"}, "rates['ses']: 0 sends are no pace; write 1 to 1,000,000, or leave the sender out"),
        ({"ses": "1000001/day"}, "rates['ses']: 1000001 sends are no pace"),
        ({"ses": "1000/month"}, "rates['ses']: a pace is over seconds, minutes, hours or days; write '30 days'"),
        ({"ses": "1 per 99999 days"}, "rates['ses']: a pace is over"),
        ({"ses": "14/second; 50000/day"}, "rates['ses']: '14/second; 50000/day' has several rates"),
    ],
)
def test_a_rate_that_cannot_be_kept_is_an_error(make: Callable[..., Any], rates: Any, words: str) -> None:
    """The error names the sender and the text, and says what to write."""
    with pytest.raises(PolicyError) as caught:
        make(rates)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("text", ["2/minute", "2 per minute", "2 per 1 minute", " 2 / 60 seconds "])
def test_spellings_of_a_rate_are_one_rate(make: Callable[..., Any], redis_url: str, text: str) -> None:
    """However a rate is written, its sends are the same ones."""
    make({"ses": "2/MINUTE"}, redis_url).wait("ses", timeout=0)
    pacer = make({"ses": text}, redis_url)
    pacer.wait("ses", timeout=0)
    with pytest.raises(TooFast):
        pacer.wait("ses", timeout=0)


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("sqlite:///touches.db", "'sqlite' keeps no pace; write 'memory://' for one process, or 'redis://"),
        ("memory://shop", "'memory' keeps no pace"),
        (None, "'' keeps no pace"),
        ("redis://localhost:port/0", "redis://: "),
        ("redis://localhost/0?colour=red", "redis://: "),
        ("redis://localhost/0?deadline_seconds=0", "deadline_seconds=0 is no time"),
    ],
)
def test_a_store_that_keeps_no_pace_is_an_error(make: Callable[..., Any], store: Any, words: str) -> None:
    """A URL is looked at when the pacer is made."""
    with pytest.raises(StoreError) as caught:
        make({"ses": "14/second"}, store)
    assert str(caught.value).startswith(words)


def test_an_unknown_sender_is_an_error(make: Callable[..., Any]) -> None:
    """The error names the senders that there are."""
    pacer = make({"ses": "14/second", "twilio": "1/second"})
    with pytest.raises(TouchError, match="'sess' is no sender of this pacer; there is 'ses', 'twilio'"):
        pacer.wait("sess")


@pytest.mark.parametrize("timeout", [-1, "5", float("nan"), float("inf")])
def test_a_time_out_is_a_number_of_seconds(make: Callable[..., Any], timeout: Any) -> None:
    """Anything else is an error, and nothing is taken."""
    pacer = make({"ses": "1/minute"})
    with pytest.raises(TouchError, match="timeout: pass seconds, 0 or more"):
        pacer.wait("ses", timeout=timeout)
    pacer.wait("ses", timeout=0)


# Redis


@pytest.mark.parametrize("listens", [False, True])
def test_a_redis_that_does_not_answer_is_no_permission(make: Callable[..., Any], listens: bool) -> None:
    """The error comes soon and says not to send, and a governor around it knows that nothing went out."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        pacer = make({"ses": "14/second"}, f"redis://127.0.0.1:{silent.getsockname()[1]}/0?deadline_seconds=0.2")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"Redis does not keep the pace now .* Do not send") as caught:
            pacer.wait("ses")
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert not is_in_doubt(caught.value)


def test_a_lost_connection_is_made_anew(make: Callable[..., Any], redis_url: str, client: Redis) -> None:
    """A server that dropped idle connections and forgot its scripts is asked again."""
    pacer = make({"ses": "14/second"}, redis_url)
    pacer.wait("ses")
    client.script_flush()
    client.client_kill_filter(_type="normal", skipme=True)
    pacer.wait("ses")


def test_what_is_not_ours_is_an_error(make: Callable[..., Any], redis_url: str, client: Redis) -> None:
    """A key that holds something else is not written over."""
    pacer = make({"ses": "14/second"}, redis_url)
    pacer.wait("ses")
    (key,) = client.keys(f"{prefix(redis_url)}:pace:*")
    client.set(key, "theirs")
    with pytest.raises(StoreError, match="Redis refused to keep a pace"):
        pacer.wait("ses")
    assert b"theirs" == client.get(key)


def test_keys_tell_nothing_and_go_away(make: Callable[..., Any], redis_url: str, client: Redis) -> None:
    """A key holds no sender's name, as it may be somebody's address, and is gone a period after the last send."""
    pacer = make({"ada@example.org": "14 per 3 seconds"}, redis_url)
    pacer.wait("ada@example.org")
    keys = client.keys(f"{prefix(redis_url)}*")
    assert 1 == len(keys)
    assert b"ada" not in keys[0]
    assert 0 < client.pttl(keys[0]) <= 3000


# The end


def test_a_closed_pacer_lets_nobody_through(make: Callable[..., Any], store: str) -> None:
    """Closing twice is closing once; after it nothing is taken."""
    pacer = make({"ses": "14/second"}, store)
    pacer.wait("ses")
    pacer.close()
    pacer.close()
    with pytest.raises(StoreError, match="this pacer was closed"):
        pacer.wait("ses")


def test_the_timer_of_memory_ends_by_itself() -> None:
    """The thread that `limits` starts for memory:// is over soon after the last send; none is left behind."""
    before = threading.active_count()
    with Pacer({"ses": "14/second"}) as pacer:
        pacer.wait("ses")
    began = time.monotonic()
    while threading.active_count() > before and time.monotonic() - began < PATIENCE_SECONDS:
        time.sleep(0.005)
    assert before >= threading.active_count()
