"""limits on the same Redis: the same four caps as moving windows, after eight hits of history; no consent, no hours."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from benchmarks.contest import Contestant, Site
from benchmarks.contestants.memory import ALL_LIMITS, LIMITS, ONE_HIT
from benchmarks.servers import CALLED, Prepare, Server, timed_on_server
from benchmarks.timing import Call
from benchmarks.world import EIGHT


@contextmanager
def moving_windows(server: Server, number: int, *, room: int = 0) -> Iterator[tuple[Any, list[Any]]]:
    """The limiter of limits on a server, and the first so many limits; `room` is added to each."""
    from limits import RateLimitItemPerSecond
    from limits.storage import RedisStorage
    from limits.strategies import MovingWindowRateLimiter

    storage = RedisStorage(server.url)
    items = [RateLimitItemPerSecond(limit + room, seconds) for seconds, limit in LIMITS.items()][:number]
    with closing(storage.storage):
        yield MovingWindowRateLimiter(storage), items


def hits(site: Site, server: Server) -> None:
    """Customers with eight hits on each of four limits."""
    with moving_windows(server, 4) as (limiter, items):
        for customer in range(min(CALLED, site.sizes.customers_max)):
            if not all(limiter.hit(item, f"customer-{customer}") for _ in EIGHT for item in items):
                raise AssertionError("nothing forbids history")


def hitting(number: int, *, tests: bool) -> Prepare:
    """So many limits hit; where they are tested, all of them before the first is hit."""

    @contextmanager
    def prepare(server: Server, _: Site, __: int) -> Iterator[Call]:
        with moving_windows(server, number) as (limiter, items):
            steps: list[Callable[..., bool]] = [limiter.test, limiter.hit] if tests else [limiter.hit]

            def call(customer: int) -> None:
                key = f"customer-{customer}"
                for step in steps:
                    for item in items:
                        if not step(item, key):
                            raise AssertionError("the benchmark measures the way of a yes")

            yield call

    return prepare


CONTESTANTS: Final = (
    Contestant(name=ONE_HIT, run=timed_on_server(hitting(1, tests=False), filling=hits)),
    Contestant(name=ALL_LIMITS, run=timed_on_server(hitting(4, tests=True), filling=hits)),
)
