"""What a cancellation leaves: a reservation is not there at all, or whole; what was sent stays settled."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fairtouch import AsyncGovernor, Governor, Policy, StoreUnavailable, Touch
from tests.in_a_loop import NEWS, Distant, Held, codes, govern, held, in_a_loop, states, turns


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the file behind `sqlite_url` is."""
    return tmp_path / "touches.db"


@pytest.fixture
def sqlite_url(database: Path) -> str:
    """The URL of an empty SQLite store."""
    return f"sqlite:///{database}"


@pytest.fixture(params=["memory", "distant", "sqlite"])
def store(request: pytest.FixtureRequest, sqlite_url: str) -> str | Distant:
    """An empty store, of each kind in turn."""
    return {"memory": "memory://", "distant": Distant(), "sqlite": sqlite_url}[request.param]


@in_a_loop
async def test_the_loop_goes_on_while_the_file_is_held(database, sqlite_url):
    """While another process holds the file, everything else in the event loop goes on."""
    async with govern(sqlite_url) as governor:
        with held(database) as holder:
            task = asyncio.create_task(governor.reserve(NEWS))
            await turns(1_000)
            assert not task.done()
            holder.let_go()
            assert await task


@in_a_loop
async def test_an_outage_lets_out_what_the_policy_says(database, sqlite_url, monkeypatch):
    """A store that does not answer refuses nothing: a category that may go unverified goes, any other is an error."""
    monkeypatch.setattr("fairtouch.stores.sqlite_connections._BUSY_SECONDS", 0.05)
    Governor(Policy(), sqlite_url).close()
    async with govern(sqlite_url, {"fail_open": ["service"]}) as governor:
        with held(database):
            decision = await governor.reserve("ada", channel="sms", category="service")
            assert (True, None) == (decision.unverified, decision.reservation)
            with pytest.raises(StoreUnavailable):
                await governor.reserve("ada", channel="sms")


# Reserving


async def assert_clean(governor: AsyncGovernor, touch: Touch = NEWS) -> None:
    """Nothing of the touch is counted, and its id is free."""
    assert [] == await states(governor, touch.customer)
    again = await governor.reserve(touch)
    assert again.allowed, again
    await governor.release(again.reservation)


async def cancel_at_every_turn(task: asyncio.Task[Any], holder: Held) -> None:
    """Cancel it while the file is held, and afterwards at every turn of the loop until it is over."""
    for _ in range(20):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done(), "it must wait for its thread"
    holder.let_go()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()


@in_a_loop
async def test_a_cancelled_reservation_leaves_nothing(database, sqlite_url):
    """A reserve that is cancelled before its transaction gives back what the transaction then takes, and only then
    raises, however often it is cancelled meanwhile.
    """
    async with govern(sqlite_url) as governor:
        for number in range(1, 20):
            touch = Touch(f"customer-{number}", channel="email", id="1")
            with held(database) as holder:
                task = asyncio.create_task(governor.reserve(touch))
                await turns(number)
                await cancel_at_every_turn(task, holder)
            await assert_clean(governor, touch)


@in_a_loop
async def test_a_reservation_is_cancelled_at_any_point(store):
    """Wherever a cancellation meets a reserve, it is either not there at all, or whole: allowed, counted, settled."""
    whole = 0
    async with govern(store) as governor:
        for number in range(300):
            touch = Touch(f"customer-{number}", channel="email", id="1")
            task = asyncio.create_task(governor.reserve(touch))
            await turns(number % 100)
            task.cancel()
            try:
                decision = await task
            except asyncio.CancelledError:
                await assert_clean(governor, touch)
            else:
                whole += 1
                settled = await governor.confirm(decision.reservation)
                assert (["confirmed"], True) == (await states(governor, touch.customer), settled.changed)
    assert whole


@in_a_loop
async def test_a_first_reservation_that_is_cancelled_leaves_nothing(database, sqlite_url):
    """A cancellation while the store is opened takes nothing, and the next verb opens it."""
    Governor(Policy(), sqlite_url).close()
    governor = govern(sqlite_url, {"ledger": {"keep": "40 days"}})
    with held(database) as holder:
        task = asyncio.create_task(governor.reserve(NEWS))
        await turns(20)
        await cancel_at_every_turn(task, holder)
    await assert_clean(governor)
    await governor.close()


@in_a_loop
async def test_nothing_is_given_back_before_something_was_asked():
    """A reserve that is cancelled while the store is opened does not go there to give back what it cannot have."""
    store = Distant()
    task = asyncio.create_task(govern(store).reserve(NEWS))
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (1, 0) == (store.bound, store.released)


@in_a_loop
async def test_a_time_out_of_a_reservation_leaves_nothing(database, sqlite_url):
    """`asyncio.timeout` around a reserve is a cancellation like any other, and reaches the caller as TimeoutError."""
    async with govern(sqlite_url) as governor:
        with held(database) as holder:
            asyncio.get_running_loop().call_later(0.05, holder.let_go)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await governor.reserve(NEWS)
        await assert_clean(governor)


