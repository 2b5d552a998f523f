"""SQLite files that are filled once and measured many times: contestants work on copies of them, or only read.

They are written through the public face: opt-ins by an import, touches by `reserve_many` under an injected clock.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from benchmarks.contest import Site
from benchmarks.world import EIGHT, opt_in, past, unruled
from fairtouch import Governor, Policy
from fairtouch.stores.port import Store
from fairtouch.testing import FrozenClock

Durability = Literal["full", "normal"]

BATCH: Final = 500  # customers whose touches are written next to each other
CALLED: Final = 2_400  # customers with eight touches: four processes call 600 each
CALLED_LONG: Final = 240  # customers with a long ledger


@contextmanager
def governing(
    path: Path, policy: Policy, *, durability: Durability = "normal", clock: FrozenClock | None = None
) -> Iterator[Governor]:
    """A governor over a file; "full" is the default: on the disk when a call returns."""
    with closing(open_store(path, durability)) as store, Governor(policy, store, clock=clock) as governor:
        yield governor


def open_store(path: Path, durability: Durability) -> Store:
    """The store for a file."""
    from fairtouch.stores.sqlite import SqliteStore

    return SqliteStore(str(path), synchronous=durability)


@contextmanager
def copied(site: Site, name: str) -> Iterator[Path]:
    """A copy of a prepared file, on the disk before it is used, so that its writing disturbs nobody."""
    with tempfile.TemporaryDirectory(dir=site.folder) as folder:
        path = Path(folder) / f"{name}.db"
        shutil.copyfile(site.folder / path.name, path)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        yield path


def fill(path: Path, customers: int, ago: Sequence[timedelta], *, first: int = 0) -> None:
    """Gives customers 0 to `customers` a touch at each instant before now, in order; ids count from `first`."""
    now = datetime.now(UTC)
    clock = FrozenClock(now)
    with governing(path, unruled(), clock=clock) as governor:
        for start in range(0, customers, BATCH):
            batch = range(start, min(start + BATCH, customers))
            for number, before in enumerate(ago, first):
                clock.set(now - before)
                if not all(governor.reserve_many(past(customer, number) for customer in batch)):
                    raise AssertionError("nothing forbids history")
            tell(path, "touches", start)


def consent(path: Path, customers: int) -> None:
    """Customers 0 to `customers` opted in."""
    with governing(path, unruled()) as governor:
        opt_in(governor, range(customers), progress=lambda done: tell(path, "consents", done))


def tell(path: Path, what: str, customers: int) -> None:
    """A line now and then for whoever waits for a large file."""
    if customers and customers % 100_000 == 0:
        print(f"  {path.stem}: {what} of {customers:,} customers", file=sys.stderr, flush=True)


def eight(site: Site, path: Path) -> None:
    """Customers with eight touches each, all in the windows."""
    customers = min(CALLED, 4 * site.sizes.customers_max)
    fill(path, customers, EIGHT)
    consent(path, customers)


def long(site: Site, path: Path) -> None:
    """Customers with a long ledger, of which eight touches lie in the windows; the others are 40 to 390 days old."""
    customers = min(CALLED_LONG, site.sizes.customers_max)
    older = site.sizes.ledger - len(EIGHT)
    fill(path, customers, [timedelta(days=390) - timedelta(days=350) / older * number for number in range(older)])
    fill(path, customers, EIGHT, first=older)
    consent(path, customers)


def dense(site: Site, path: Path) -> None:
    """Customers with a long ledger that lies in every window."""
    customers, touches = min(CALLED_LONG, site.sizes.customers_max), site.sizes.ledger
    fill(path, customers, [timedelta(minutes=8) * (touches - number) / touches for number in range(touches)])
    consent(path, customers)


def _crowd(site: Site, path: Path, customers: int) -> None:
    """So many customers with a touch each; those who will be called have eight."""
    fill(path, customers, EIGHT[:1])
    fill(path, min(CALLED, site.sizes.customers_max, customers), EIGHT[1:], first=1)
    consent(path, customers)


def crowd(site: Site, path: Path) -> None:
    """All the customers."""
    _crowd(site, path, site.sizes.crowd)


def crowd_tenth(site: Site, path: Path) -> None:
    """A tenth of the customers."""
    _crowd(site, path, site.sizes.crowd // 10)


def crowd_hundredth(site: Site, path: Path) -> None:
    """A hundredth of the customers."""
    _crowd(site, path, site.sizes.crowd // 100)


FILES: Final[dict[str, Callable[[Site, Path], None]]] = {
    "eight": eight,
    "long": long,
    "dense": dense,
    "crowd": crowd,
    "crowd-tenth": crowd_tenth,
    "crowd-hundredth": crowd_hundredth,
}


def prepare(site: Site, name: str) -> None:
    """Fills a file, unless it is there. A file that was left half full has another name, and is made anew."""
    path = site.folder / f"{name}.db"
    if not path.exists():
        unfinished = site.folder / f"{name}.unfinished"
        unfinished.unlink(missing_ok=True)
        FILES[name](site, unfinished)
        assert not unfinished.with_name(f"{unfinished.name}-wal").exists(), "a closed store leaves one file"
        unfinished.rename(path)
