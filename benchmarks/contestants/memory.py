"""The governor over its memory store, next to rate limiters in memory that keep the same four limits.

The limiters know neither consent nor hours, and except for pyrate-limiter they ask four times. Their histories are
eight hits just before. limits' store sweeps all its keys in a thread, so worlds are small: that favours limits.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Final

from benchmarks.contest import Contestant, Goal, Group, Line, Site
from benchmarks.timing import Call, timed
from benchmarks.world import EIGHT, PERIODS, asked, eight_touches, policy, reserve
from fairtouch import Governor

SECONDS: Final = {"1 hour": 3_600, "calendar day": 86_400, "7 days": 7 * 86_400, "30 days": 30 * 86_400}
LIMITS: Final = {SECONDS[period]: limit for period, limit in PERIODS.items()}  # by seconds


@contextmanager
def governed(customers: int, *, caps: int = 4) -> Iterator[Governor]:
    """A governor in memory whose customers have their history."""
    with Governor(policy(caps=caps), "memory://") as governor:
        eight_touches(governor, customers)
        yield governor


@contextmanager
def reserving(_: Site, customers: int) -> Iterator[Call]:
    """One reservation under four caps."""
    with governed(customers) as governor:
        yield lambda customer: reserve(governor, customer)


@contextmanager
def reserving_16(_: Site, customers: int) -> Iterator[Call]:
    """One reservation under sixteen caps."""
    with governed(customers, caps=16) as governor:
        yield lambda customer: reserve(governor, customer)


@contextmanager
def checking(_: Site, customers: int) -> Iterator[Call]:
    """One check, which takes nothing."""
    with governed(customers) as governor:

        def call(customer: int) -> None:
            if not governor.check(asked(customer)):
                raise AssertionError("the benchmark measures the way of a yes")

        yield call


@contextmanager
def confirming(_: Site, customers: int) -> Iterator[Call]:
    """One reservation and its confirmation."""
    with governed(customers) as governor:

        def call(customer: int) -> None:
            reservation = governor.reserve(asked(customer)).reservation
            assert reservation is not None
            governor.confirm(reservation)

        yield call


def moving_windows(customers: int, number: int) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """The first so many of the four limits by `limits`, after everybody's eight hits: to test all, and to hit all."""
    from limits import RateLimitItemPerSecond
    from limits.storage import MemoryStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(MemoryStorage())
    items = [RateLimitItemPerSecond(limit, seconds) for seconds, limit in LIMITS.items()][:number]

    def test_all(key: str) -> bool:
        for item in items:  # noqa: SIM110 - a generator would cost the peer time
            if not limiter.test(item, key):
                return False
        return True

    def hit_all(key: str) -> bool:
        for item in items:  # noqa: SIM110 - a generator would cost the peer time
            if not limiter.hit(item, key):
                return False
        return True

    for customer in range(customers):
        for _ in EIGHT:
            hit_all(f"customer-{customer}")
    return test_all, hit_all


def hitting(number: int) -> Callable[[Site, int], AbstractContextManager[Call]]:
    """Hits on the first so many limits, without a question before: a refusal by a later one burns the earlier slots."""

    @contextmanager
    def prepare(_: Site, customers: int) -> Iterator[Call]:
        _test_all, hit_all = moving_windows(customers, number)

        def call(customer: int) -> None:
            if not hit_all(f"customer-{customer}"):
                raise AssertionError("the benchmark measures the way of a yes")

        yield call

    return prepare


@contextmanager
def testing_and_hitting(_: Site, customers: int) -> Iterator[Call]:
    """All four limits asked, and then all four hit; another process may come in between."""
    test_all, hit_all = moving_windows(customers, 4)

    def call(customer: int) -> None:
        key = f"customer-{customer}"
        if not (test_all(key) and hit_all(key)):
            raise AssertionError("the benchmark measures the way of a yes")

    yield call