def test_a_loop_that_ends_leaves_nothing(database, sqlite_url):
    """A reserve that is still waiting when `asyncio.run` ends, and cancels every task, gives its slot back as well."""

    async def main() -> None:
        await governor.check(NEWS)
        task = asyncio.create_task(governor.reserve(NEWS))
        await turns(5)
        asyncio.get_running_loop().call_later(0.01, holder.let_go)
        assert not task.done()

    governor = govern(sqlite_url)
    with Governor(Policy(), sqlite_url), held(database) as holder:
        asyncio.run(main())
    asyncio.run(assert_clean(governor))
    asyncio.run(governor.close())


@in_a_loop
async def test_what_cannot_be_given_back_is_in_the_log(database, sqlite_url, monkeypatch, caplog):
    """While the store is away a cancellation is one all the same; the log says what may have stayed taken."""
    monkeypatch.setattr("fairtouch.stores.sqlite_connections._BUSY_SECONDS", 0.05)
    async with govern(sqlite_url) as governor:
        with held(database):
            task = asyncio.create_task(governor.reserve(NEWS))
            await turns(10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert "a slot could not be given back" in caplog.text
        await assert_clean(governor)


@in_a_loop
async def test_a_cancelled_batch_leaves_nothing(database, sqlite_url):
    """A batch that is cancelled before its transaction takes none of its slots."""
    touches = [Touch(f"customer-{number}", channel="email", id="1") for number in range(20)]
    async with govern(sqlite_url) as governor:
        with held(database) as holder:
            task = asyncio.create_task(anext(governor.reserve_many(touches)))
            await turns(10)
            await cancel_at_every_turn(task, holder)
        for touch in touches:
            await assert_clean(governor, touch)


@in_a_loop
async def test_a_cancellation_inside_keeps_the_slot(store):
    """A send that is cancelled may have gone out: the slot and the id stay taken."""
    async with govern(store) as governor:
        inside = asyncio.Event()

        @governor.guard(lambda: NEWS)
        async def send() -> None:
            inside.set()
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(send())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (["reserved"], ["in_flight"]) == (await states(governor), codes(await governor.check(NEWS)))


ENDS = pytest.mark.parametrize(("error", "after"), [(None, ["confirmed"]), (ValueError("a broken template"), [])])


def sending(governor: AsyncGovernor, way: str, send: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """A task that sends, guarded in one way or the other."""

    async def send_around() -> None:
        async with governor.touch(NEWS):
            await send()

    return asyncio.create_task(governor.guard(lambda: NEWS)(send)() if way == "guard" else send_around())


@ENDS
@pytest.mark.parametrize("way", ["touch", "guard"])
@in_a_loop
async def test_settling_ends_whoever_cancels(way, error, after, database, sqlite_url):
    """A cancellation that comes while a touch is confirmed, or given back, is raised after that, not instead."""
    async with govern(sqlite_url) as governor:
        holding: asyncio.Future[Held] = asyncio.get_running_loop().create_future()

        async def send() -> None:
            holding.set_result(Held(database))
            if error is not None:
                raise error

        task = sending(governor, way, send)
        holder = await holding
        await turns(10)
        await cancel_at_every_turn(task, holder)
        assert after == await states(governor)


@ENDS
@pytest.mark.parametrize("way", ["touch", "guard"])
@in_a_loop
async def test_settling_with_a_distant_store_ends_whoever_cancels(way, error, after):
    """The same holds for a store where a call that is cancelled on its way does not happen."""
    async with govern(Distant()) as governor:
        sent = asyncio.Event()

        async def send() -> None:
            sent.set()
            if error is not None:
                raise error

        task = sending(governor, way, send)
        await sent.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert (True, after) == (task.cancelled(), await states(governor))


@in_a_loop
async def test_an_error_that_was_handled_before_the_send_says_nothing_about_it(store):
    """Whoever tries again after a time-out gets the slot back when the second try is certainly refused."""
    async with govern(store) as governor:

        async def try_again() -> None:
            try:
                raise TimeoutError("the first server")
            except TimeoutError:
                async with governor.touch(NEWS):
                    raise ValueError("the second server said no") from None

        with pytest.raises(ValueError, match="second"):
            await try_again()
        assert [] == await states(governor)


@in_a_loop
async def test_a_store_that_fails_while_settling_changes_no_outcome(database, sqlite_url, caplog):
    """What was sent was sent: the caller gets its result, and the log says that the slot stays taken."""
    async with govern(sqlite_url) as governor:

        @governor.guard(lambda: NEWS)
        async def send() -> str:
            await governor.close()
            return "sent"

        assert "sent" == await send()
    assert "a touch could not be settled" in caplog.text
