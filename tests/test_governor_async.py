"""What the asynchronous governor promises beyond `Governor`'s words: when it opens and closes, streams, guards.

That it decides alike is shown by `test_fronts_agree.py`, that its text is the same by `test_mirror.py`, and what a
cancellation leaves by `test_cancellation.py`.
"""

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fairtouch import (
    AsyncGovernor,
    Decision,
    Governor,
    Policy,
    PolicyError,
    Refused,
    StoreError,
    Touch,
    TouchError,
)
from fairtouch.stores.memory import MemoryStore
from fairtouch.stores.memory_async import AsyncMemoryStore
from fairtouch.stores.port import Recorded
from fairtouch.testing import FrozenClock
from tests.in_a_loop import NEWS, WEEKLY, Distant, codes, govern, in_a_loop, states, turns

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the file behind `sqlite_url` is."""
    return tmp_path / "touches.db"


@pytest.fixture
def sqlite_url(database: Path) -> str:
    """The URL of an empty SQLite store."""
    return f"sqlite:///{database}"


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """The URL of an empty store, of each kind in turn."""
    return "memory://" if request.param == "memory" else str(request.getfixturevalue(f"{request.param}_url"))


@in_a_loop
async def test_deciding_and_settling(url):
    """Check, reserve, confirm, release, record, history, prune: each does what its namesake does."""
    clock, heard = FrozenClock(NOON), []
    async with govern(url, clock=clock) as governor:
        governor.on_decision(heard.append)
        asked = await governor.check(NEWS)
        taken = [await governor.reserve("ada", channel="email", id=f"news-{number}") for number in (1, 2)]
        settled = await governor.confirm(taken[0].reservation), await governor.release(taken[1].reservation)
        recorded = await governor.record("ada", at=NOON - timedelta(days=1), channel="sms", id="elsewhere")
        assert (True, ["confirmed", "released"]) == (asked.allowed, [one.state for one in settled])
        assert (Recorded.KEPT, ["confirmed", "confirmed"]) == (recorded, await states(governor))
        assert [asked, *taken] == heard
        clock.advance(timedelta(days=500))
        gone = []
        assert (2, 2, []) == (await governor.prune(progress=gone.append), gone[-1], await states(governor))


@in_a_loop
async def test_feedback_and_registers(url, tmp_path):
    """Feedback, consents, suppressions and customers' facts: each is kept, and heard by the next decision."""
    async with govern(url, clock=FrozenClock(NOON)) as governor:
        assert await governor.feedback("reply", customer="ada", channel="email", id="1")
        assert await governor.feedback("hard_bounce", address="ada@example.org", channel="email")
        assert await governor.suppressions.contains("ada@example.org", "email")
        assert ["suppressed"] == codes(await governor.check("ada", channel="email", address="ada@example.org"))
        assert await governor.suppressions.remove("ada@example.org", "email")
        assert await governor.suppressions.add("ada@example.org", "email", "complaint")

        await governor.consent.opt_in("ada", channel="email")
        await governor.consent.request("ada", topic="news")
        await governor.consent.confirm("ada", topic="news")
        assert "opted_in" == (await governor.consent.status("ada", topic="news")).state
        await governor.consent.opt_out("ada")
        assert ["opted_out"] == codes(await governor.check("ada", channel="email"))
        words = [event.word for event in await governor.consent.history("ada")]
        assert ["opt_in", "request", "confirm", "opt_out"] == [str(word) for word in words]

        path, done = tmp_path / "consents.csv", []
        path.write_text("customer,status\n" + "\n".join(f"customer-{number},opted_out" for number in range(1_200)))
        report = await governor.consent.import_file(path, progress=done.append)
        assert (1_200, [500, 1_000, 1_200]) == (report.opted_out, done)
        assert ["opted_out"] == codes(await governor.check("customer-1199", channel="email"))

        await governor.customers.set("ada", timezone="Europe/Paris", wishes={"email": "1 per 7 days"})
        assert "Europe/Paris" == (await governor.customers.get("ada")).timezone
        with pytest.raises(TouchError, match="'fax'"):
            await governor.customers.set("ada", wishes={"fax": "1 per 7 days"})


# Life