@contextmanager
def pyrate(_: Site, customers: int) -> Iterator[Call]:
    """pyrate-limiter: a bucket per customer, with four rates that are kept together."""
    from pyrate_limiter import AbstractBucket, BucketFactory, InMemoryBucket, Limiter, MonotonicClock, Rate, RateItem

    rates = [Rate(limit, seconds * 1_000) for seconds, limit in LIMITS.items()]

    class Buckets(BucketFactory):
        """The way of its documentation to a bucket per name."""

        def __init__(self) -> None:
            self.clock = MonotonicClock()
            self.buckets: dict[str, AbstractBucket] = {}

        def wrap_item(self, name: str, weight: int = 1) -> RateItem:
            return RateItem(name, self.clock.now(), weight=weight)

        def get(self, item: RateItem) -> AbstractBucket:
            bucket = self.buckets.get(item.name)
            if bucket is None:
                bucket = self.buckets[item.name] = self.create(InMemoryBucket, rates)
            return bucket

    buckets = Buckets()
    limiter = Limiter(buckets)

    def call(customer: int) -> None:
        if not limiter.try_acquire(f"customer-{customer}", blocking=False):
            raise AssertionError("the benchmark measures the way of a yes")

    for customer in range(customers):
        for _hit in EIGHT:
            call(customer)
    yield call
    buckets.close()


@contextmanager
def throttled(_: Site, customers: int) -> Iterator[Call]:
    """throttled-py: four sliding windows, one after the other."""
    from throttled import MemoryStore, Throttled, per_duration

    store = MemoryStore(options={"MAX_SIZE": 1_000_000})
    windows = [
        Throttled(
            using="sliding_window",
            quota=per_duration(timedelta(seconds=seconds), limit),
            store=store,
            key_prefix=f"every-{seconds}",
        )
        for seconds, limit in LIMITS.items()
    ]

    def call(customer: int) -> None:
        for window in windows:
            if window.limit(f"customer-{customer}").limited:
                raise AssertionError("the benchmark measures the way of a yes")

    for customer in range(customers):
        for _hit in EIGHT:
            call(customer)
    yield call


RESERVE: Final = "reserve"
ALL_LIMITS: Final = "limits: 4 tests and 4 hits"
FOUR_HITS: Final = "limits: 4 hits"
ONE_HIT: Final = "limits: 1 hit"
PYRATE: Final = "pyrate-limiter: 4 rates"
THROTTLED: Final = "throttled-py: 4 sliding windows"

MEMORY: Final = Group(
    name="memory",
    title="In memory",
    rounds=7,
    contestants=(
        Contestant(name=RESERVE, run=timed(reserving)),
        Contestant(name="reserve, 16 caps", run=timed(reserving_16)),
        Contestant(name="check", run=timed(checking)),
        Contestant(name="reserve and confirm", run=timed(confirming)),
        Contestant(name=ONE_HIT, run=timed(hitting(1))),
        Contestant(name=FOUR_HITS, run=timed(hitting(4))),
        Contestant(name=ALL_LIMITS, run=timed(testing_and_hitting)),
        Contestant(name=PYRATE, run=timed(pyrate)),
        Contestant(name=THROTTLED, run=timed(throttled)),
    ),
    lines=(
        Line(text=f"{ALL_LIMITS} / reserve", of=ALL_LIMITS, to=RESERVE, goal=Goal("at least", 6, 10)),
        Line(text=f"reserve / {ONE_HIT}", of=RESERVE, to=ONE_HIT, goal=Goal("at most", 1.5, 1.0)),
        Line(text=f"{FOUR_HITS} / reserve", of=FOUR_HITS, to=RESERVE),
        Line(text=f"{PYRATE} / reserve", of=PYRATE, to=RESERVE),
        Line(text=f"{THROTTLED} / reserve", of=THROTTLED, to=RESERVE),
        Line(text="reserve, 16 caps / 4 caps", of="reserve, 16 caps", to=RESERVE, goal=Goal("at most", 1.3)),
        Line(text="check / reserve", of="check", to=RESERVE),
        Line(text="reserve and confirm / reserve", of="reserve and confirm", to=RESERVE),
    ),
)
