"""The asynchronous front over the memory store, where nothing waits: what `await` itself costs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from benchmarks.contest import Contestant, Group, Line, Site
from benchmarks.contestants.memory import RESERVE, reserving
from benchmarks.timing import AsyncCall, timed, timed_async
from benchmarks.world import EIGHT, asked, past, policy

AWAITED: Final = "await reserve"


@asynccontextmanager
async def awaiting(_: Site, customers: int) -> AsyncIterator[AsyncCall]:
    """One awaited reservation under four caps."""
    from fairtouch import AsyncGovernor

    async with AsyncGovernor(policy(), "memory://") as governor:
        now = datetime.now(UTC)
        for customer in range(customers):
            await governor.consent.opt_in(f"customer-{customer}", channel="email", topic="newsletter")
            for number, ago in enumerate(EIGHT):
                await governor.record(past(customer, number), now - ago)

        async def call(customer: int) -> None:
            if not await governor.reserve(asked(customer)):
                raise AssertionError("the benchmark measures the way of a yes")

        yield call


FRONT: Final = Group(
    name="async",
    title="With asyncio",
    rounds=7,
    contestants=(
        Contestant(name=RESERVE, run=timed(reserving)),
        Contestant(name=AWAITED, run=timed_async(awaiting)),
    ),
    lines=(Line(text="await reserve / reserve", of=AWAITED, to=RESERVE),),
)
