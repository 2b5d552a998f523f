"""Many touches in one call: their rate next to single calls, and next to what the server itself could do.

The server's limit is taken from the calls themselves: what `reserve_many` sent is said again to a fresh server with the
same customers, all at once and without anybody who thinks about it.
"""

import gc
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Final

from benchmarks.contest import Contestant, Site
from benchmarks.contestants.redis_floor import connected
from benchmarks.relay import relaying, say_again
from benchmarks.servers import CALLED, HEATS, eight, governing, running, snapshot_of
from benchmarks.world import asked, policy
from fairtouch import Decision, Governor, Touch

Verb = Callable[[Governor, Iterable[Touch]], Iterable[Decision]]


def decide(governor: Governor, verb: Verb, customers: range) -> float:
    """A touch of each of these customers in one call; the seconds that it took."""
    start = perf_counter()
    allowed = sum(map(bool, verb(governor, (asked(customer) for customer in customers))))
    seconds = perf_counter() - start
    assert allowed == len(customers), "the benchmark measures the way of a yes"
    return seconds


def in_batches(verb: Verb) -> Callable[[Site], dict[str, float]]:
    """One call for all customers but the first sixth, who are called before, also in one call."""

    def run(site: Site) -> dict[str, float]:
        number, heats = min(CALLED, site.sizes.customers_max), min(HEATS, site.sizes.heats_max)
        snapshot, seconds = snapshot_of(site, eight), 0.0
        for _ in range(heats):
            with running(snapshot) as server, governing(server.port, policy()) as governor:
                decide(governor, verb, range(number // 6))
                gc.collect()
                seconds += decide(governor, verb, range(number // 6, number))
        return {"us": seconds / heats / (number - number // 6) * 1e6}

    return run


def recorded(site: Site, verb: Verb, number: int) -> tuple[bytes, bytes]:
    """What a governor says to a server to warm up, and then for the other customers."""
    with running(snapshot_of(site, eight)) as server, relaying(server.port) as relay:
        with governing(relay.port, policy()) as governor:
            decide(governor, verb, range(number // 6))
            warm = len(relay.said)
            decide(governor, verb, range(number // 6, number))
        return bytes(relay.said[:warm]), bytes(relay.said[warm:])


def servers_limit(verb: Verb) -> Callable[[Site], dict[str, float]]:
    """The same commands, once more; afterwards a customer's ninth touch stands in her ledger."""

    def run(site: Site) -> dict[str, float]:
        number, heats = min(CALLED, site.sizes.customers_max), min(HEATS, site.sizes.heats_max)
        warm, said = recorded(site, verb, number)
        snapshot, seconds = snapshot_of(site, eight), 0.0
        for _ in range(heats):
            with running(snapshot) as server:
                with connected(server) as connection:
                    say_again(connection, warm)
                    seconds += say_again(connection, said)
                with governing(server.port, policy()) as governor:
                    assert governor.history(f"customer-{number - 1}")[-1].id == asked(number - 1).id
        return {"us": seconds / heats / (number - number // 6) * 1e6}

    return run


RESERVE_MANY: Final = "reserve_many, per touch"
CHECK_MANY: Final = "check_many, per touch"
SERVERS_LIMIT: Final = "what reserve_many said, said again, per touch"

CONTESTANTS: Final = (
    Contestant(name=RESERVE_MANY, run=in_batches(Governor.reserve_many)),
    Contestant(name=CHECK_MANY, run=in_batches(Governor.check_many)),
    Contestant(name=SERVERS_LIMIT, run=servers_limit(Governor.reserve_many)),
)
