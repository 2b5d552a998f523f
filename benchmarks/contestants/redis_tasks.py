"""A hundred tasks of one event loop: the asynchronous governor next to redis.asyncio's own client."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter
from typing import Final

import redis.asyncio

from benchmarks.contest import Contestant, Goal, Line, Site
from benchmarks.contestants.redis_floor import NOTHING
from benchmarks.servers import CALLED, HEATS, Server, eight, running, snapshot_of, without_advice
from benchmarks.timing import AsyncCall
from benchmarks.world import asked, policy
from fairtouch import AsyncGovernor

TASKS: Final = 100
Prepare = Callable[[Server], AbstractAsyncContextManager[AsyncCall]]


async def called_by_tasks(call: AsyncCall, customers: range) -> float:
    """Every customer is called once, by a hundred tasks that take turns; the seconds that it took."""

    async def work(first: int) -> None:
        for customer in customers[first::TASKS]:
            await call(customer)

    start = perf_counter()
    await asyncio.gather(*(work(first) for first in range(TASKS)))
    return perf_counter() - start


def by_tasks(prepare: Prepare) -> Callable[[Site], dict[str, float]]:
    """A contestant's run, over customers with eight touches; the first sixth only warms up."""

    async def run(site: Site) -> dict[str, float]:
        number, heats = min(CALLED, site.sizes.customers_max), min(HEATS, site.sizes.heats_max)
        snapshot, seconds = snapshot_of(site, eight), 0.0
        for _ in range(heats):
            with running(snapshot) as server:
                async with prepare(server) as call:
                    await called_by_tasks(call, range(number // 6))
                    gc.collect()
                    seconds += await called_by_tasks(call, range(number // 6, number))
        return {"us": seconds / heats / (number - number // 6) * 1e6}

    return lambda site: asyncio.run(run(site))


@asynccontextmanager
async def bare(server: Server) -> AsyncIterator[AsyncCall]:
    """`EVALSHA return 1` by the client of redis.asyncio, whose pool opens a connection for every task."""
    async with redis.asyncio.Redis(port=server.port) as client:
        sha = await client.script_load(NOTHING)

        async def call(_: int) -> None:
            await client.evalsha(sha, 0)

        yield call


@asynccontextmanager
async def reserving(server: Server) -> AsyncIterator[AsyncCall]:
    """One reservation, by one governor for all tasks."""
    with without_advice():
        async with AsyncGovernor(policy(), f"{server.url}?prefix=bench&deadline_seconds=10") as governor:

            async def call(customer: int) -> None:
                if not await governor.reserve(asked(customer)):
                    raise AssertionError("the benchmark measures the way of a yes")

            yield call


BARE: Final = "bare EVALSHA, redis.asyncio, 100 tasks"
RESERVE: Final = "reserve, 100 tasks"

CONTESTANTS: Final = (
    Contestant(name=BARE, run=by_tasks(bare)),
    Contestant(name=RESERVE, run=by_tasks(reserving)),
)
LINES: Final = (Line(text=f"rate of reserve, 100 tasks / of {BARE}", of=BARE, to=RESERVE, goal=Goal("at least", 1)),)
