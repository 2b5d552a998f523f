"""How much memory of the server a customer takes, who has ten touches, an opt-in and a time zone.

What proves an opt-in is left out: it is as long as an app makes it. Ids are told apart for the same reason.
"""

from contextlib import closing
from datetime import timedelta
from typing import Final

from benchmarks.contest import Contestant, Site
from benchmarks.contestants.redis_peers import moving_windows
from benchmarks.servers import Server, fill, governing, running
from benchmarks.world import past, unruled, zone_at_noon

CUSTOMERS: Final = 500
TOUCHES: Final = 10
EVIDENCE: Final = b":w"  # how the key of the words spoken ends
IDS: Final = sum(len(past(0, number).id or "") for number in range(TOUCHES))


def used(server: Server) -> int:
    """The server's bytes in all keys of customers, which have a tag in braces, but for the evidence."""
    with closing(server.client()) as client:
        keys = [key for key in client.scan_iter(count=1_000) if not key.endswith(EVIDENCE)]
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.memory_usage(key, samples=0)
        return sum(pipeline.execute())


def ours(site: Site) -> dict[str, float]:
    """Ten reservations, the opt-in and the zone. What the first customer takes, all of them share: the tables."""
    customers = min(CUSTOMERS, site.sizes.customers_max)
    ago = [timedelta(minutes=TOUCHES - number) for number in range(TOUCHES)]
    sizes = []
    for number in (1, customers):
        with running() as server:
            fill(server.port, number, ago)
            with governing(server.port, unruled()) as governor:
                for customer in range(number):
                    governor.customers.set(f"customer-{customer}", timezone=zone_at_noon())
            sizes.append(used(server))
    taken = (sizes[1] - sizes[0]) / (customers - 1)
    return {"bytes": taken, "ids": IDS, "without ids": taken - IDS}


def theirs(site: Site) -> dict[str, float]:
    """Ten hits on each of four limits, which know no ids."""
    customers = min(CUSTOMERS, site.sizes.customers_max)
    with running() as server:
        with moving_windows(server, 4, room=TOUCHES) as (limiter, items):
            for customer in range(customers):
                for item in items * TOUCHES:
                    assert limiter.hit(item, f"customer-{customer}")
        return {"bytes": used(server) / customers}


OURS: Final = "memory of a customer"
THEIRS: Final = "memory of a customer, limits"

CONTESTANTS: Final = (Contestant(name=OURS, run=ours), Contestant(name=THEIRS, run=theirs))
