"""The threads of an asynchronous SQLite store are its own: few, apart from the application's, and gone when closed."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairtouch import Governor, Policy, StoreError
from tests.in_a_loop import NEWS, govern, held, in_a_loop, states, turns
from tests.workers import in_new_process
from tests.workers.forks import forked, joined


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "touches.db"


def threads() -> list[threading.Thread]:
    """Those that stores have now."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("fairtouch-sqlite")]


@in_a_loop
async def test_a_busy_application_holds_up_no_decision(database):
    """While every thread of the loop's default executor is taken, decisions are made."""
    may_end = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    busy = asyncio.create_task(asyncio.to_thread(may_end.wait, 10))
    async with govern(f"sqlite:///{database}") as governor:
        assert await governor.reserve(NEWS)
        assert not busy.done()
    may_end.set()
    await busy


@in_a_loop
async def test_a_file_that_is_held_holds_up_no_application(database):
    """While another process holds the file and many reservations wait, the default executor is free."""
    async with govern(f"sqlite:///{database}") as governor:
        with held(database) as holder:
            waiting = [asyncio.create_task(governor.reserve(f"customer-{n}", channel="email")) for n in range(50)]
            await turns(10)
            assert 7 == await asyncio.to_thread(lambda: 7)
            assert not any(task.done() for task in waiting)
            holder.let_go()
            assert all(await asyncio.gather(*waiting))
        assert 0 < len(threads()) <= 4


@in_a_loop
async def test_closing_ends_the_threads(database):
    """A store that is closed leaves no thread behind, and a verb after that is an error that starts none."""
    governor = govern(f"sqlite:///{database}")
    await governor.reserve(NEWS)
    started = threads()
    await governor.close()
    await governor.close()
    for thread in {*started, *threads()}:  # closing may have needed one of its own
        thread.join(10)
    with pytest.raises(StoreError, match="was closed"):
        await governor.check(NEWS)
    assert (True, []) == (bool(started), threads())


def test_a_store_goes_from_loop_to_loop(database):
    """Its threads serve whichever loop is running."""
    governor = govern(f"sqlite:///{database}")
    asyncio.run(governor.reserve(NEWS))
    assert ["reserved"] == asyncio.run(states(governor))
    asyncio.run(governor.close())


def fork_in_between(url: str) -> tuple[list[int], int]:
    """Use a governor, fork, and use it on both sides: how the children ended, and how many touches there are."""
    governor = govern(url)

    def reserve(number: int) -> None:
        assert asyncio.run(governor.reserve("ada", channel="email", id=f"news-{number}"))

    def reserve_and_close(number: int) -> None:
        reserve(number)
        asyncio.run(governor.close())

    reserve(0)
    ends = joined([forked(reserve, 1), forked(reserve_and_close, 2), forked(os.getpid)])
    reserve(3)
    asyncio.run(governor.close())
    with Governor(Policy(), url) as reader:
        return ends, len(reader.history("ada"))


def test_no_thread_crosses_a_fork(database):
    """A process that is forked after its first decision has threads of its own, and so has its parent still."""
    assert ([0, 0, 0], 4) == in_new_process(fork_in_between, f"sqlite:///{database}")