VERBS: dict[str, Callable[[AsyncGovernor, Path], Any]] = {
    "check": lambda governor, _: governor.check(NEWS),
    "reserve": lambda governor, _: governor.reserve(NEWS),
    "check_many": lambda governor, _: anext(governor.check_many([NEWS])),
    "reserve_many": lambda governor, _: anext(governor.reserve_many([NEWS])),
    "touch": lambda governor, _: governor.touch(NEWS).__aenter__(),
    "guard": lambda governor, _: governor.guard(lambda: NEWS)(send_nothing)(),
    "record": lambda governor, _: governor.record(NEWS, NOON),
    "feedback": lambda governor, _: governor.feedback("reply", customer="ada", channel="email"),
    "feedback by address": lambda governor, _: governor.feedback("complaint", address="a@b.example", channel="email"),
    "history": lambda governor, _: governor.history("ada"),
    "prune": lambda governor, _: governor.prune(),
    "enter": lambda governor, _: governor.__aenter__(),
    "opt_in": lambda governor, _: governor.consent.opt_in("ada"),
    "opt_out": lambda governor, _: governor.consent.opt_out("ada"),
    "request": lambda governor, _: governor.consent.request("ada"),
    "confirm": lambda governor, _: governor.consent.confirm("ada"),
    "status": lambda governor, _: governor.consent.status("ada"),
    "consent history": lambda governor, _: governor.consent.history("ada"),
    "import_file": lambda governor, path: governor.consent.import_file(path),
    "add": lambda governor, _: governor.suppressions.add("a@b.example", "email"),
    "remove": lambda governor, _: governor.suppressions.remove("a@b.example", "email"),
    "contains": lambda governor, _: governor.suppressions.contains("a@b.example", "email"),
    "set": lambda governor, _: governor.customers.set("ada", country="US"),
    "get": lambda governor, _: governor.customers.get("ada"),
}


async def send_nothing() -> None:
    """What a guard is around."""


@pytest.mark.parametrize("verb", VERBS)
@in_a_loop
async def test_no_verb_goes_before_the_store_is_looked_at(verb, sqlite_url, tmp_path):
    """Whichever verb is the first: a store that was written with another secret is an error, and nothing is done."""
    Governor(Policy(), sqlite_url, secret="one").close()
    path = tmp_path / "consents.csv"
    path.write_text("customer,status\nada,opted_out")
    governor = govern(sqlite_url, secret="another")
    with pytest.raises(StoreError, match="another secret"):
        await VERBS[verb](governor, path)
    await governor.close()


@in_a_loop
async def test_a_reservation_is_settled_by_another_governor(sqlite_url):
    """The first verb may be one that settles what another process reserved."""
    with Governor(Policy(), sqlite_url) as other:
        reservations = [other.reserve("ada", channel="email").reservation for _ in range(2)]
    confirming, releasing = govern(sqlite_url), govern(sqlite_url)
    settled = await confirming.confirm(reservations[0]), await releasing.release(reservations[1])
    assert [("confirmed", True), ("released", True)] == [(one.state, one.changed) for one in settled]
    for governor in (confirming, releasing):
        await governor.close()


def test_making_one_touches_nothing(database, sqlite_url):
    """The constructor needs no event loop and opens no file; what is wrong with its arguments it says at once."""
    govern(sqlite_url)
    govern(f"sqlite:///{database}/no/such/folder/touches.db")
    assert [] == list(database.parent.iterdir())
    for wrong, error in (
        (lambda: AsyncGovernor({"caps": {}}, "memory://"), PolicyError),
        (lambda: govern("sqlite://touches.db"), StoreError),
        (lambda: govern("file://touches.db"), StoreError),
        (lambda: govern("memory://", lease_seconds=0), TouchError),
    ):
        with pytest.raises(error):
            wrong()


@in_a_loop
async def test_a_store_is_tried_again(tmp_path):
    """A store that could not be opened by one verb is opened by the next one; nobody makes a new governor."""
    folder = tmp_path / "later"
    governor = govern(f"sqlite:///{folder}/touches.db")
    with pytest.raises(StoreError, match="does not exist"):
        await governor.reserve(NEWS)
    with pytest.raises(StoreError, match="does not exist"):
        await governor.confirm(Governor(Policy(), "memory://").reserve(NEWS).reservation)
    folder.mkdir()
    assert await governor.reserve(NEWS)
    await governor.close()


