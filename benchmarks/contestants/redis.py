"""The governor on Redis, next to the bare call that it cannot do without, and to limits on the same Redis.

What the bare calls, the peers, the batches and the memory are, stands in files of their own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.contest import Contestant, Goal, Group, Line, Site
from benchmarks.contestants import redis_batches, redis_bytes, redis_floor, redis_peers, redis_tasks
from benchmarks.contestants.memory import ALL_LIMITS, ONE_HIT
from benchmarks.contestants.redis_batches import CHECK_MANY, RESERVE_MANY, SERVERS_LIMIT
from benchmarks.contestants.redis_bytes import OURS, THEIRS
from benchmarks.contestants.redis_floor import APPENDING, BARE, THIN
from benchmarks.servers import (
    CALLED,
    CALLED_LONG,
    Fill,
    Prepare,
    Server,
    dense,
    eight,
    governing,
    long,
    timed_on_server,
)
from benchmarks.timing import Call
from benchmarks.world import asked, policy, reserve
from fairtouch import Governor


def calling(verb: Callable[[Governor, int], None], *, caps: int = 4, room: int = 0) -> Prepare:
    """One call of a verb, by a governor whose store has a connection of its own."""

    @contextmanager
    def prepare(server: Server, site: Site, _: int) -> Iterator[Call]:
        with governing(server.port, policy(caps=caps, room=room and site.sizes.ledger)) as governor:
            yield lambda customer: verb(governor, customer)

    return prepare


def check(governor: Governor, customer: int) -> None:
    """One check, which takes nothing."""
    if not governor.check(asked(customer)):
        raise AssertionError("the benchmark measures the way of a yes")


def reserve_and_confirm(governor: Governor, customer: int) -> None:
    """One reservation and its confirmation."""
    reservation = governor.reserve(asked(customer)).reservation
    assert reservation is not None
    governor.confirm(reservation)


def contestant(name: str, prepare: Prepare, *, filling: Fill = eight, customers: int = CALLED) -> Contestant:
    """Somebody who meets the customers of a snapshot."""
    return Contestant(name=name, run=timed_on_server(prepare, filling=filling, customers=customers))


RESERVE: Final = "reserve"
CAPS: Final = "reserve, 16 caps"
LONG: Final = "reserve, long ledger, 8 touches in the windows"
DENSE: Final = "reserve, long ledger, all in the windows"
CHECK: Final = "check"
CONFIRM: Final = "reserve and confirm"

CONTESTANTS: Final = (
    *redis_floor.CONTESTANTS,
    contestant(RESERVE, calling(reserve)),
    contestant(CAPS, calling(reserve, caps=16)),
    contestant(LONG, calling(reserve), filling=long, customers=CALLED_LONG),
    contestant(DENSE, calling(reserve, room=1), filling=dense, customers=CALLED_LONG),
    contestant(CHECK, calling(check)),
    contestant(CONFIRM, calling(reserve_and_confirm)),
    *redis_batches.CONTESTANTS,
    *redis_tasks.CONTESTANTS,
    *redis_peers.CONTESTANTS,
    *redis_bytes.CONTESTANTS,
)

CLIENT_LINES: Final = (
    Line(text=f"reserve / {BARE}", of=RESERVE, to=BARE, goal=Goal("at most", 1.35, 1.2)),
    Line(text="the same, as reserve has its own connection", of=RESERVE, to=BARE, goal=Goal("at most", 0.9, 0.8)),
    Line(text=f"reserve / {THIN}", of=RESERVE, to=THIN),
    Line(text=f"{ALL_LIMITS} / reserve", of=ALL_LIMITS, to=RESERVE, goal=Goal("at least", 8)),
    Line(text=f"reserve / {ONE_HIT}", of=RESERVE, to=ONE_HIT, goal=Goal("at most", 1)),
    Line(text="reserve, 16 caps / 4 caps", of=CAPS, to=RESERVE, goal=Goal("at most", 1.15)),
    Line(text=f"long ledger, 8 touches in the windows / {BARE}", of=LONG, to=BARE, goal=Goal("at most", 1.7)),
    Line(text=f"long ledger, all in the windows / {BARE}", of=DENSE, to=BARE, goal=Goal("at most", 4)),
    Line(text="check / reserve", of=CHECK, to=RESERVE),
    Line(text="reserve and confirm / reserve", of=CONFIRM, to=RESERVE),
)
BATCH_LINES: Final = (
    Line(text="rate of reserve_many / of reserve", of=RESERVE, to=RESERVE_MANY, goal=Goal("at least", 5)),
    Line(text="rate of check_many / of check", of=CHECK, to=CHECK_MANY),
    Line(
        text="rate of reserve_many / of the same, said again",
        of=SERVERS_LIMIT,
        to=RESERVE_MANY,
        goal=Goal("at least", 0.7),
    ),
)
SERVER_LINES: Final = (
    Line(
        text="on the server: reserve / GET + APPEND",
        of=RESERVE,
        to=APPENDING,
        metric="server_us",
        goal=Goal("at most", 3, 2.3),
    ),
    *(
        Line(text=f"on the server: {name}", of=name, metric="server_us", unit="µs")
        for name in (BARE, APPENDING, RESERVE, CAPS, LONG, DENSE, CHECK, CONFIRM, ONE_HIT, ALL_LIMITS)
    ),
)
MEMORY_LINES: Final = (
    Line(
        text="memory of a customer, ids aside",
        of=OURS,
        metric="without ids",
        unit="bytes",
        goal=Goal("at most", 400, 300),
    ),
    Line(text="memory of a customer, the text of her ids", of=OURS, metric="ids", unit="bytes"),
    Line(text="memory of a customer / by limits", of=OURS, to=THEIRS, metric="bytes", goal=Goal("at most", 0.3)),
)

REDIS: Final = Group(
    name="redis",
    title="On Redis",
    rounds=5,
    contestants=CONTESTANTS,
    lines=(*CLIENT_LINES, *redis_tasks.LINES, *BATCH_LINES, *SERVER_LINES, *MEMORY_LINES),
)
