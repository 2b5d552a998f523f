"""How the memory of a customer on Redis grows with her touches: all her keys, with the text of her ids, an opt-in and
what proves it, and a time zone.
"""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Final

from benchmarks.contest import Contestant, Group, Line, Site
from benchmarks.servers import Server, governing, running
from benchmarks.world import past, unruled
from fairtouch.testing import FrozenClock

TOUCHES: Final = (0, 1, 10, 30, 60, 100, 300, 1_000)
NAME: Final = "a customer on Redis"


def taken(server: Server, customer: int, touches: int) -> int:
    """The bytes of all keys of a new customer with so many touches, one per hour."""
    with closing(server.client()) as client:
        others = set(client.scan_iter(count=1_000))
        clock = FrozenClock(datetime.now(UTC) - touches * timedelta(hours=1))
        with governing(server.port, unruled(), clock=clock) as governor:
            said = {"channel": "email", "topic": "newsletter", "evidence": {"source": "signup form", "text": "v3"}}
            governor.consent.opt_in(f"customer-{customer}", **said)
            governor.customers.set(f"customer-{customer}", timezone="Europe/Paris")
            for number in range(touches):
                assert governor.reserve(past(customer, number)), "nothing forbids history"
                clock.advance(timedelta(hours=1))
        hers = set(client.scan_iter(count=1_000)) - others
        return sum(client.memory_usage(key, samples=0) for key in hers)


def growth(site: Site) -> dict[str, float]:
    """The bytes by touches. The first customer brings the tables that all of them share, and is not counted."""
    with running() as server:
        taken(server, 0, min(TOUCHES[3], site.sizes.ledger))
        numbers = [min(touches, site.sizes.ledger) for touches in TOUCHES]
        sizes = {f"{TOUCHES[place]} touches": taken(server, place + 1, some) for place, some in enumerate(numbers)}
    return {**sizes, "bytes": sizes[f"{TOUCHES[-1]} touches"]}


GROWTH: Final = Group(
    name="growth",
    title="Memory on Redis, by touches",
    rounds=1,
    contestants=(Contestant(name=NAME, run=growth),),
    lines=tuple(
        Line(text=f"{NAME}, {touches} touches", of=NAME, metric=f"{touches} touches", unit="bytes")
        for touches in TOUCHES
    ),
)
