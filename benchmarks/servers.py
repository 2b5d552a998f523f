"""Redis servers that are started for a measurement, with the customers they hold, and what a call costs them.

Every heat has a server of its own that starts from a snapshot, so nobody meets what an earlier heat left. A snapshot is
filled once, through the public face, by the first contestant who needs it. Everything goes over TCP on the loopback.
"""

import gc
import logging
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.contest import Site
from benchmarks.timing import Call
from benchmarks.world import EIGHT, opt_in, past, unruled
from fairtouch import Governor, Policy
from fairtouch.testing import FrozenClock
from tests.redis_servers import Server

CALLED: Final = 600  # customers with eight touches; the first sixth is called only to warm up
CALLED_LONG: Final = 120  # customers with a long ledger
HEATS: Final = 6
CHUNK: Final = 50  # calls between two looks at the server's own clock
BATCH: Final = 500  # customers whose touches are written next to each other
MOVING_ON: Final = 64  # customers differ by up to so many touches: a store that packs now and then packs for some
DUMP: Final = "dump.rdb"  # what a server reads when it starts

Prepare = Callable[[Server, Site, int], AbstractContextManager[Call]]
"""Makes ready for so many customers on a server, and says how to call one of them."""


@contextmanager
def running(snapshot: Path | None = None) -> Iterator[Server]:
    """A new server, empty or with what a snapshot holds."""
    with tempfile.TemporaryDirectory(prefix="fairtouch-redis-") as folder:
        if snapshot is not None:
            shutil.copyfile(snapshot, Path(folder) / DUMP)
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def governing(port: int, policy: Policy, *, clock: FrozenClock | None = None) -> Iterator[Governor]:
    """A governor on the server of a port, with patience for a busy machine."""
    url = f"redis://127.0.0.1:{port}/0?prefix=bench&deadline_seconds=10"
    with without_advice(), Governor(policy, url, clock=clock) as governor:
        yield governor


@contextmanager
def without_advice() -> Iterator[None]:
    """Keeps a store from saying that these servers lose what they know when they end, which they are meant to do."""
    log = logging.getLogger("fairtouch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def fill(port: int, customers: int, ago: Sequence[timedelta], *, missing: int = 0) -> None:
    """Gives customers 0 to `customers` a touch at each instant before now, in order, and their opt-in.

    The oldest touches of some are left out: none of customer 0's, one of customer 1's, … and `missing` at most.
    """
    now = datetime.now(UTC)
    clock = FrozenClock(now)
    with governing(port, unruled(), clock=clock) as governor:
        opt_in(governor, range(customers))
        for start in range(0, customers, BATCH):
            batch = range(start, min(start + BATCH, customers))
            for number, before in enumerate(ago):
                clock.set(now - before)
                called = [customer for customer in batch if customer % (missing + 1) <= number]
                if not all(governor.reserve_many(past(customer, number) for customer in called)):
                    raise AssertionError("nothing forbids history")


def eight(site: Site, server: Server) -> None:
    """Customers with eight touches each, all in the windows."""
    fill(server.port, min(CALLED, site.sizes.customers_max), EIGHT)


def long(site: Site, server: Server) -> None:
    """Customers with a long ledger, of which eight touches lie in the windows; the others are 40 to 390 days old."""
    older = site.sizes.ledger - len(EIGHT)
    ago = [timedelta(days=390) - timedelta(days=350) / older * number for number in range(older)]
    fill(server.port, min(CALLED_LONG, site.sizes.customers_max), [*ago, *EIGHT], missing=min(MOVING_ON, older) - 1)


def dense(site: Site, server: Server) -> None:
    """Customers with a long ledger that lies in every window."""
    touches = site.sizes.ledger
    ago = [timedelta(minutes=8) * (touches - number) / touches for number in range(touches)]
    fill(server.port, min(CALLED_LONG, site.sizes.customers_max), ago, missing=min(MOVING_ON, touches) - 1)


Fill = Callable[[Site, Server], None]


def snapshot_of(site: Site, filling: Fill) -> Path:
    """The snapshot of a filling, which is made when it is not there. One that was left half done has another name."""
    path = site.folder / f"redis-{filling.__name__}.rdb"
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        with running() as server:
            filling(site, server)
            with closing(server.client()) as client:
                client.save()
            shutil.copyfile(server.folder / DUMP, unfinished)
        unfinished.rename(path)
    return path


def script_us(server: Server) -> float:
    """How long the server has worked on scripts since it started, in microseconds, by its own account."""
    with closing(server.client()) as client:
        told = client.info("commandstats")
    return float(sum(told.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("evalsha", "eval")))


def heat(server: Server, call: Call, customers: range) -> tuple[float, list[float]]:
    """Calls every customer once: the seconds that passed, and the server's own microseconds per call, by chunk."""
    seconds, on_server = 0.0, []
    for first in range(customers.start, customers.stop, CHUNK):
        chunk = range(first, min(first + CHUNK, customers.stop))
        before = script_us(server)
        start = perf_counter()
        for customer in chunk:
            call(customer)
        seconds += perf_counter() - start
        on_server.append((script_us(server) - before) / len(chunk))
    return seconds, on_server


def timed_on_server(
    prepare: Prepare, *, filling: Fill | None = None, customers: int = CALLED, heats: int = HEATS
) -> Callable[[Site], dict[str, float]]:
    """A contestant's run, as `timing.timed` does it; `server_us` is what the server says that the call's scripts took.

    That is the median over the chunks, because a chunk in which the server had to wait for a processor says nothing.
    """

    def run(site: Site) -> dict[str, float]:
        number, rounds = min(customers, site.sizes.customers_max), min(heats, site.sizes.heats_max)
        snapshot = filling and snapshot_of(site, filling)
        seconds, on_server = 0.0, []
        for _ in range(rounds):
            with running(snapshot) as server, prepare(server, site, number) as call:
                for customer in range(number // 6):
                    call(customer)
                gc.collect()
                passed, by_chunk = heat(server, call, range(number // 6, number))
                seconds += passed
                on_server += by_chunk
        return {"us": seconds / rounds / (number - number // 6) * 1e6, "server_us": statistics.median(on_server)}

    return run
