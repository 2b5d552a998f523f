"""Customers on Redis to whom nobody writes any more: what they take, how long pruning them takes, and what is left.

Three customers live through the public face: thirty touches in 300 days, and one opted in, one opted out again, and one
never said a word. All others are copies of one of them, as the store itself packs and writes a customer: a million of
them through the public face would take hours. Beyond the horizon a sample is asked through the public face.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final

from benchmarks.contest import Contestant, Group, Line, Site
from benchmarks.servers import Server, running, without_advice
from benchmarks.world import KEEP, past, unruled
from fairtouch import Governor, Policy
from fairtouch.digests import Digests
from fairtouch.stores.redis import RedisStore
from fairtouch.stores.redis_calls import Keys
from fairtouch.stores.redis_customers import SPOKEN, Customers
from fairtouch.stores.redis_names import Names
from fairtouch.stores.redis_steps import Step, all_of
from fairtouch.testing import FrozenClock

TOUCHES: Final = 30
EVERY: Final = timedelta(days=10)
PHASES: Final = (  # how long after the last touch, and how many of each customer's touches a pruning leaves then
    ("full", timedelta(0), TOUCHES),
    ("a night", timedelta(days=101), TOUCHES - 1),
    ("left", timedelta(days=401), 0),
)
KINDS: Final = 20  # of 20 customers one never said a word, two opted out again, 17 opted in
BATCH: Final = 500  # customers in one message
ASKED: Final = 200  # customers who are asked through the public face
WEIGHED: Final = 20_000  # keys of a sort whose bytes are looked at; all of them are counted
PREFIX: Final = "bench"
SORTS: Final = {b"": "documents", b":w": "evidence", b":t": "totals"}  # how keys of customers end


class Copying(RedisStore):
    """A store that can write customers as copies of one who is there."""

    def copy(self, model: bytes, others: Sequence[bytes]) -> None:
        """Writes customers who are not there yet, and said and got what the model did."""
        keys = Keys(PREFIX)
        self._run(self._copy(Customers(keys, Names(keys.names)), model, others))

    def _copy(self, customers: Customers, model: bytes, others: Sequence[bytes]) -> Step[None]:
        kept = yield from customers.read(model, SPOKEN, None)
        assert not kept.document.older, "a model fits into its document"
        kept.seen = b""
        for name, evidence in kept.spoken.items():
            kept.order(b"HSETNX", 5, name, evidence)
        done = yield from all_of([customers.change(other, kept) for other in others])
        assert set(done) == {1}, "nobody else writes here"


@contextmanager
def open_store(server: Server) -> Iterator[Copying]:
    """A store on a server, with patience for a busy machine."""
    with server.client() as client, closing(Copying(client, prefix=PREFIX, deadline_seconds=10)) as store:
        yield store


def ruled() -> Policy:
    """As many touches as everybody got, for ever, and only for those who opted in."""
    rules = {"consent": {"opt-in": {"require": "opt_in"}}, "caps": {"ever": {"limit": f"{TOUCHES} per lifetime"}}}
    return Policy.model_validate({**unruled().model_dump(exclude_unset=True), **rules})


def model_of(customer: int) -> int:
    """Whom a customer is a copy of: customer 0, 1 or 3."""
    kind = customer % KINDS
    return 0 if kind == 0 else 1 if kind in {1, 2} else 3


def live(governor: Governor, clock: FrozenClock, customer: int) -> None:
    """The life of a model, which ends now."""
    name, end = f"customer-{customer}", clock()
    clock.advance(-TOUCHES * EVERY)
    if customer:
        said = {"channel": "email", "topic": "newsletter"}
        governor.consent.opt_in(name, **said, evidence={"source": "signup form", "text": "v3"})
        governor.customers.set(name, timezone="Europe/Paris")
    for number in range(TOUCHES):
        reservation = governor.reserve(past(customer, number)).reservation
        assert reservation is not None, "nothing forbids history"
        governor.confirm(reservation)
        clock.advance(EVERY)
    if customer == 1:
        governor.consent.opt_out(name, evidence={"source": "link in newsletter"})
    clock.set(end)


def fill(store: Copying, clock: FrozenClock, customers: int) -> None:
    """Customers 0 to `customers`, each as the model that she is a copy of."""
    digest = Digests("default", None).customer
    with Governor(unruled(), store, clock=clock) as governor:
        for model in (0, 1, 3):
            live(governor, clock, model)
    for start in range(0, customers, BATCH):
        batch = range(start, min(start + BATCH, customers))
        for model in (0, 1, 3):
            others = [number for number in batch if model_of(number) == model and number != model]
            store.copy(digest(f"customer-{model}"), [digest(f"customer-{number}") for number in others])
        tell("filled", batch.stop, customers)


def tell(what: str, done: int, customers: int) -> None:
    """A line now and then for whoever waits."""
    if done * 10 // customers > (done - BATCH) * 10 // customers:
        print(f"  idle: {what} {done:,} of {customers:,} customers", file=sys.stderr, flush=True)


def pruned(governor: Governor, customers: int, touches: int) -> tuple[int, float]:
    """How many entries a pruning took out, of each customer `touches`, and its seconds."""
    shown = 0

    def show(gone: int) -> None:
        nonlocal shown
        if gone // touches >= shown + customers // 10:
            shown = gone // touches
            print(f"  idle: pruned {shown:,} of {customers:,} customers", file=sys.stderr, flush=True)

    start = perf_counter()
    return governor.prune(progress=show), perf_counter() - start


def census(server: Server) -> dict[str, float]:
    """By sort, how many keys of customers there are, and the bytes of one; and the bytes of the server."""
    counts: Counter[str] = Counter()
    sizes: dict[str, list[int]] = {sort: [] for sort in (*SORTS.values(), "others")}
    with closing(server.client()) as client:
        for key in client.scan_iter(f"{PREFIX}:{{*", count=1_000):
            sort = SORTS.get(key.rpartition(b"}")[2], "others")
            counts[sort] += 1
            if counts[sort] <= WEIGHED:
                sizes[sort].append(client.memory_usage(key, samples=0))
        told = {"server": client.info("memory")["used_memory"], "going": client.info("keyspace")["db0"]["expires"]}
    told |= {f"{sort} count": counts[sort] for sort in sizes}
    return told | {f"{sort} bytes": sum(some) / len(some) if some else 0 for sort, some in sizes.items()}


def stands(governor: Governor, customer: int, touches: int) -> bool:
    """Whether a customer is as she should be: so many touches are told, all count, and what she said stands."""
    name, model = f"customer-{customer}", model_of(customer)
    decision = governor.check(name, channel="email", topic="newsletter")
    expected = {0: {"consent_missing"}, 1: {"consent_missing", "opted_out"}, 3: set()}[model] | {"cap_reached"}
    used = next(check.used for check in decision.checks if check.rule == "ever")
    found = (len(governor.history(name)), used, {str(reason.code) for reason in decision.reasons})
    return found == (touches, TOUCHES, expected)


def idle(site: Site) -> dict[str, float]:
    """Fills; then prunes, asks and weighs: at once, when one touch of each is old, and when all are."""
    customers, clock = site.sizes.crowd, FrozenClock(datetime.now(UTC))
    sample = range(0, customers, max(1, customers // ASKED) | 1)
    numbers: dict[str, float] = {"customers": customers}
    last, before = clock(), TOUCHES
    with without_advice(), running() as server, open_store(server) as store:
        with closing(server.client()) as client:
            empty = client.info("memory")["used_memory"]
        start = perf_counter()
        fill(store, clock, customers)
        numbers["filling"] = perf_counter() - start
        with Governor(ruled(), store, clock=clock) as governor:
            for when, after, touches in PHASES:
                clock.set(last + after)
                gone, seconds = pruned(governor, customers, before - touches)
                assert gone == (before - touches) * customers, "what was pruned is not what is old"
                assert all(stands(governor, customer, touches) for customer in sample), "somebody is not as she was"
                weighed = census(server)
                weighed["server"] = (weighed["server"] - empty) / customers
                numbers |= {f"{when}: {name}": number for name, number in weighed.items()}
                numbers |= {f"{when}: seconds": seconds, f"{when}: us per customer": seconds / customers * 1e6}
                before = touches
    return {**numbers, "bytes": numbers["full: server"]}


NAME: Final = "customers of whom nothing is heard"


def line(text: str, metric: str, unit: str = "") -> Line:
    """One number of the report."""
    return Line(text=text, of=NAME, metric=metric, unit=unit)


def keys(when: str, *, sorts: Sequence[str]) -> Iterator[Line]:
    """The lines about keys."""
    for sort in sorts:
        yield line(f"{when}: keys, {sort}", f"{when}: {sort} count")
        yield line(f"{when}: bytes of one, {sort}", f"{when}: {sort} bytes", "bytes")


IDLE: Final = Group(
    name="idle",
    title=f"Idle past the horizon, which is {KEEP}",
    rounds=1,
    contestants=(Contestant(name=NAME, run=idle),),
    lines=(
        line("customers", "customers"),
        line("full: the server's memory, per customer", "full: server", "bytes"),
        *keys("full", sorts=("documents", "evidence")),
        line("prune, nothing is old", "full: seconds", "s"),
        line("prune, nothing is old, per customer", "full: us per customer", "µs"),
        line("prune, one touch of each is old", "a night: seconds", "s"),
        line("prune, one touch of each is old, per customer", "a night: us per customer", "µs"),
        line("prune, everything is old", "left: seconds", "s"),
        line("prune, everything is old, per customer", "left: us per customer", "µs"),
        line("left: the server's memory, per customer", "left: server", "bytes"),
        *keys("left", sorts=("documents", "evidence", "totals")),
        line("left: of the documents, those that say nothing and go within ten minutes", "left: going"),
        line("left: keys of any other sort", "left: others count"),
    ),
)