@in_a_loop
async def test_the_first_tasks_share_one_opening():
    """Of a hundred tasks that use a new governor at once, one introduces it to the store."""
    store = Distant()
    governor = govern(store)
    decisions = await asyncio.gather(*(governor.reserve("ada", channel="email") for _ in range(100)))
    assert (1, 5) == (store.bound, sum(decision.allowed for decision in decisions))


@in_a_loop
async def test_a_governor_closes_what_it_opened(database, sqlite_url):
    """A store that was handed in stays open; a file is closed, more than once if need be, used or not."""
    store = Distant()
    async with govern(store):
        pass
    unused = govern(sqlite_url)
    await unused.close()
    async with govern(sqlite_url) as governor:
        await governor.reserve(NEWS)
    await governor.close()
    assert (0, [database]) == (store.closed, list(database.parent.iterdir()))
    for closed in (governor, unused):
        with pytest.raises(StoreError, match="was closed"):
            await closed.check(NEWS)


@in_a_loop
async def test_a_governor_that_cannot_be_entered_is_closed(database, sqlite_url):
    """`async with` closes the file also when it is the wrong one."""
    Governor(Policy(), sqlite_url, secret="one").close()
    with pytest.raises(StoreError, match="another secret"):
        async with govern(sqlite_url, secret="another"):
            pytest.fail("the body must not run")
    assert [database] == list(database.parent.iterdir())


@pytest.mark.parametrize("make", [MemoryStore, lambda: None, lambda: 5])
def test_what_is_no_asynchronous_store_is_said_so(make):
    """A store is one or the other by its type, and neither front takes the other's."""
    with pytest.raises(StoreError, match="no asynchronous store"):
        govern(make())
    with pytest.raises(StoreError, match="no store"):
        Governor(Policy(), AsyncMemoryStore())


@in_a_loop
async def test_both_fronts_may_share_a_memory():
    """An asynchronous store over a memory store is the same store."""
    memory = MemoryStore()
    with Governor(Policy.model_validate(WEEKLY), memory) as governor:
        assert await govern(AsyncMemoryStore(memory)).reserve(NEWS)
        assert ["in_flight"] == codes(governor.check(NEWS))


def test_a_governor_goes_from_loop_to_loop(url):
    """One that was made before there was a loop works in this one and in the next one."""
    governor = govern(url)
    taken = [asyncio.run(governor.reserve("ada", channel="email")).allowed for _ in range(6)]
    asyncio.run(governor.close())
    assert [*[True] * 5, False] == taken


# Caps


@in_a_loop
async def test_a_thousand_tasks_fill_a_cap_exactly(url):
    """Of a thousand tasks that send to one customer at once exactly as many are allowed as the cap says."""
    async with govern(url) as governor:
        decisions = await asyncio.gather(*(governor.reserve("ada", channel="email") for _ in range(1_000)))
        assert (5, 5) == (sum(decision.allowed for decision in decisions), len(await states(governor)))


# Streams


@pytest.mark.parametrize("take", ["check_many", "reserve_many"])
@in_a_loop
async def test_a_long_stream_lets_others_take_their_turn(take):
    """A stream over a store that never waits gives way after every batch; so does an import."""
    ticks = count()

    async def tick() -> None:
        while True:
            next(ticks)
            await asyncio.sleep(0)

    other = asyncio.create_task(tick())
    touches = (Touch(f"customer-{number}", channel="email") for number in range(5_000))
    assert 5_000 == len([decision async for decision in getattr(govern("memory://"), take)(touches)])
    assert next(ticks) >= 10
    other.cancel()


async def forever(read: list[int]) -> AsyncIterator[Touch]:
    """Touches without an end, one of which each is noted when it is read."""
    for number in count():
        read.append(number)
        yield Touch(f"customer-{number}", channel="email")


@in_a_loop
async def test_a_stream_is_read_in_batches(url):
    """Of an endless asynchronous stream no more than a batch is read ahead; results come in its order."""
    read: list[int] = []
    async with govern(url) as governor, aclosing(governor.reserve_many(forever(read))) as decisions:
        asked = [decision.touch.customer async for _, decision in zip_with(range(501), decisions)]
    assert ([f"customer-{number}" for number in range(501)], 1_000) == (asked, len(read))


async def zip_with(numbers: Iterable[int], answers: AsyncIterator[Decision]) -> AsyncIterator[tuple[int, Decision]]:
    """So many of the answers."""
    for number in numbers:
        yield number, await anext(answers)


