"""How a call is timed: heats over customers who are each called once, the first sixth of them only to warm up.

Nobody is called twice and no id is used twice, so every timed call meets exactly the history that was prepared.
Garbage is collected before a heat, and whenever Python sees fit while it runs.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from time import perf_counter

from benchmarks.contest import Site

Call = Callable[[int], object]
AsyncCall = Callable[[int], Awaitable[object]]


def timed(
    prepare: Callable[[Site, int], AbstractContextManager[Call]], *, customers: int = 600, heats: int = 8
) -> Callable[[Site], dict[str, float]]:
    """A contestant's run: in every heat `prepare` makes a new world of so many customers and says how to call one."""

    def run(site: Site) -> dict[str, float]:
        number = min(customers, site.sizes.customers_max)
        rounds, seconds = min(heats, site.sizes.heats_max), 0.0
        for _ in range(rounds):
            with prepare(site, number) as call:
                for customer in range(number // 6):
                    call(customer)
                gc.collect()
                start = perf_counter()
                for customer in range(number // 6, number):
                    call(customer)
                seconds += perf_counter() - start
        return {"us": seconds / rounds / (number - number // 6) * 1e6}

    return run


def timed_async(
    prepare: Callable[[Site, int], AbstractAsyncContextManager[AsyncCall]], *, customers: int = 600, heats: int = 8
) -> Callable[[Site], dict[str, float]]:
    """The same for a call that is awaited."""

    async def run(site: Site) -> dict[str, float]:
        number = min(customers, site.sizes.customers_max)
        rounds, seconds = min(heats, site.sizes.heats_max), 0.0
        for _ in range(rounds):
            async with prepare(site, number) as call:
                for customer in range(number // 6):
                    await call(customer)
                gc.collect()
                start = perf_counter()
                for customer in range(number // 6, number):
                    await call(customer)
                seconds += perf_counter() - start
        return {"us": seconds / rounds / (number - number // 6) * 1e6}

    return lambda site: asyncio.run(run(site))
