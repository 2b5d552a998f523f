"""What was begun ends before a cancellation goes on, however often and by whomever the cancelling is done."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fairtouch.finishing import finished
from fairtouch.stores.sqlite_async import in_thread
from tests.in_a_loop import in_a_loop


class Work:
    """Something in steps, which notes how often it was begun and ended."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = self.ended = 0
        self.error = error

    async def __call__(self, steps: int) -> str:
        """Take so many turns of the loop."""
        self.begun += 1
        for _ in range(steps):
            await asyncio.sleep(0)
        self.ended += 1
        if self.error is not None:
            raise self.error
        return "done"


@in_a_loop
async def test_an_end_is_returned():
    """Without a cancellation it is a call like any other: its result, or its error."""
    assert "done" == await finished(Work(), 3)
    with pytest.raises(ValueError, match="no"):
        await finished(Work(ValueError("no")), steps=3)


@pytest.mark.parametrize("error", [None, ValueError("no")])
@in_a_loop
async def test_cancelling_again_and_again_waits_for_the_end(error):
    """A caller who is cancelled at every turn of the loop raises CancelledError, once, after the end."""
    work = Work(error)
    task = asyncio.create_task(finished(work, 20))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
        task.cancel()
    assert (1, 1, True, True) == (work.begun, work.ended, task.cancelled(), turns >= 20)


@in_a_loop
async def test_who_cancels_every_task_does_not_stop_it():
    """A sweep over all tasks, as at the end of `asyncio.run`, reaches the inner one too: it is begun once more."""
    work = Work()
    task = asyncio.create_task(finished(work, 5))
    for _ in range(3):
        await asyncio.sleep(0)
    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        each.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (2, 1) == (work.begun, work.ended)


@in_a_loop
async def test_what_always_cancels_itself_ends():
    """A call that is cancelled every time is not begun for ever."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await finished(give_up)


def test_a_thread_is_awaited_at_the_end_of_the_loop():
    """When `asyncio.run` ends and cancels what is left, a call in a thread is over before its caller goes on."""
    may_end, seen = threading.Event(), []

    def work() -> None:
        may_end.wait(10)
        seen.append("over")

    async def call() -> None:
        try:
            with ThreadPoolExecutor(1) as threads:
                await in_thread(threads, work)
        finally:
            seen.append("caller")

    async def main() -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, may_end.set)
        assert not task.done()

    asyncio.run(main())
    assert ["over", "caller"] == seen