@in_a_loop
async def test_priorities_are_judged_within_a_batch(url):
    """Among one customer's touches the higher priority takes the slot; the results keep the input's order."""
    touches = [Touch("ada", channel="email", priority=priority) for priority in (1, 9)]
    async with govern(url, {"caps": {"daily": {"limit": "1 per 24 hours"}}}) as governor:
        assert [False, True] == [decision.allowed async for decision in governor.reserve_many(touches)]


async def held_by(governor: AsyncGovernor, customers: int) -> list[int]:
    """Who has a touch in the ledger."""
    return [number for number in range(customers) if await states(governor, f"customer-{number}")]


@in_a_loop
async def test_leaving_a_stream_early_gives_the_rest_back(url):
    """What was reserved ahead and never looked at is released when the stream is closed, also by a cancelled task."""
    async with govern(url) as governor:

        async def take(first: int) -> None:
            touches = (Touch(f"customer-{number}", channel="email") for number in range(first, first + 10))
            async with aclosing(governor.reserve_many(touches)) as decisions:
                for _ in range(3):
                    await anext(decisions)
                if first:
                    asyncio.current_task().cancel()

        await take(0)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(take(10))
        assert [0, 1, 2, 10, 11, 12] == await held_by(governor, 20)


@in_a_loop
async def test_a_stream_that_is_only_left_gives_the_rest_back(url):
    """Without `aclosing` the event loop closes the stream soon after nobody can go on with it."""
    async with govern(url) as governor:
        async for _ in governor.reserve_many(Touch(f"customer-{number}", channel="email") for number in range(5)):
            break
        gc.collect()
        await turns(2)
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
        assert [0] == await held_by(governor, 5)


@in_a_loop
async def test_a_mistake_in_a_stream_gives_its_batch_back(url):
    """What is no touch is an error of its batch, of which nothing is taken."""
    async with govern(url) as governor:
        with pytest.raises(TouchError):
            [_ async for _ in governor.reserve_many([NEWS, 5])]
        assert [] == await states(governor)


# Guards


@in_a_loop
async def test_a_guarded_coroutine_function_stays_one(url):
    """It gets its arguments, gives its result, keeps its name, and its touch is confirmed when it was awaited."""
    async with govern(url) as governor:
        during = []

        @governor.guard(lambda customer, issue: Touch(customer, channel="email", id=f"news-{issue}"))
        async def send_newsletter(customer: str, issue: int) -> tuple[str, int]:
            during.extend(await states(governor))
            return customer, issue

        assert (("ada", 7), "send_newsletter") == (await send_newsletter("ada", issue=7), send_newsletter.__name__)
        assert (["reserved"], ["confirmed"]) == (during, await states(governor))
        assert inspect.iscoroutinefunction(send_newsletter)
        with pytest.raises(Refused):
            await send_newsletter("ada", 7)


@in_a_loop
async def test_a_refused_call_raises_skips_or_calls_back(url):
    """As its sender wishes, a refused call raises, returns the decision, or what a plain callable makes of it."""
    async with govern(url, {"caps": {"never": {"limit": "0 per 1 day"}}}) as governor:
        guarded = [governor.guard(lambda: NEWS, on_refused=wish)(send_nothing) for wish in ("skip", codes)]
        assert [["cap_reached"], ["cap_reached"]] == [codes(await guarded[0]()), await guarded[1]()]
        with pytest.raises(Refused):
            await governor.guard(lambda: NEWS)(send_nothing)()
        with pytest.raises(Refused):
            async with governor.touch(NEWS):
                pytest.fail("the body must not run")


def test_only_coroutine_functions_are_guarded():
    """A plain function, a generator, and a wish that nobody would await are errors when the guard is made."""
    governor = govern("memory://")

    def send() -> None:
        """A plain function."""

    async def stream() -> AsyncIterator[None]:
        yield

    with pytest.raises(TypeError, match="guard it by a Governor"):
        governor.guard(lambda: NEWS)(send)
    with pytest.raises(TypeError, match="generator"):
        governor.guard(lambda: NEWS)(stream)
    for wish, said in ((send_nothing, "coroutine"), ("ignore", "'skip'")):
        with pytest.raises(TypeError, match=said):
            governor.guard(lambda: NEWS, on_refused=wish)
