"""A queue in an event loop: runs side by side, and runs that are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairtouch import AsyncGovernor
from fairtouch.deferral import AsyncDeferrals
from fairtouch.testing import FrozenClock
from tests.deferring import HOUR, MINUTE
from tests.in_a_loop import govern, in_a_loop
from tests.workers import NOON


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/touches.db"


@asynccontextmanager
async def waiting(url: str, number: int) -> AsyncIterator[tuple[AsyncGovernor, AsyncDeferrals, FrozenClock]]:
    """So many touches that are due."""
    clock = FrozenClock(NOON)
    async with govern(url, {}, clock=clock) as governor:
        queue = AsyncDeferrals(governor)
        for index in range(number):
            assert (await queue.defer(f"customer-{index}", index, channel="email", id="1")).due_at == NOON
        yield governor, queue, clock


@in_a_loop
async def test_runs_side_by_side(url):
    """Four runs in one loop share what is due: each touch goes once, several at a time."""
    sent, at_once, together = [], 0, asyncio.Event()
    async with waiting(url, 120) as (_, queue, _):

        async def send(touch: Any, payload: Any) -> None:
            nonlocal at_once
            at_once += 1
            if at_once > 1:
                together.set()
            await asyncio.wait_for(together.wait(), 60)  # one claim is not all that is due, so another run sends too
            sent.append(payload)
            at_once -= 1

        reports = await asyncio.gather(*(queue.run_due(send) for _ in range(4)))
    assert list(range(120)) == sorted(sent)
    assert 120 == sum(report.sent for report in reports)


@in_a_loop
async def test_a_run_that_is_cancelled(url):
    """A cancelled run leaves the touch in the middle of its send in doubt; the others come up at once."""
    sent = []
    async with waiting(url, 10) as (governor, queue, clock):
        begun = asyncio.Event()

        async def hang(touch: Any, payload: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def send(touch: Any, payload: Any) -> None:
            sent.append(payload)

        run = asyncio.create_task(queue.run_due(hang))
        await begun.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert 9 == (await queue.run_due(send)).sent == len(set(sent))
        clock.advance(15 * MINUTE)
        reports = [await queue.run_due(send)]
        clock.advance(HOUR)
        reports.append(await queue.run_due(send))
        (dropped,) = [each for report in reports for each in report.dropped]
        assert "in_doubt" == dropped.fate
        assert {dropped.payload, *sent} == set(range(10))
        assert ["reserved"] == [entry.state for entry in await governor.history(dropped.touch.customer)]
